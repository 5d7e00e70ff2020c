"""ExpNet and PoseVAE as trainables, on made-up features. Run: pytest tests/pipeline/test_sadtalker_training.py"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.articulator.lip_basis import LipBasis
from models.facespace.face_model import read_face_model
from models.facespace.open import OpenSpace
from models.interfaces import FPS, Motion
from models.lips import opening_direction
from models.sadtalker import losses
from models.teachers.visemes import LABELLED
from pipeline.expnet_training import ExpNetTrainable, closure_of
from pipeline.learner import Learner, Recipe
from pipeline.posevae_training import FADED, MOMENTS_APART, PoseVAETrainable
from pipeline.trainables import Data, trainable_class
from tests.models.facespace.face_model_files import write_ready
from tests.models.teachers.tiny_lip_readers import write_lip_readers
from tests.pipeline.made_features import make_features

DATA = Data("open", 2)


def unit(direction: np.ndarray) -> np.ndarray:
    return (direction / np.linalg.norm(direction)).astype(np.float32)


CPU = torch.device("cpu")


def batch_of(trainable, rows, size):
    rng = np.random.default_rng(0)
    samples = [sample for row in rows for sample in trainable.samples(make_features(row), rng)]
    chosen = rng.choice(len(samples), size, replace=False)
    return {name: torch.from_numpy(np.stack([samples[k][name] for k in chosen])) for name in samples[0]}


@pytest.fixture(scope="module")
def expnet():
    return ExpNetTrainable(ExpNetTrainable.Options(learning_rate=2e-3), DATA)


@pytest.fixture(scope="module")
def posevae():
    return PoseVAETrainable(PoseVAETrainable.Options(learning_rate=1e-3), DATA)


@pytest.mark.parametrize("name", ("articulator", "expnet", "posevae"))
def test_a_few_steps_improve_it(name):
    kind = trainable_class(name)
    trainable = kind(kind.Options(learning_rate=1e-3), DATA)
    turn = list(trainable.turns)[-1]
    learner = Learner(trainable, Recipe(steps=20), CPU)
    batch = batch_of(trainable, (0, 1), 4)
    totals = [float(learner.learn(batch)[f"{turn}/total"]) for _ in range(20)]
    assert np.mean(totals[-3:]) < 0.95 * np.mean(totals[:3])
    metrics = learner.validate([batch])
    assert trainable.score in metrics and all(np.isfinite(value) for value in metrics.values())


def changes_of(trainable, row):
    """What is learned of a row beside its references, shape (samples, frames, 64)."""
    return np.stack([sample["change"] for sample in trainable.samples(row, np.random.default_rng(0))])


def test_expnet_learns_lips_and_lids_and_keeps_the_rest(expnet):
    space, row = OpenSpace.load(), make_features(2)
    brow, jaw, blink = (unit(space.direction(name)) for name in ("brow_inner_L", "jaw_open", "blink_L"))
    wave = np.sin(np.arange(len(row)) / 5)[:, None]

    def told(direction):
        moved = {**row.arrays, "expression": row["expression"] + 0.3 * wave * direction}
        more = changes_of(expnet, type(row)(row.origin, moved, ())) - changes_of(expnet, row)
        return (more @ direction).std() / 0.3

    assert told(brow) < 0.1 < 0.5 < min(told(jaw), told(blink))
    everything = ExpNetTrainable(ExpNetTrainable.Options(teacher="all"), DATA)
    more = changes_of(everything, make_features(2)) - changes_of(expnet, make_features(2))
    assert np.abs(more).max() > 0


def test_only_lips_are_compared_with_lips(expnet):
    """What parts them besides, as the cheeks may, is not closed in silence, and must not be learned."""
    batch, basis = batch_of(expnet, (0,), 4), LipBasis.load()
    teacher = batch["reference"][:, None] + batch["change"]
    aside = torch.randn(teacher.shape, generator=torch.Generator().manual_seed(0)).numpy()
    aside = torch.from_numpy(aside - basis.expression(basis.coordinates(aside))).float()
    assert torch.allclose(expnet._alike(batch, teacher + aside, teacher), torch.ones(4, 2), atol=1e-3)


def test_lips_are_told_about_their_mean(expnet):
    opening = changes_of(expnet, make_features(2)) @ opening_direction()
    assert abs(opening.mean()) < 0.05 * opening.std()


def test_untrained_expnet_keeps_the_reference(expnet):
    batch = batch_of(expnet, (0,), 4)
    networks = {name: net.eval() for name, net in expnet.build().items()}
    told = expnet._made(networks, batch, batch["mel"].float())
    assert told.made.shape == told.teacher.shape == (4, FPS, 64) and told.ratio.shape == (4, FPS)
    assert torch.allclose(told.made, batch["reference"][:, None].expand_as(told.made), atol=1e-5)


def test_labelled_speech_is_learned_from_but_not_judged_by(expnet, posevae):
    row = make_features(0)

    def spoken(split):
        return type(row)(replace(row.origin, speaker=f"{LABELLED}en", split=split), row.arrays, ())

    def count(trainable, split):
        return len(list(trainable.samples(spoken(split), np.random.default_rng(0))))

    assert count(expnet, "train") > 0 == count(expnet, "validation") == count(posevae, "train")


def test_a_portrait_is_any_moment_of_its_person(posevae):
    """Chunks are told from poses all over the row, as they are generated from one portrait all over a clip."""
    row = make_features(0)
    samples = list(posevae.samples(row, np.random.default_rng(0)))
    starts = {tuple(sample["start"]) for sample in samples}
    assert len(starts) > 3
    poses = {tuple(pose) for pose in row["pose"]}
    assert starts <= poses
    assert all(sample["change"].shape == (32, 6) for sample in samples)


def test_blinks_become_closure():
    ratio = np.full(100, 0.8, np.float32)
    ratio[40:45] = [0.5, 0.2, 0.1, 0.3, 0.6]
    ratio[70] = np.nan
    closure = closure_of(ratio)
    assert closure[0] == 0 and closure[42] == 1 and 0.3 < closure[40] < 0.8 and closure[70] == 0


def test_samples_avoid_gaps(expnet, posevae):
    row = make_features(0)
    seen = row["seen"].copy()
    seen[50] = False
    broken = type(row)(row.origin, {**row.arrays, "seen": seen}, ())
    for trainable, frames in ((expnet, FPS), (posevae, 32)):
        whole = len(list(trainable.samples(row, np.random.default_rng(0))))
        less = list(trainable.samples(broken, np.random.default_rng(0)))
        assert 0 < len(less) < whole
        assert all(len(sample["mel"]) == frames for sample in less)


def test_what_is_exported_is_what_the_motion_system_loads(expnet, posevae, tmp_path: Path):
    from models.sadtalker.motion import SadTalkerMotion

    for trainable in (expnet, posevae):
        networks = {name: net.eval() for name, net in trainable.build().items()}
        for name, tensors in trainable.export(networks).items():
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / f"{name}.safetensors")
    assert SadTalkerMotion.load(tmp_path).styles == 2


def test_exported_heads_move_as_much_as_people_s(posevae):
    networks = posevae.build()
    network = networks["posevae"].eval()
    network.load_state_dict({name: tensor.float() for name, tensor in posevae.export(networks)["posevae"].items()})
    nothing = torch.zeros(400, 32, network.decoder.linear_audio.in_features)
    heard, styles = network.decoder.linear_audio(nothing), torch.arange(400) % 2
    with torch.no_grad():
        change = network.decoder(torch.zeros(400, 6), torch.randn(400, network.latent), heard, styles).flatten(0, 1)
    assert np.allclose(change.std(0) / (FADED * MOMENTS_APART), 1, atol=0.2)
    assert (change.mean(0).abs() < 0.2 * change.std(0)).all()


def test_posevae_listens_through_a_trained_expnet(expnet, tmp_path: Path):
    state = expnet.export(expnet.build())["expnet"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "expnet.safetensors")
    options = PoseVAETrainable.Options(expnet=str(tmp_path / "expnet.safetensors"), learning_rate=1e-3)
    trainable = PoseVAETrainable(options, DATA)
    batch = batch_of(trainable, (0, 1), 8)
    assert "mel" not in batch and batch["embedded"].shape[:2] == (8, 32)
    learner = Learner(trainable, Recipe(steps=3), CPU)
    learner.learn(batch)
    exported = trainable.export(learner.networks)["posevae"]
    ears = {name: tensor for name, tensor in exported.items() if name.startswith("audio_encoder.")}
    assert ears and all(
        torch.equal(tensor, state[name.removeprefix("audio_encoder.")])
        for name, tensor in ears.items()
        if tensor.is_floating_point()
    )
    assert trainable.preview({name: net.eval() for name, net in learner.networks.items()}, make_features(2))


def test_previews_are_motions_of_the_row(expnet, posevae):
    row = make_features(2)
    for trainable in (expnet, posevae):
        preview = trainable.preview({name: net.eval() for name, net in trainable.build().items()}, row)
        assert preview and isinstance(preview.made, Motion)
        assert preview.start + len(preview.made) <= len(row)


def test_the_space_bfm_needs_the_face_model():
    with pytest.raises(ValueError, match="the face model is needed: put face_model"):
        ExpNetTrainable(ExpNetTrainable.Options(), Data("bfm", 2))


def test_expnet_learns_in_the_space_bfm(tmp_path: Path):
    write_ready(tmp_path)
    model = read_face_model(tmp_path)
    small = replace(model, identity=model.identity / 50, expression=model.expression / 50)
    small.save(tmp_path / "face_model.safetensors")
    data = Data("bfm", 2, weights=lambda name: tmp_path / f"{name}.safetensors" if name == "face_model" else None)
    trainable = ExpNetTrainable(ExpNetTrainable.Options(learning_rate=1e-3), data)
    row = make_features(0)
    assert np.allclose(changes_of(trainable, row).reshape(-1, 64).std(0), row["expression"].std(0), rtol=0.6)
    batch, learner = batch_of(trainable, (0, 1), 4), Learner(trainable, Recipe(steps=20), CPU)
    totals = [float(learner.learn(batch)["expnet/total"]) for _ in range(20)]
    assert np.mean(totals[-3:]) < 0.95 * np.mean(totals[:3])
    assert all(np.isfinite(value) for value in learner.validate([batch]).values())


# ---- lip reading


@pytest.fixture(scope="module")
def reading(tmp_path_factory) -> ExpNetTrainable:
    """ExpNet with the lip-reading loss and no other wish to move lips."""
    video, audio = write_lip_readers(tmp_path_factory.mktemp("readers"))
    found = {"lipreading_video": video, "lipreading_audio": audio}
    return ExpNetTrainable(ExpNetTrainable.Options(read=5.0, noise=0), Data("open", 2, weights=found.get))


def test_lip_reading_is_learned_from_where_its_networks_are_there(expnet, reading):
    assert reading.warnings() == [] and "sound" in reading.columns and "sound" not in expnet.columns
    batch = batch_of(reading, (0, 1), 4)
    assert batch["sound"].shape == (4, FPS * 640) and batch["sound"].dtype == torch.int16
    learner = Learner(reading, Recipe(steps=2), CPU)
    shown = learner.learn(batch)
    assert shown["expnet/read"] > 0 and "read" in learner.validate([batch])
    assert not any(name.startswith("lip_reading") for name in reading.export(learner.networks))
    assert learner.state()["networks"]["lip_reading"] == {}, "checkpoints don't carry the user's networks"


def test_the_lip_reader_moves_lips(reading):
    """Its loss alone changes what ExpNet is told to do."""
    batch = batch_of(reading, (0,), 4)
    networks = reading.build()
    made = reading._made(networks, batch, batch["mel"].float()).made.detach().requires_grad_()
    logits = reading._read(networks, batch, made, torch.Generator().manual_seed(0))
    losses.read_loss(*logits).backward()
    moved = made.grad.abs().amax((0, 2)) > 0
    assert moved.sum() == losses.READ_FRAMES and moved.nonzero().diff(dim=0).eq(1).all()


def test_what_lip_reading_lacks_is_told(expnet, tmp_path: Path):
    (told,) = expnet.warnings()
    assert "no lip-reading loss" in told and "lrw_resnet18_dctcn_video.pth.tar" in told and "audio" in told
    video, _ = write_lip_readers(tmp_path)
    one = ExpNetTrainable(ExpNetTrainable.Options(), Data("open", 2, weights={"lipreading_video": video}.get))
    assert "dctcn_audio" in one.warnings()[0] and "dctcn_video" not in one.warnings()[0]
    both = {"lipreading_video": video, "lipreading_audio": video}
    wrong = ExpNetTrainable(ExpNetTrainable.Options(), Data("open", 2, weights=both.get))
    with pytest.raises(ValueError, match="not the lip reader for audio"):
        wrong.warnings()
