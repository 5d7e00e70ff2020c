"""face-vid2vid's networks and the mapping network as trainables, on drawn faces.

Run: pytest tests/pipeline/test_facevid2vid_training.py
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from models import registry
from models.controls import Controls
from models.facespace import camera
from models.facevid2vid.keypoints import Angles, rotation
from models.interfaces import FaceFit, Motion, Portrait
from models.packs import Pack
from pipeline import pair_training
from pipeline.facevid2vid_training import FaceVid2VidTrainable
from pipeline.features import Features
from pipeline.learner import Learner, Recipe
from pipeline.mapping_training import MappingTrainable
from pipeline.pair_training import RENDERER
from pipeline.previews import draw
from pipeline.train import TrainConfig, read_card, warnings_of, write_pack
from pipeline.trainables import TRAINABLES, Data, Sized, trainable_class
from tests.pipeline.made_features import make_features, write_features

CPU = torch.device("cpu")
DATA = Data("open", 1)
FRAMES = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks are slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def row() -> Features:
    """A row of a second with a drawn face that moves as its landmarks do."""
    whole = make_features(0)
    arrays = {name: array[:FRAMES] for name, array in whole.arrays.items()}
    crops = tuple(jpeg(landmarks) for landmarks in arrays["landmarks"])
    return Features(replace(whole.origin, frames=FRAMES), arrays, crops)


def jpeg(landmarks: np.ndarray) -> bytes:
    """A crop with an oval, eyes and a mouth."""
    picture = Image.new("RGB", (256, 256), (60, 90, 120))
    pen = ImageDraw.Draw(picture)
    for points, colour in ((range(68), (220, 170, 140)), (range(36, 42), "black"), (range(42, 48), "black")):
        pen.ellipse([*landmarks[points].min(0), *landmarks[points].max(0)], fill=colour)
    pen.polygon([tuple(map(float, point)) for point in landmarks[48:60]], fill=(120, 20, 30))
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=90)
    return sink.getvalue()


def batch_of(trainable, row: Features, size: int = 2) -> dict[str, torch.Tensor]:
    samples = list(trainable.samples(row, np.random.default_rng(0)))
    chosen = np.linspace(0, len(samples) - 1, size).astype(int)
    return {name: torch.from_numpy(np.stack([samples[k][name] for k in chosen])) for name in samples[0]}


def renderer_of(**options) -> FaceVid2VidTrainable:
    return FaceVid2VidTrainable(FaceVid2VidTrainable.Options(**options), DATA)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A renderer that has learned nothing yet."""
    folder = tmp_path_factory.mktemp("pack")
    return exported(renderer_of(), folder)


def exported(trainable, folder: Path) -> Pack:
    write_features(str(folder / "features"), rows=3)
    config = TrainConfig(trainable="facevid2vid", features=str(folder / "features"), pack=str(folder / "pack"))
    torch.manual_seed(0)
    networks = trainable.build()
    assert isinstance(trainable, Sized)
    files, card = trainable.export(networks), read_card(config.features)
    write_pack(files, {}, 1, 1, card, config, trainable.sizes())
    return Pack.open(folder / "pack")


def mapping_on(pack: Pack, **options) -> MappingTrainable:
    return MappingTrainable(MappingTrainable.Options(**options), replace(DATA, pack=lambda: pack))


# ---- samples


def test_a_sample_is_two_frames_and_how_the_head_is_turned_in_them(row: Features):
    samples = list(renderer_of(stride=2).samples(row, np.random.default_rng(0)))
    assert len(samples) == FRAMES // 2
    sample = samples[3]
    assert sample["pictures"].shape == (2, 3, 64, 64) and sample["pictures"].dtype == np.uint8
    turned = rotation(Angles(*torch.from_numpy(sample["turns"]).unbind(1)))
    driving = camera.rotation(row["pose"][6, :3])
    np.testing.assert_allclose(turned[1], driving, atol=2e-3)
    assert renderer_of(px=256, stride=8).columns == ("pose", "landmarks", "seen", "crops")
    larger = next(renderer_of(px=256, stride=8).samples(row, np.random.default_rng(0)))
    assert larger["pictures"].shape == (2, 3, 256, 256)


