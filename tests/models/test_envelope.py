"""The envelope motion: lips follow the voice, the rest of the face lives, and every control does what it says."""

import resource

import numpy as np
import pytest

from models.controls import BlinkControls, Controls, ExpressionControls, GazeControls, PoseControls
from models.envelope import EnvelopeMotion
from models.facespace import camera
from models.facespace.open import OpenSpace
from models.idle import BLINK, NECK
from tests.models.voices import Voice, face, vowel

SPACE = OpenSpace.load()
TALK = np.concatenate([np.zeros(16_000), *[np.concatenate([vowel(v, 0.24), np.zeros(1920)]) for v in "aiaumaiu"] * 3])
QUIET = Controls(blink=BlinkControls(mode="off"), pose=PoseControls(still=True))


def generate(signal=TALK, source=None, controls=QUIET, seed=3):
    return EnvelopeMotion().generate(Voice(signal), source or face(), controls, seed)


def lip_gap(motion):
    points = SPACE.vertices(np.zeros(80), motion.expression)
    return points[:, 14, 1] - points[:, 13, 1]


def lid_gap(motion):
    """Opening of the right and left eye, shape (T, 2)."""
    points = SPACE.vertices(np.zeros(80), motion.expression)
    return points[:, (145, 374), 1] - points[:, (159, 386), 1]


def test_shapes_and_space():
    motion = generate()
    frames = len(TALK) // 640
    assert motion.space == "open" and len(motion) == frames
    assert motion.expression.shape == (frames, 64) and motion.pose.shape == (frames, 6)
    assert motion.gaze.shape == (frames, 2)
    assert all(a.dtype == np.float32 for a in (motion.expression, motion.pose, motion.gaze))


@pytest.mark.parametrize("frames", [1, 2, 20])
def test_short_clips(frames):
    motion = generate(vowel("a", 1.0)[: frames * 640], controls=Controls())
    assert len(motion) == frames and np.isfinite(motion.expression).all() and np.isfinite(motion.pose).all()


def test_lips_move_with_the_voice_and_rest_without():
    gap = lip_gap(generate())
    assert np.abs(gap[:20]).max() < 0.01  # the first second is silent
    assert 0.1 < gap.max() < 0.3 and gap[25:].std() > 0.03
    assert (gap > -0.02).all()


def test_lips_are_neither_early_nor_late():
    signal = np.zeros(96_000)
    for start in range(9600, 96_000, 19_200):
        signal[start : start + 6400] = vowel("a", 0.4)
    gap = lip_gap(generate(signal))
    loud = np.abs(signal).reshape(-1, 640).mean(1)
    lags = [np.corrcoef(np.roll(gap, -lag), loud)[0, 1] for lag in range(-3, 4)]
    assert abs(int(np.argmax(lags)) - 3) <= 1
    shut = np.flatnonzero(loud == 0)
    after = [k for k in shut if k >= 5 and loud[k - 5 : k].max() == 0 and loud[min(k + 3, len(loud) - 1)] == 0]
    assert np.abs(gap[after]).max() < 0.02  # 200 ms after the voice has ended


@pytest.mark.parametrize("name", ["jaw_open", "lips_part", "upper_raise"])
def test_an_open_mouth_in_the_photo_is_closed_first(name):
    source = face(0.9 * SPACE.direction(name))
    before = SPACE.vertices(np.zeros(80), source.expression)
    assert before[14, 1] - before[13, 1] > 0.03
    assert np.abs(lip_gap(generate(source=source))[:20]).max() < 0.012


def test_a_smile_relaxes_while_speaking():
    smile = SPACE.direction("smile_R") + SPACE.direction("smile_L")
    motion = generate(source=face(smile))
    points = SPACE.vertices(np.zeros(80), motion.expression)
    width = np.linalg.norm(points[:, 61] - points[:, 291], axis=-1)
    photo = SPACE.vertices(np.zeros(80), smile)
    assert np.median(width[30:]) < width[5] < np.linalg.norm(photo[61] - photo[291])


def test_round_and_spread_vowels_change_the_mouth():
    word = np.concatenate([vowel("i", 0.4), vowel("u", 0.4), np.zeros(12_800)])
    motion = generate(np.tile(word, 4))
    points = SPACE.vertices(np.zeros(80), motion.expression)
    width = np.linalg.norm(points[:, 61] - points[:, 291], axis=-1).reshape(4, 40)
    assert width[:, 3:8].mean() > width[:, 13:18].mean() + 0.06


def test_expression_scale():
    small = generate(controls=QUIET.model_copy(update={"expression": ExpressionControls(scale=0.5)}))
    none = generate(controls=QUIET.model_copy(update={"expression": ExpressionControls(scale=0)}))
    assert np.abs(lip_gap(none)).max() < 0.01 + abs(lip_gap(none)[0])
    assert lip_gap(small).max() == pytest.approx(lip_gap(generate()).max() / 2, abs=0.02)


def test_blinks():
    long = np.zeros(60 * 16_000)
    gap = lid_gap(generate(long, controls=Controls(pose=PoseControls(still=True))))
    open_ = np.median(gap, axis=0)
    assert (gap.min(0) < 0.12 * open_).all() and (gap.min(0) > -0.03).all()
    assert np.corrcoef(gap.T)[0, 1] > 0.99  # both eyes
    shut = np.flatnonzero((gap[1:-1, 0] < gap[:-2, 0]) & (gap[1:-1, 0] <= gap[2:, 0]) & (gap[1:-1, 0] < 0.3 * open_[0]))
    assert 12 <= len(shut) <= 23 and np.diff(shut).min() > 1.4 * 25 and np.diff(shut).max() < 6.1 * 25
    assert np.abs(gap[-1] - open_).max() < 0.01


