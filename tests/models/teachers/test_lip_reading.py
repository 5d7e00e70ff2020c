"""Lip readers, and the pictures that they are shown. Run: pytest tests/models/teachers/test_lip_reading.py"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.errors import WeightsError
from models.facespace.open import OpenSpace
from models.teachers.lip_reader import LipReader, sizes_of
from models.teachers.lip_reading import LipReading
from models.teachers.mouth_pictures import BEHIND, DARK, SIDE, MouthPictures
from tests.models.teachers.tiny_lip_readers import TINY, write_lip_readers


@pytest.fixture(scope="module")
def pictures() -> MouthPictures:
    return MouthPictures(OpenSpace.load().mouth())


def moved(name: str, *strengths: float) -> torch.Tensor:
    return torch.tensor(np.stack([strength * OpenSpace.load().direction(name) for strength in strengths]))


# ---- pictures


def test_a_mouth_that_opens_shows_more_dark(pictures: MouthPictures):
    made = pictures(moved("jaw_open", 0.0, 0.2, 0.5, 0.8))
    assert made.shape == (4, SIDE, SIDE) and made.min() >= DARK - 1e-6 and made.max() <= 1
    dark = (made < 0.15).sum((1, 2))
    assert dark[0] < 60 and (dark.diff() > 100).all()


def test_lips_that_are_pressed_hide_the_gap(pictures: MouthPictures):
    """Upper and lower lip have then changed places in the mesh."""
    assert (pictures(moved("jaw_open", -0.3)) < 0.15).sum() == 0


def test_the_mouth_stays_in_the_middle(pictures: MouthPictures):
    rows, columns = torch.nonzero(pictures(moved("jaw_open", 0.6))[0] < 0.15).float().mean(0)
    assert abs(columns - SIDE / 2) < 2 and abs(rows - SIDE / 2) < 6


def test_no_pixel_of_the_face_is_left_out(pictures: MouthPictures):
    made = pictures(torch.zeros(1, 64))[0]
    centre = made[: SIDE * 2 // 3, SIDE // 6 : -SIDE // 6]
    assert not (centre == BEHIND).any()


@pytest.mark.parametrize("name", ("jaw_open", "pucker", "mouth_narrow"))
def test_gradients_are_those_of_the_picture(pictures: MouthPictures, name: str):
    """The slope that flows back is that of the painted picture, measured, so that lips can be led by it."""
    slope = torch.linspace(0, 1, SIDE)[None, :, None] * torch.linspace(1, 0, SIDE)
    strength = torch.tensor(0.4, requires_grad=True)
    direction = moved(name, 1.0)

    def told(s: torch.Tensor) -> torch.Tensor:
        return (pictures(s * direction) * slope).sum()

    (found,) = torch.autograd.grad(told(strength), strength)
    with torch.no_grad():
        measured = (told(strength + 0.02) - told(strength - 0.02)) / 0.04
    assert found.item() == pytest.approx(measured.item(), rel=0.15)


def test_an_opening_is_found_again_from_its_picture(pictures: MouthPictures):
    wanted, direction = pictures(moved("jaw_open", 0.5)), moved("jaw_open", 1.0)
    strength = torch.tensor(0.2, requires_grad=True)
    optimiser = torch.optim.Adam([strength], 0.03)
    for _ in range(40):
        optimiser.zero_grad()
        F.mse_loss(pictures(strength * direction), wanted).backward()
        optimiser.step()
    assert strength.item() == pytest.approx(0.5, abs=0.02)


# ---- readers


def test_sizes_are_those_of_the_published_files():
    """Weights and buffers, four bytes each, fill what their authors say the files have: 201 and 173 MB."""
    for sense, megabytes in (("video", 201), ("audio", 173)):
        with torch.device("meta"):
            state = LipReader(sense).state_dict()
        assert sum(tensor.numel() for tensor in state.values()) * 4 / 2**20 == pytest.approx(megabytes, abs=0.6)
        assert sizes_of(state) == {"channels": (64, 128, 256, 512), "words": 500, "reduced": 512, "growth": 384}


def test_names_are_those_of_the_published_files():
    with torch.device("meta"):
        names = set(LipReader("video").state_dict())
    assert {
        "frontend3D.0.weight",
        "frontend3D.1.running_mean",
        "trunk.layer1.0.conv1.weight",
        "trunk.layer4.0.downsample.1.bias",
        "tcn.tcn_trunk.features.transition0.prelu.weight",
        "tcn.tcn_trunk.features.denseblock4.denselayer3.cbcr0_se_2.fc.2.weight",
        "tcn.tcn_trunk.features.denseblock1.denselayer2.cbcr1_0.net.0.bias",
        "tcn.tcn_trunk.features.denseblock2.denselayer1.downsample.weight",
        "tcn.tcn_trunk.features.transition3.norm.running_var",
        "tcn.tcn_trunk.features.norm5.weight",
        "tcn.tcn_output.bias",
    } <= names


@pytest.mark.parametrize("sense", ("video", "audio"))
def test_one_answer_per_clip_of_any_length(sense: str):
    reader = LipReader(sense, **TINY).eval()
    for frames in (1, 5, 29):
        given = torch.rand(2, frames, SIDE, SIDE) if sense == "video" else torch.randn(2, 640 * frames)
        assert reader(given).shape == (2, TINY["words"])


def test_sound_is_heard_at_any_level():
    reader, samples = LipReader("audio", **TINY).eval(), torch.randn(1, 3200)
    assert torch.allclose(reader(samples), reader(1000 * samples + 3), atol=1e-4)
    assert torch.isfinite(reader(torch.zeros(1, 3200))).all()


def test_files_are_told_apart(tmp_path: Path):
    video, audio = write_lip_readers(tmp_path)
    assert not any(weight.requires_grad for weight in LipReader.load(video, "video").parameters())
    with pytest.raises(WeightsError, match="not the lip reader for video"):
        LipReader.load(audio, "video")
    state = LipReader("video", **TINY).state_dict()
    first = "tcn.tcn_trunk.features.transition0.conv.weight"
    bounded = {**state, first: torch.zeros(len(state[first]), state[first].shape[1] + 1, 1)}
    torch.save({"model_state_dict": bounded}, tmp_path / "bounded.pth")
    with pytest.raises(WeightsError, match="without 'boundary'"):
        LipReader.load(tmp_path / "bounded.pth", "video")
    torch.save({"model_state_dict": {"frontend3D.0.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not a lip reader with a DC-TCN"):
        LipReader.load(tmp_path / "other.pth", "video")


def test_lips_are_led_and_readers_are_not(pictures: MouthPictures, tmp_path: Path):
    video, audio = write_lip_readers(tmp_path)
    reading = LipReading(pictures, LipReader.load(video, "video"), LipReader.load(audio, "audio"))
    expression = torch.zeros(2, 5, 64, requires_grad=True)
    read, heard = reading(expression, torch.randn(2, 3200))
    assert read.shape == heard.shape == (2, TINY["words"]) and not heard.requires_grad
    read.square().sum().backward()
    assert expression.grad is not None and (expression.grad.abs().amax(2) > 0).all()