def test_the_square_is_the_one_of_service_and_stands_still(row: Features):
    """As the renderer's framing cuts it around the median face."""
    x0, y0, x1, y1 = pair_training._square_of(row)
    eyes = (row["landmarks"][:, 36:42].mean(1) - row["landmarks"][:, 42:48].mean(1))[:, 0]
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert x1 - x0 >= 3.9 * np.median(np.abs(eyes))
    assert x0 >= 0 and x1 <= 256 and y0 >= 0 and y1 <= 256


def test_guides_are_landmarks_in_the_picture(row: Features):
    """The lips' middle has the lips' colour, wherever the picture was cut."""
    for sample in renderer_of(jitter=0.3, px=256).samples(row, np.random.default_rng(0)):
        for picture, guides in zip(sample["pictures"], sample["guides"]):
            assert guides.shape == (8, 2)
            x, y = ((guides[6:].mean(0) + 1) * 128).astype(int)
            red, green, blue = picture[:, y, x].astype(int)
            assert red > green + 50 and red > blue + 50


def test_guides_can_be_left_out(row: Features):
    losses = {}
    for guide in (True, False):
        trainable = renderer_of(guide=guide, critic=False)
        torch.manual_seed(0)
        networks = trainable.build()
        losses[guide] = trainable.losses("renderer", networks, batch_of(trainable, row), torch.Generator())
    assert losses[True].keys() - losses[False].keys() == {"guide"}
    assert losses[True]["total"] > losses[False]["total"]


def test_sources_are_near_and_far():
    rng = np.random.default_rng(0)
    distances = [abs(pair_training._source_of(100, slice(0, 200), rng) - 100) for _ in range(400)]
    assert 0.4 < np.mean(np.array(distances) <= 15) < 0.65
    assert min(distances) >= 1 and max(distances) > 80
    assert {pair_training._source_of(5, slice(5, 6), rng) for _ in range(9)} == {5}


def test_both_pictures_of_a_pair_lack_the_same(row: Features):
    """A head that stands still stands still in the pair, too."""
    still = replace(row, crops=row.crops[:1] * FRAMES)
    for jitter in (0.0, 0.3):
        pairs = [s["pictures"] for s in renderer_of(jitter=jitter).samples(still, np.random.default_rng(0))]
        assert all((source == driving).all() for source, driving in pairs)
        assert (pairs[0] == pairs[1]).all() == (jitter == 0)


def test_heads_begin_still(row: Features):
    head = renderer_of().build()["head_estimator"](torch.rand(2, 3, 64, 64))
    assert not head.expression.any() and not head.translation.any()


def test_pairs_and_windows_stay_within_a_stretch_that_shows_the_face(row: Features, pack: Pack):
    seen = row["seen"].copy()
    seen[10] = False
    blind = {name: array.copy() for name, array in row.arrays.items()}
    blind |= {"seen": seen}
    for name in ("expression", "pose", "landmarks"):
        blind[name][10] = np.nan
    samples = list(mapping_on(pack, stride=1).samples(replace(row, arrays=blind), np.random.default_rng(0)))
    assert len(samples) == FRAMES - 1
    assert all(sample["windows"].shape == (2, 70, 27) for sample in samples)
    assert all(np.isfinite(sample["windows"]).all() for sample in samples)


def test_windows_count_the_heads_place_from_the_square(row: Features, pack: Pack):
    moved = {**row.arrays, "pose": row["pose"] + np.array([0, 0, 0, 5, -3, 1], np.float32)}
    rng = np.random.default_rng
    here, there = (
        next(mapping_on(pack).samples(replace(row, arrays=arrays), rng(0))) for arrays in (row.arrays, moved)
    )
    np.testing.assert_allclose(here["windows"], there["windows"], atol=1e-5)


