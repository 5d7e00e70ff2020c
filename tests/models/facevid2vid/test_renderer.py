"""The renderer behind the protocol: sizes, windows, pasting, refusals; on small random networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.facespace.deep3d import from_deep3d
from models.facevid2vid.inference import Animator, Precision, choose_precision
from models.facevid2vid.renderer import FaceVid2VidRenderer
from models.interfaces import FaceFit, Motion, Portrait, Renderer
from models.sadtalker.windows import RADIUS
from tests.models.facevid2vid.networks import small_detector, small_generator, small_mapping

FULL = Precision(torch.float32, "float32: as the test wants it")


def animator(coefficients: int = 70, batch: int = 3) -> Animator:
    return Animator(small_generator(), small_detector(), small_mapping(coefficients), precision=FULL, batch=batch)


@pytest.fixture(scope="module")
def renderer() -> FaceVid2VidRenderer:
    return FaceVid2VidRenderer(animator())


def face(centre: tuple[float, float], eyes_px: float, space: str = "open") -> FaceFit:
    """68 landmarks on an upright ellipse, twice as high as the eyes are apart."""
    x, y = centre
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    landmarks = np.stack([x + np.cos(angle) * eyes_px * 0.8, y + np.sin(angle) * eyes_px, 0 * angle], 1)
    landmarks[36, :2], landmarks[45, :2] = (x - eyes_px / 2, y), (x + eyes_px / 2, y)
    generator = np.random.default_rng(1)
    return FaceFit(
        space=space,
        landmarks=landmarks.astype(np.float32),
        identity=np.zeros(80, np.float32),
        expression=generator.normal(size=64).astype(np.float32) * 0.3,
        pose=generator.normal(size=6).astype(np.float32) * 0.1,
        gaze=np.zeros(2, np.float32),
        scale_px=eyes_px,
        origin_px=np.array(centre, np.float32),
        residual=0.0,
    )


def portrait(width: int, height: int, view: tuple[int, int, int, int] | None = None) -> Portrait:
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], 2).astype(np.uint8)
    return Portrait(image, view or (0, 0, width, height), np.ones((height, width), np.float32))


def motion(frames: int, seed: int = 0, space: str = "open") -> Motion:
    generator = np.random.default_rng(seed)

    def draw(columns: int, size: float) -> np.ndarray:
        return (generator.normal(size=(frames, columns)) * size).astype(np.float32)

    return Motion(space, draw(64, 1.0), draw(6, 0.2), draw(2, 0.1))


def render(renderer: FaceVid2VidRenderer, prepared, clip: Motion, start: int, stop: int) -> np.ndarray:
    return np.concatenate(list(renderer.frames(prepared, clip, start, stop)))


def test_frames_of_a_square_view(renderer: FaceVid2VidRenderer):
    protocol: Renderer = renderer
    prepared = protocol.prepare(portrait(300, 280, (20, 10, 256, 256)), face((150, 130), 60))
    batches = list(protocol.frames(prepared, motion(7), 0, 7))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    frames = np.concatenate(batches)
    assert frames.dtype == np.uint8
    assert frames.shape == (7, 256, 256, 3)
    assert prepared.square == (0, 0, 256)
    assert len(np.unique(frames.reshape(7, -1), axis=0)) > 4  # it moves


def test_windows_come_from_the_whole_motion(renderer: FaceVid2VidRenderer):
    prepared, clip = renderer.prepare(portrait(256, 256), face((128, 128), 60)), motion(40)
    expected = render(renderer, prepared, clip, 16, 19)
    again = [render(renderer, prepared, clip, a, b) for a, b in ((16, 17), (17, 19))]
    assert np.abs(np.concatenate(again).astype(int) - expected).max() <= 1  # of rounding
    alone = clip[17 - RADIUS : 17 + RADIUS + 1]
    assert np.abs(render(renderer, prepared, alone, RADIUS, RADIUS + 1).astype(int) - expected[1]).max() <= 1
    without_neighbours = render(renderer, prepared, clip[17:18], 0, 1)
    assert np.abs(without_neighbours.astype(int) - expected[1]).max() > 1


def test_one_frame_is_a_clip(renderer: FaceVid2VidRenderer):
    prepared = renderer.prepare(portrait(256, 256), face((128, 128), 60))
    assert render(renderer, prepared, motion(1), 0, 1).shape == (1, 256, 256, 3)


@pytest.mark.parametrize(("size", "expected"), [((640, 360), 160), ((200, 512), 200), ((900, 1000), 160)])
def test_around_the_square_the_picture_stands_still(
    renderer: FaceVid2VidRenderer, size: tuple[int, int], expected: int
):
    shown = portrait(*size)
    prepared = renderer.prepare(shown, face((size[0] * 0.6, size[1] * 0.4), 40))
    frames = render(renderer, prepared, motion(2), 0, 2)
    assert frames.shape == (2, size[1], size[0], 3)
    left, top, side = prepared.square
    assert side == expected
    assert 0 <= left <= size[0] - side
    assert 0 <= top <= size[1] - side
    outside = np.ones(size[::-1], bool)
    outside[top : top + side, left : left + side] = False
    assert (frames[:, outside] == shown.image[outside]).all()
    assert (frames[0] != shown.image).any()
    # no step where the square ends inside the view
    edge = np.abs(
        frames[0, top + 20 : top + side - 20, left].astype(int) - shown.image[top + 20 : top + side - 20, left]
    )
    assert left == 0 or edge.max() <= 40


def test_512_pixels():
    prepared = FaceVid2VidRenderer(animator(batch=1), side=512).prepare(portrait(512, 512), face((256, 256), 128))
    assert prepared.source.look.volume.shape[-2:] == (128, 128)


def test_official_weights_get_deep3d_poses():
    own = FaceVid2VidRenderer(animator(), space="bfm")
    official = FaceVid2VidRenderer(animator(), space="bfm", official=True)
    clip, shown, source = motion(3, space="bfm"), portrait(256, 256), face((128, 128), 60, "bfm")
    translated = replace(clip, pose=from_deep3d(clip.pose))
    plain = render(own, own.prepare(shown, source), clip, 0, 3)
    converted = official.prepare(shown, replace(source, pose=from_deep3d(source.pose)))
    assert np.abs(render(official, converted, translated, 0, 3).astype(int) - plain).max() <= 1


def test_alignment_is_part_of_every_frame():
    renderer = FaceVid2VidRenderer(animator(73))
    prepared = renderer.prepare(portrait(256, 256), face((128, 128), 60))
    assert prepared.alignment.shape == (3,)
    assert render(renderer, prepared, motion(2), 0, 2).shape == (2, 256, 256, 3)


def test_what_is_refused(renderer: FaceVid2VidRenderer, tmp_path: Path):
    with pytest.raises(ValueError, match="64, 256, 512"):
        FaceVid2VidRenderer(animator(), side=300)
    with pytest.raises(ValueError, match="bfm"):
        FaceVid2VidRenderer(animator(), space="open", official=True)
    with pytest.raises(ValueError, match="70 or 73"):
        FaceVid2VidRenderer(animator(71))
    with pytest.raises(ValueError, match="'bfm'"):
        renderer.prepare(portrait(256, 256), face((128, 128), 60, "bfm"))
    with pytest.raises(FileNotFoundError, match="mapping_00229"):
        FaceVid2VidRenderer.load(tmp_path)


def test_precision_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    for ability, dtype, word in (
        ({"amx_bf16": True, "cpu_name": "Xeon"}, torch.bfloat16, "Xeon has AMX"),
        ({"avx512_bf16": True}, torch.bfloat16, "AVX512-BF16"),
        ({}, torch.float32, "neither"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda ability=ability: ability)
        precision = choose_precision("cpu")
        assert precision.dtype == dtype
        assert word in precision.reason
