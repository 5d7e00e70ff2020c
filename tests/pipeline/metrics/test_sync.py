"""Sync measures on made-up and, where there are any, real clips."""

import csv

import numpy as np
import pytest

from models.interfaces import SAMPLES_PER_FRAME
from pipeline.metrics import sync


@pytest.fixture(scope="module")
def pair():
    """A mouth (T, 2) that follows its sound (T, 26) as the shipped probe believes mouths do."""
    rng = np.random.default_rng(3)
    bands = sync.normalise(rng.normal(size=(250, 26)))
    predicted = sync.sound_context(bands) @ sync.Probe.load().weights
    return predicted[:, :2] + 0.05 * rng.normal(size=(250, 2)), bands


def test_mouth_signals_by_hand():
    landmarks = np.zeros((10, 68, 2))
    landmarks[:, 27], landmarks[:, 8] = (0, 0), (0, 100)
    landmarks[:, 48], landmarks[:, 54] = (-20, 70), (20, 70)
    landmarks[:, 62], landmarks[:, 66] = (0, 68), (0, 74)
    landmarks[4] = np.nan
    assert sync.mouth_signals(landmarks) == pytest.approx(np.tile([0.06, 0.4], (10, 1)))
    assert np.isnan(sync.mouth_signals(np.full((10, 68, 2), np.nan))).all()


def test_bands_and_level_of_a_tone():
    t = np.arange(20 * SAMPLES_PER_FRAME + 100) / 16000
    tone = 0.5 * np.sin(2 * np.pi * 1000 * t)
    bands = sync.log_mel(tone)
    assert bands.shape == (20, 26)
    assert (bands[2:-2].argmax(1) == bands[5].argmax()).all()
    assert sync.voice_level(tone) == pytest.approx(np.full(20, np.log(1e-4 + 0.5 / np.sqrt(2))), rel=1e-6)
    assert sync.voice_level(0.5 * np.sin(2 * np.pi * 6000 * t)).max() < -9
    assert sync.log_mel(np.zeros(100)).shape == (0, 26)


def test_shifted_correlation_is_pearson():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    curve = sync.shifted_correlation(a, b, 3)
    for k in range(-3, 4):
        heard, seen = a[max(0, k) : 60 + min(0, k)], b[max(0, -k) : 60 + min(0, -k)]
        expected = np.mean([np.corrcoef(heard[:, c], seen[:, c])[0, 1] for c in range(2)])
        assert curve[k + 3] == pytest.approx(expected)


@pytest.mark.parametrize("late", [-8, -5, 0, 5, 8])
def test_a_shift_is_found(pair, late):
    mouth, bands = pair
    heard = bands[np.clip(np.arange(250) - late, 0, 249)]
    found = sync.Probe.load().sync(mouth, heard)
    assert found.lag == late
    assert found.confidence > 0.3
    assert (found.score > 0.5) == (late == 0)


def test_other_sound_scores_low_and_short_clips_are_undefined(pair):
    mouth, bands = pair
    probe = sync.Probe.load()
    other = sync.normalise(np.random.default_rng(4).normal(size=(250, 26)))
    assert probe.sync(mouth, other).confidence < 0.6 * probe.sync(mouth, bands).confidence
    assert np.isnan(probe.sync(mouth[:40], bands).score)
    assert np.isnan(probe.sync(np.full((100, 2), np.nan), bands).score)
    assert np.isnan(probe.sync(mouth, np.full_like(bands, -16.0)).confidence)
    assert np.isnan(sync.loudness_sync(np.ones((100, 2)), np.random.default_rng(0).normal(size=100)).best)


def test_loudness_lag():
    rng = np.random.default_rng(5)
    level = np.convolve(rng.normal(size=300), np.ones(4) / 4, "same")
    mouth = np.stack([np.roll(level, -3), 0 * level], 1)  # sound 3 frames late
    found = sync.loudness_sync(mouth, level)
    assert found.lag == 3
    assert found.best > 0.95


def test_closure_in_silence():
    level = np.concatenate([np.full(50, -2.0), np.full(25, -9.0), np.full(50, -2.0)])
    opening = np.concatenate([np.tile([0.0, 0.1], 25), np.full(25, 0.02), np.tile([0.0, 0.1], 25)])
    assert sync.silence_closure(opening, level) == pytest.approx(0.2)
    assert sync.silence_closure(np.roll(opening, 25), level) > 0.3
    assert np.isnan(sync.silence_closure(opening, np.full(125, -2.0)))
    level[[20, 21]] = -9.0  # too short to be a pause
    assert sync.find_silence(level).sum() == 25


def test_closure_on_bilabials():
    opening = np.full(100, 0.1)
    opening[[24, 25, 26, 49, 50, 51]] = 0.0
    phones = [(1.0, 1.04, "p"), (2.0, 2.04, "M"), (3.0, 3.04, "b"), (3.4, 3.5, "a")]
    assert sync.bilabial_closure(opening, phones) == pytest.approx(2 / 3)
    chance = sync.closure_by_chance(opening, phones, np.random.default_rng(0))
    assert 0 < chance < 0.4
    assert np.isnan(sync.bilabial_closure(opening, [(1.0, 1.1, "a")]))


def test_real_clips_match_their_own_sound(shared_data):
    """One clip that the probe was not fitted on and one that it was, watched and heard afresh."""
    from pipeline.face import FaceFinder
    from pipeline.hearing import hear
    from pipeline.observation import observe

    with (shared_data / "index.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    names = ["talking/vretalk_2.mp4", "talking/hieu_biden.mp4"]
    finder, probe = FaceFinder(), sync.Probe.load()
    mouths = [sync.mouth_signals(observe(shared_data / name, finder).landmarks) for name in names]
    sounds = [hear(shared_data / name).bands for name in names]
    for k, name in enumerate(names):
        own = probe.sync(mouths[k], sounds[k])
        assert own.confidence > 0.3
        assert abs(own.lag - float(rows[name]["av_lag_frames"])) <= 2
        assert probe.sync(mouths[k], sounds[k - 1]).confidence < own.confidence