def test_labelled_speech_has_no_pictures_and_is_left_out(row: Features):
    assert list(renderer_of().samples(replace(row, crops=()), np.random.default_rng(0))) == []
    assert renderer_of().preview(renderer_of().build(), replace(row, crops=())) is None


# ---- learning


@pytest.mark.parametrize("name", ["facevid2vid", "mapping"])
def test_gradients_reach_what_learns_and_nothing_else(name: str, row: Features, pack: Pack):
    trainable = renderer_of() if name == "facevid2vid" else mapping_on(pack)
    torch.manual_seed(0)
    networks = trainable.build()
    turns = {
        "critic": {"critic"},
        **({"renderer": set(RENDERER)} if name == "facevid2vid" else {"mapping": {"mapping"}}),
    }
    assert list(trainable.turns) == list(turns)
    for turn, learning in turns.items():
        for network in networks.values():
            network.train()
            network.zero_grad()
        assert set(trainable.turns[turn].networks) == learning
        losses = trainable.losses(turn, networks, batch_of(trainable, row), torch.Generator().manual_seed(0))
        losses["total"].backward()
        assert all(torch.isfinite(value) for value in losses.values())
        for each in learning:
            lacking = [key for key, weight in networks[each].named_parameters() if weight.grad is None]
            assert lacking == [], each
        frozen = [each for each in networks if each not in (*learning, "critic")]
        assert all(weight.grad is None for each in frozen for weight in networks[each].parameters())


@pytest.mark.parametrize("name", ["facevid2vid", "mapping"])
def test_a_few_steps_improve_it(name: str, row: Features, pack: Pack):
    trainable = (
        renderer_of(learning_rate=1e-3, critic=False)
        if name == "facevid2vid"
        else mapping_on(pack, learning_rate=3e-3, pictures=False)
    )
    shown = {"facevid2vid": "renderer/reconstruction", "mapping": "mapping/mapped"}[name]
    learner, batch = Learner(trainable, Recipe(steps=8), CPU), batch_of(trainable, row)
    values = [float(learner.learn(batch)[shown]) for _ in range(8)]
    assert np.mean(values[-2:]) < 0.75 * values[0]
    metrics = learner.validate([batch])
    assert trainable.score in metrics and all(np.isfinite(value) for value in metrics.values())


def test_resuming_is_going_on(row: Features, pack: Pack):
    """Frozen networks are in no checkpoint, and are there again."""
    trainable = mapping_on(pack)
    batch, recipe = batch_of(trainable, row), Recipe(steps=4, average=0.9)
    whole, first, second = (Learner(trainable, recipe, CPU) for _ in range(3))
    wanted = [whole.learn(batch) for _ in range(2)][-1]
    first.learn(batch)
    state = first.state()
    assert not any(state["networks"][name] for name in RENDERER)
    assert state["networks"]["mapping"] and state["networks"]["critic"]
    second.resume(state)
    found = second.learn(batch)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)


def test_what_is_frozen_stays_as_it_is(row: Features, pack: Pack):
    trainable = mapping_on(pack)
    learner = Learner(trainable, Recipe(steps=1, average=0.9), CPU)
    before = {name: value.clone() for name, value in learner.networks["generator"].network.state_dict().items()}
    learner.learn(batch_of(trainable, row))
    assert not learner.networks["generator"].network.training
    after = learner.networks["generator"].network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with learner.averaged() as networks:
        assert networks["generator"] is learner.networks["generator"]
    with pytest.raises(ValueError, match="frozen Generator"):
        learner.networks["generator"].load_state_dict(before)


class FewFeatures(nn.Module):
    """In place of VGG-19."""

    def forward(self, x):
        return [x * scale for scale in range(1, 6)]


