"""ExpNet and PoseVAE as trainables, on made-up features. Run: pytest tests/pipeline/test_sadtalker_training.py"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.facespace.open import OpenSpace
from models.interfaces import Motion
from pipeline.learner import Learner, Recipe
from pipeline.sadtalker_training import ExpNetTrainable, PoseVAETrainable, closure_of
from pipeline.trainables import Data, trainable_class
from tests.pipeline.made_features import make_features

DATA = Data("open", 2)
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


def test_expnet_learns_lips_and_lids_and_keeps_the_rest(expnet):
    space = OpenSpace.load()
    batch = batch_of(expnet, (0,), 4)
    brow = next(space.direction(name) for name in space.direction_names if name.startswith("brow"))
    batch["expression"] = batch["expression"] + torch.from_numpy(brow.astype(np.float32))
    networks = {name: net.eval() for name, net in expnet.build().items()}
    made, teacher, _, ratio = expnet._made(networks, batch)
    assert made.shape == teacher.shape == (4, 5, 64) and ratio.shape == (4, 5)
    moved = (teacher - batch["reference"][:, None]) @ torch.from_numpy(brow.astype(np.float32))
    asked = (batch["expression"] - batch["reference"][:, None]) @ torch.from_numpy(brow.astype(np.float32))
    assert moved.abs().mean() < 0.5 * asked.abs().mean()
    jaw = torch.from_numpy(space.direction("jaw_open").astype(np.float32))
    kept = (teacher - batch["reference"][:, None]) @ jaw
    real = (batch["expression"] - torch.from_numpy(brow.astype(np.float32)) - batch["reference"][:, None]) @ jaw
    assert (kept - real).abs().max() < 0.05 * jaw.square().sum()


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
    for trainable, frames in ((expnet, 5), (posevae, 32)):
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


def test_previews_are_motions_of_the_row(expnet, posevae):
    row = make_features(2)
    for trainable in (expnet, posevae):
        preview = trainable.preview({name: net.eval() for name, net in trainable.build().items()}, row)
        assert preview and isinstance(preview.made, Motion)
        assert preview.start + len(preview.made) <= len(row)


def test_another_space_is_refused():
    with pytest.raises(ValueError, match="'bfm'"):
        ExpNetTrainable(ExpNetTrainable.Options(), Data("bfm", 2))
