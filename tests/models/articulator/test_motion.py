"""The articulator: lips that seal, rest in silence, keep their spread and their time, however long the clip."""

import numpy as np
import pytest

from models.articulator.hearing import Habit, hear
from models.articulator.lip_basis import COORDINATES, LipBasis
from models.articulator.motion import (
    FADE_FRAMES,
    OPENING_SPREAD,
    STRETCH_FRAMES,
    ArticulatorMotion,
    _fades,
    calibrate,
)
from models.controls import BlinkControls, Controls, ExpressionControls, PoseControls
from models.facespace.open import OpenSpace
from models.lips import opening_direction, width_direction
from models.packs import shipped_pack
from pipeline.audio import mel_windows
from tests.models.voices import Voice, face, vowel

TALK = np.concatenate([np.zeros(16_000), *[np.concatenate([vowel(v, 0.24), np.zeros(640)]) for v in "aiaumaiu"] * 3])
QUIET = Controls(blink=BlinkControls(mode="off"), pose=PoseControls(still=True))
SYSTEM = ArticulatorMotion.load(shipped_pack().path("articulator"))


class Heard(Voice):
    """Speech from memory, with its mel windows."""

    def mel_windows(self, start: int, stop: int) -> np.ndarray:
        return mel_windows(lambda a, b: self._signal[a:b], self.frames * 640, start, stop)


def generate(signal=TALK, controls=QUIET, seed=3):
    return SYSTEM.generate(Heard(signal), face(), controls, seed)


def test_shapes_and_space():
    motion = generate()
    frames = len(TALK) // 640
    assert motion.space == "open" and len(motion) == frames
    assert motion.expression.shape == (frames, 64) and motion.pose.shape == (frames, 6)
    assert all(a.dtype == np.float32 for a in (motion.expression, motion.pose, motion.gaze))


@pytest.mark.parametrize("frames", [1, 2, 20, 21, 22])
def test_short_clips(frames):
    motion = generate(vowel("a", 1.0)[: frames * 640], Controls())
    assert len(motion) == frames
    assert all(np.isfinite(a).all() for a in (motion.expression, motion.pose, motion.gaze))


def test_the_mouth_is_shut_in_silence_and_moves_in_speech():
    opening = generate().expression @ opening_direction()
    assert np.abs(opening[:18]).max() < 0.01  # the first second is silent
    assert opening[25:].std() > 0.015 and opening.max() < 0.35


def test_nothing_but_silence_leaves_the_lips_together():
    opening = generate(np.zeros(64_000)).expression @ opening_direction()
    assert np.abs(opening).max() < 0.01


def test_the_same_seed_repeats_and_another_moves_the_head_otherwise():
    lively = Controls()
    first, again, other = generate(controls=lively), generate(controls=lively), generate(controls=lively, seed=4)
    assert np.array_equal(first.expression, again.expression) and np.array_equal(first.pose, again.pose)
    assert not np.allclose(first.pose, other.pose)


def test_expression_scale():
    still = generate(controls=QUIET.model_copy(update={"expression": ExpressionControls(scale=0)}))
    assert (still.expression @ opening_direction()).std() < 0.003


def test_long_clips_have_no_seams():
    rng = np.random.default_rng(0)
    syllables = [vowel(str(rng.choice(list("aium"))), rng.uniform(0.1, 0.3)) for _ in range(700)]
    signal = np.concatenate([np.concatenate([sound, np.zeros(rng.integers(0, 3000))]) for sound in syllables])
    opening = generate(signal).expression @ opening_direction()
    assert len(opening) > 2 * STRETCH_FRAMES
    step = STRETCH_FRAMES - FADE_FRAMES
    changes = np.abs(np.diff(opening))
    seams = np.concatenate([changes[s : s + FADE_FRAMES] for s in range(step, len(opening) - FADE_FRAMES, step)])
    assert seams.mean() < 1.3 * changes.mean() and seams.max() <= changes.max()


def test_stretches_fade_into_each_other():
    weights = np.zeros(2 * STRETCH_FRAMES - FADE_FRAMES)
    weights[:STRETCH_FRAMES] += _fades(STRETCH_FRAMES, False, True)
    weights[-STRETCH_FRAMES:] += _fades(STRETCH_FRAMES, True, False)
    np.testing.assert_allclose(weights, 1, atol=1e-6)


def timid_lips(frames=400):
    """Lips that open and close a little at random, far from their rest."""
    walk = np.convolve(np.random.default_rng(1).standard_normal(frames), np.ones(4) / 4, "same")
    return 0.2 * np.outer(walk, LipBasis.load().coordinates(OpenSpace.load().direction("jaw_open"))) + 3.0


def test_calibration_gives_timid_lips_the_spread_of_real_ones_and_shuts_them():
    basis = LipBasis.load()
    parted = basis.said(calibrate(timid_lips(), np.ones(400, bool), basis))[:, 0]
    assert 0.5 * OPENING_SPREAD < parted.std() < 1.1 * OPENING_SPREAD
    assert 0.1 < (parted < 1e-6).mean() < 0.3 and parted.min() > -1e-6


def test_lips_are_shut_in_silence_and_take_their_shape_before_they_part():
    basis, speaking = LipBasis.load(), np.zeros(400, bool)
    speaking[100:300] = True
    rounding = np.outer(np.sin(np.arange(400)), basis.saying[1])
    parted, wide = basis.said(calibrate(timid_lips() + 0.02 * rounding, speaking, basis)).T
    assert np.abs(parted[:97]).max() < 1e-6 and np.abs(parted[303:]).max() < 1e-6
    assert np.abs(wide[94:97]).max() > 0.005 and np.abs(wide[:85]).max() < 1e-4


def test_calibration_moves_nothing_but_opening_and_width():
    basis = LipBasis.load()
    lips = timid_lips()
    told = lips - lips.mean(0)
    more = calibrate(lips, np.ones(400, bool), basis) - told
    np.testing.assert_allclose(more, basis.said(more) @ basis.saying, atol=1e-6)


def test_saying_parts_the_lips_or_widens_them():
    basis = LipBasis.load()
    np.testing.assert_allclose(basis.said(basis.saying), np.eye(2), atol=1e-6)
    moved = basis.expression(basis.saying)
    ways = np.stack([opening_direction(), width_direction()], axis=1)
    np.testing.assert_allclose(moved @ ways, np.eye(2), atol=0.02)


def test_lip_basis_keeps_lip_movements():
    space, basis = OpenSpace.load(), LipBasis.load()
    jaw = space.direction("jaw_open")
    kept = basis.expression(basis.coordinates(jaw))
    assert kept.shape == (64,) and basis.movements.shape == (COORDINATES, 64)
    for direction in (opening_direction(), width_direction()):
        assert abs((kept - jaw) @ direction) < 0.02


def test_hearing_does_not_depend_on_level_nor_on_stretches():
    windows = Heard(TALK).mel_windows(0, len(TALK) // 640)
    habit = Habit.of_windows(windows)
    louder = windows + 0.5
    np.testing.assert_allclose(hear(windows, habit), hear(louder, Habit.of_windows(louder)), atol=1e-4)
    streamed = Habit.of_speech(Heard(TALK))
    np.testing.assert_allclose(streamed.mean, habit.mean, atol=1e-9)
    np.testing.assert_allclose(streamed.spread, habit.spread, atol=1e-6)