def test_the_perceptual_loss_takes_the_users_network(row: Features, pack: Pack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pair_training.Vgg19, "load", classmethod(lambda cls, path: FewFeatures()))
    data = replace(DATA, weights=lambda name: Path(f"{name}.pth"), pack=lambda: pack)
    for trainable in (
        FaceVid2VidTrainable(FaceVid2VidTrainable.Options(critic=False), replace(data, pack=lambda: None)),
        MappingTrainable(MappingTrainable.Options(critic=False), data),
    ):
        assert trainable.warnings() == []
        learner = Learner(trainable, Recipe(steps=1), CPU)
        turn = list(trainable.turns)[-1]
        shown = learner.learn(batch_of(trainable, row))
        assert f"{turn}/perceptual" in shown and f"{turn}/reconstruction" not in shown
        assert "perceptual" in learner.validate([batch_of(trainable, row)])
        assert not learner.state()["networks"]["perceptual"]


# ---- what is told


def test_a_missing_perceptual_network_is_told_in_one_line(pack: Pack):
    for trainable in (renderer_of(), mapping_on(pack)):
        (line,) = warnings_of(trainable)
        assert "no perceptual loss" in line and "vgg19-dcbb9e9d.pth" in line and "\n" not in line
    assert mapping_on(pack, pictures=False).warnings() == []


def test_problems_are_told_before_anything_starts(tmp_path: Path, pack: Pack):
    write_features(str(tmp_path / "features"), rows=3)

    def build(trainable: str, data: Data = DATA, **settings) -> None:
        TrainConfig.model_validate({"trainable": trainable, "features": str(tmp_path / "features"), **settings}).build(
            data
        )

    with pytest.raises(Exception, match="no generator_64, keypoints_64, head_estimator in the pack"):
        build("mapping", pack=str(tmp_path / "none"))
    with pytest.raises(Exception, match="no generator_256, keypoints_256 in the pack"):
        build("mapping", pack=pack.where, options={"px": 256})
    with pytest.raises(Exception, match="has generator_64"):
        build("facevid2vid", pack=pack.where, options={"px": 256})
    with pytest.raises(Exception, match="prepare them with crops=true"):
        build("facevid2vid", replace(DATA, crops=False))
    build("mapping", pack=pack.where)
    assert {trainable_class(name) for name in TRAINABLES} >= {FaceVid2VidTrainable, MappingTrainable}


# ---- what is left


def test_previews_hold_frames_against_the_real_ones(row: Features, pack: Pack):
    for trainable in (renderer_of(), mapping_on(pack)):
        networks = {name: network.eval() for name, network in trainable.build().items()}
        preview = trainable.preview(networks, row)
        assert preview is not None and preview.real is not None
        assert isinstance(preview.made, np.ndarray) and preview.made.shape == preview.real.shape == (6, 64, 64, 3)
        assert preview.real.std() > 20
        picture = draw(preview, row)
        assert picture is not None and picture.shape == (512, 6 * 256, 3)


def test_what_was_trained_renders(row: Features, tmp_path: Path):
    """The pack of both trainings, in the open space, at 64 pixels: frames of the asked size."""
    whole = exported(renderer_of(), tmp_path)
    mapping = exported(mapping_on(whole), tmp_path)
    assert mapping.verify() == []
    assert mapping.sizes("mapping_crop") == {"width": 128, "keypoints": 8}
    renderer = registry.RENDERERS["facevid2vid"].build(device="cpu", pack=mapping, controls=Controls())
    assert renderer.space == "open"
    fit = FaceFit(
        space="open",
        landmarks=np.concatenate([row["landmarks"][0], np.zeros((68, 1), np.float32)], 1),
        identity=np.zeros(80, np.float32),
        expression=row["expression"][0],
        pose=row["pose"][0],
        gaze=row["gaze"][0],
        scale_px=80.0,
        origin_px=np.array([128, 120], np.float32),
        residual=0.0,
    )
    portrait = Portrait(row.image(0), (0, 0, 256, 256), np.ones((256, 256), np.float32))
    motion = Motion("open", row["expression"], row["pose"], row["gaze"])
    frames = np.concatenate(list(renderer.frames(renderer.prepare(portrait, fit), motion, 0, 3)))
    assert frames.shape == (3, 256, 256, 3) and frames.dtype == np.uint8