def test_blinks_end_within_the_clip_and_can_be_switched_off():
    for seconds in np.arange(1.0, 4.0, 0.2):
        signal = np.zeros(int(seconds * 25) * 640)
        gap = lid_gap(generate(signal, controls=Controls(pose=PoseControls(still=True)), seed=int(seconds * 10)))
        shut = gap[:, 0] < 0.95 * gap[0, 0]
        assert shut.sum() % len(BLINK) == 0
    assert np.ptp(lid_gap(generate(np.zeros(320_000)))) < 0.05


def test_blink_rate():
    many = Controls(blink=BlinkControls(per_minute=50), pose=PoseControls(still=True))
    gap = lid_gap(generate(np.zeros(60 * 16_000), controls=many))[:, 0]
    assert 40 <= np.sum((gap[1:] < 0.3 * gap[0]) & (gap[:-1] >= 0.3 * gap[0])) <= 60


def test_head_moves_about_the_portraits_pose_as_peoples_heads_do():
    start = np.array([0.1, -0.2, 0.05, 0.02, 0.01, 0.1])
    motion = generate(np.tile(TALK, 20), face(pose=start), Controls())
    assert np.abs(motion.pose[0] - start).max() < 1e-6
    turn = np.degrees(motion.pose[:, :3] - start[:3])
    assert (np.abs(turn.mean(0)) < 1.5).all() and (turn.std(0) > 1.5).all() and (turn.std(0) < 5).all()
    assert np.abs(turn).max() < 20 and np.abs(np.diff(turn, axis=0)).max() < 2  # degrees, degrees per frame


def test_head_turns_about_the_neck():
    start = np.array([0.1, -0.2, 0.05, 0.0, 0.0, 0.0])
    motion = generate(
        np.zeros(640 * 9), face(pose=start), Controls(pose=PoseControls(yaw=[0, 15], pitch=[0, 8], scale=0))
    )
    neck = camera.pose_points(NECK[None], motion.pose)[:, 0, :2]
    assert np.abs(neck - neck[0]).max() < 1e-5
    assert np.abs(motion.pose[:, 3:5] - motion.pose[0, 3:5]).max() > 0.05


@pytest.mark.parametrize("pose", [PoseControls(still=True), PoseControls(scale=0)])
def test_a_still_head(pose):
    start = np.array([0.1, -0.2, 0.05, 0.3, 0.1, 0.1], np.float32)
    motion = generate(source=face(pose=start), controls=Controls(pose=pose))
    assert np.abs(motion.pose - start).max() < 1e-6


def test_tracks_replace_one_angle():
    start = np.array([0.0, 0.1, 0.0, 0.0, 0.0, 0.0])
    free = generate(source=face(pose=start), controls=Controls())
    tracked = generate(source=face(pose=start), controls=Controls(pose=PoseControls(yaw=[0, 10, -10], roll=4.0)))
    yaw = np.degrees(tracked.pose[:, 1] - 0.1)
    middle = (len(yaw) - 1) / 2
    assert yaw[0] == pytest.approx(0, abs=1e-3) and yaw[-1] == pytest.approx(-10, abs=1e-3)
    assert yaw.max() <= 10.001 and abs(int(yaw.argmax()) - middle) <= 1
    assert np.degrees(tracked.pose[:, 2]) == pytest.approx(4, abs=1e-4)
    assert np.array_equal(tracked.pose[:, 0], free.pose[:, 0])


def test_gaze():
    source = face()
    free = generate(source=source, controls=Controls(pose=PoseControls(still=True)))
    assert np.abs(free.gaze[0] - source.gaze).max() < 1e-6
    assert 0 < np.degrees(np.abs(free.gaze - source.gaze)).max() < 5
    fixed = generate(controls=Controls(gaze=GazeControls(mode="fixed", yaw=10, pitch=-5)))
    assert np.abs(np.degrees(fixed.gaze) - [10, -5]).max() < 1e-4
    turned = generate(controls=Controls(pose=PoseControls(yaw=10, scale=0)))
    assert np.degrees(turned.gaze[0, 0] - source.gaze[0]) == pytest.approx(-6, abs=0.1)  # back to the viewer


def test_seed_decides():
    first, second, other = (generate(controls=Controls(), seed=seed) for seed in (1, 1, 2))
    for name in ("expression", "pose", "gaze"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.pose, other.pose)
    no_blink = generate(controls=Controls(blink=BlinkControls(mode="off")), seed=1)
    assert np.array_equal(first.pose, no_blink.pose)  # each has its own stream


def test_an_hour_in_little_memory():
    class LongVoice(Voice):
        def __init__(self):
            super().__init__(np.tile(TALK, 4))
            self._period = self.frames
            self.frames = 90_000

        def samples(self, start, stop):
            at = (np.arange(start, stop) % self._period)[:, None] * 640 + np.arange(640)
            return self._signal[at.ravel()]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    motion = EnvelopeMotion().generate(LongVoice(), face(), Controls(), 5)
    assert len(motion) == 90_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 180_000  # kB; the sound alone has 230 MB
