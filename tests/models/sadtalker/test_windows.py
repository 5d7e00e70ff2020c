"""Windows of coefficients and tracks of angles."""

import numpy as np
import pytest

from models.sadtalker.tracks import spread_by_travel
from models.sadtalker.windows import RADIUS, coefficient_windows


def test_windows_hold_the_ends():
    clip = np.arange(40, dtype=np.float32)[:, None] * [1, 10]
    windows = coefficient_windows(clip, np.array([0, 20, 39]))
    assert windows.shape == (3, 2, 27)
    assert windows[1, 0].tolist() == list(range(7, 34)) and windows[1, 1, RADIUS] == 200
    assert windows[0, 0, : RADIUS + 1].tolist() == [0] * (RADIUS + 1) and windows[2, 0, -1] == 39


@pytest.mark.parametrize("frames", [1, 2, 27])
def test_windows_of_short_clips(frames):
    windows = coefficient_windows(np.zeros((frames, 70), np.float32), np.arange(frames))
    assert windows.shape == (frames, 70, 27)


def test_stretches_give_the_same_windows_as_the_whole():
    clip = np.random.default_rng(0).normal(size=(50, 70)).astype(np.float32)
    whole = coefficient_windows(clip, np.arange(50))
    assert np.array_equal(coefficient_windows(clip, np.arange(17, 23)), whole[17:23])


def test_tracks_keep_one_speed():
    track = spread_by_travel([-20, 30, 10], 40)
    assert track[0] == -20 and len(track) == 40 and track.max() == 30
    assert np.abs(np.diff(track)).max() <= 70 / 39 + 1e-9


@pytest.mark.parametrize("track, expected", [(7.0, [7, 7, 7]), ([4.0, 4.0], [4, 4, 4]), ([0.0, 0.0, 2.0], [0, 1, 1])])
def test_tracks_that_stand_still(track, expected):
    assert spread_by_travel(track, 3).tolist() == expected


def test_track_of_a_single_frame():
    assert spread_by_travel([3, 5], 1).tolist() == [3]
