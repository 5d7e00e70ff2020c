"""Motion over time: beats, likeness of channels, blinks, seams, by hand and on made-up motion."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from pipeline.metrics import motion


def nodding(frames: int, period: int) -> np.ndarray:
    t = np.arange(frames)[:, None]
    return 8 * np.sin(2 * np.pi * t / period) * np.array([1.0, 0.4, 0.1])


def test_beat_align_by_hand():
    # nearest motion beats are 0, 3 and 6 frames away
    score = motion.beat_align(np.array([10.0, 23.0, 44.0]), np.array([10, 20, 50]))
    assert score == pytest.approx((1 + np.exp(-9 / 18) + np.exp(-36 / 18)) / 3)
    assert np.isnan(motion.beat_align(np.zeros(0), np.array([3])))
    assert motion.beat_align(np.array([3.0]), np.zeros(0)) == 0


def test_motion_beats_are_the_turning_points():
    pose = nodding(205, 41)
    beats = motion.motion_beats(pose)
    inside = beats[(beats > 20) & (beats < 180)]
    assert inside == pytest.approx(np.arange(30.25, 180, 20.5), abs=1)  # where the sine turns
    speed = gaussian_filter1d(np.linalg.norm(np.diff(pose, axis=0), axis=1), 5)
    assert all(speed[b] < speed[b - 1] and speed[b] < speed[b + 1] for b in beats)
    assert len(motion.motion_beats(np.zeros((100, 3)))) == 0


def test_channel_ssim_by_hand():
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    c1, c2 = 1e-4, 9e-4  # means 1 and 3, variances 1 and 4, covariance 2
    expected = (2 * 3 + c1) * (2 * 2 + c2) / ((1 + 9 + c1) * (1 + 4 + c2))
    assert motion.channel_ssim(a, b) == pytest.approx(expected)
    assert motion.channel_ssim(a, a) == pytest.approx(1)
    assert motion.channel_correlation(a, b) == pytest.approx(1)
    assert motion.channel_variance(b) == pytest.approx(4)


def test_correlation_ignores_still_channels():
    moving = np.random.default_rng(0).normal(size=(50, 1))
    assert motion.channel_correlation(np.hstack([moving, 0 * moving]), np.hstack([-moving, 0 * moving])) == (
        pytest.approx(-1)
    )
    assert np.isnan(motion.channel_correlation(0 * moving, moving))


def test_log_ratio():
    assert motion.log_ratio(2.0, 1.0) == motion.log_ratio(0.5, 1.0) == pytest.approx(np.log(2))
    assert np.isnan(motion.log_ratio(0.0, 1.0))


def test_diversity_and_jitter():
    angles = np.array([[0.0, 0, 0], [2, 0, 0], [0, 0, 0], [2, 0, 0]])
    assert motion.pose_diversity(angles) == pytest.approx(1 / 3)
    assert motion.jitter(angles) == pytest.approx(8)  # 2 - 3 * 0 + 3 * 2 - 0
    assert motion.jitter(np.arange(30)[:, None] ** 2 * np.ones(3)) == pytest.approx(0)
    assert np.isnan(motion.jitter(angles[:3]))


def test_fast_share_tells_shaking_from_nodding():
    t = np.arange(200)[:, None] / 25
    slow, fast = np.sin(2 * np.pi * 1 * t), np.sin(2 * np.pi * 8 * t)
    assert motion.fast_share(slow) < 0.01
    assert motion.fast_share(fast) > 0.99


def test_a_seam_is_found():
    smooth = nodding(200, 50)
    broken = smooth.copy()
    broken[100:] += 3
    assert motion.seam_ratio(smooth, [100]) < 2
    assert motion.seam_ratio(broken, [100]) > 5
    assert np.isnan(motion.seam_ratio(smooth, []))


def test_eye_aspect_ratio_by_hand():
    landmarks = np.zeros((1, 68, 2))
    for eye in motion.EYES:
        landmarks[0, list(eye)] = [(0, 0), (1, 1), (3, 1), (4, 0), (3, -1), (1, -1)]
    assert motion.eye_aspect_ratio(landmarks) == pytest.approx([(2 + 2) / (2 * 4)])


def test_blinks_are_counted():
    ratio = np.full(25 * 20, 0.3)
    for start in (50, 150, 300, 450):
        ratio[start : start + 4] = 0.09
    ratio[152] = 0.3  # one open frame inside a blink
    ratio[200] = 0.05  # a single frame is noise
    ratio[220:240] = 0.1  # eyes shut for longer are no blink
    ratio[10] = np.nan
    blinks = motion.find_blinks(ratio)
    assert blinks.per_minute == pytest.approx(4 * 60 * 25 / 499)
    assert blinks.length_s == pytest.approx(4 / 25)
    assert blinks.depth == pytest.approx(0.3)
    assert np.isnan(motion.find_blinks(ratio[:200]).per_minute)
    assert motion.find_blinks(np.full(300, 0.3)).per_minute == 0
