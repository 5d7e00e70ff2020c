"""The articulator as a trainable, on made-up features. Run: pytest tests/pipeline/test_articulator_training.py"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.articulator.lip_basis import UNIT, LipBasis
from models.articulator.motion import ArticulatorMotion
from models.articulator.network import Articulator
from models.interfaces import Motion
from models.teachers.visemes import LABELLED
from pipeline.articulator_training import LEAST_FRAMES, SAMPLE_FRAMES, ArticulatorTrainable, in_another_voice
from pipeline.features import Features
from pipeline.trainables import Data
from tests.pipeline.made_features import make_features


@pytest.fixture(scope="module")
def trainable() -> ArticulatorTrainable:
    return ArticulatorTrainable(ArticulatorTrainable.Options(width=16), Data("open", 2))


def samples_of(trainable: ArticulatorTrainable, row: Features) -> list[dict[str, np.ndarray]]:
    return list(trainable.samples(row, np.random.default_rng(0)))


def of(row: Features, **origin: str) -> Features:
    return Features(replace(row.origin, **origin), row.arrays)


def test_a_row_is_heard_in_other_voices_with_the_same_lips(trainable):
    own, *others = samples_of(trainable, make_features(0))
    assert own["heard"].shape == (SAMPLE_FRAMES, 156) and own["lips"].shape == (SAMPLE_FRAMES, 16)
    assert len(others) == trainable.Options().voices
    for other in others:
        assert np.array_equal(own["lips"], other["lips"]) and not np.allclose(own["heard"], other["heard"])
    assert len(samples_of(trainable, of(make_features(0), split="validation"))) == 1


def test_another_voice_has_its_resonances_elsewhere():
    windows = np.full((3, 80, 16), -4.0)
    windows[:, 40] = 4.0
    places = [in_another_voice(windows, np.random.default_rng(seed))[0, :, 0].argmax() for seed in range(40)]
    assert 34 <= min(places) < 38 and 42 < max(places) <= 48


def test_lips_that_only_move_too_little_are_not_unlike(trainable):
    class Timid(torch.nn.Module):
        def forward(self, heard):
            return 0.3 * batch["lips"]

    batch = {k: torch.from_numpy(v)[None] for k, v in samples_of(trainable, make_features(0))[0].items()}
    network = torch.nn.Module()
    network.members = torch.nn.ModuleList([Timid()])
    losses = trainable.losses("articulator", {"articulator": network}, batch, torch.Generator())
    assert float(losses["unlike"]) < 1e-4 < 0.1 < float(losses["place"])


def test_lips_are_about_their_mean_in_units(trainable):
    row = make_features(0)
    wanted = LipBasis.load().coordinates(row["expression"])
    found = samples_of(trainable, row)[0]
    there = int((found["weight"] > 0).sum())
    np.testing.assert_allclose(found["lips"][:there] * UNIT, (wanted - wanted.mean(0))[:there], atol=1e-5)
    assert not found["lips"][there:].any()


def test_labelled_speech_weighs_less_and_is_never_judged_by(trainable):
    row = make_features(0)
    (first, *_) = samples_of(trainable, of(row, speaker=LABELLED + "voice"))
    assert first["weight"].max() == pytest.approx(trainable.Options().labelled)
    assert not samples_of(trainable, of(row, speaker=LABELLED + "voice", split="validation"))
    assert samples_of(trainable, of(row, split="validation"))


def test_gaps_and_short_runs_are_left_out(trainable):
    row = make_features(0)
    seen = np.zeros(len(row), bool)
    seen[: LEAST_FRAMES - 1] = True
    assert not samples_of(trainable, Features(row.origin, {**row.arrays, "seen": seen}))


def test_perfect_lips_miss_nothing(trainable):
    class Known(torch.nn.Module):
        def forward(self, heard):
            return batch["lips"]

    batch = {k: torch.from_numpy(v)[None] for k, v in samples_of(trainable, make_features(0))[0].items()}
    scores = trainable.metrics({"articulator": Known()}, batch, torch.Generator())
    assert abs(float(scores["missed"])) < 1e-4 and float(scores["opening"]) > 0.999


def test_preview_and_export(trainable, tmp_path):
    networks = trainable.build()
    preview = trainable.preview({name: network.eval() for name, network in networks.items()}, make_features(0))
    assert isinstance(preview.made, Motion) and np.isfinite(preview.made.expression).all()
    ((name, tensors),) = trainable.export(networks).items()
    save_file(tensors, tmp_path / f"{name}.safetensors")
    loaded = Articulator.load(tmp_path / "articulator.safetensors")
    assert len(loaded.members) == 2 and not loaded.training
    assert ArticulatorMotion.load(tmp_path / "articulator.safetensors").space == "open"


def test_other_spaces_are_refused():
    with pytest.raises(ValueError, match="open one"):
        ArticulatorTrainable(ArticulatorTrainable.Options(), Data("bfm", 2))
