"""The search of SyncNet's scores with made-up networks; crops and windows."""

import cv2
import numpy as np
import pytest
from scipy.signal import medfilt

from models.syncscore import OffsetSearch, crop_track, face_boxes, score_sounds, score_sync, sync_crop

FRAMES, SHIFTS = 80, 15


def naive(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """D(k) straight from its definition."""
    means = []
    for k in range(-SHIFTS, SHIFTS + 1):
        distances = []
        for i, v in enumerate(video):
            other = audio[i + k] if 0 <= i + k < len(audio) else np.zeros(len(v))
            distances.append(np.sqrt(((v - other + 1e-6) ** 2).sum()))
        means.append(np.mean(distances))
    return np.array(means)


def search(video: np.ndarray, audio: np.ndarray, chunk: int):
    found = OffsetSearch()
    for start in range(0, len(video), chunk):
        found.add(video[start : start + chunk], audio[start : start + chunk])
    return found.finish()


@pytest.mark.parametrize("windows", [1, 7, 15, 16, 40, 75])
@pytest.mark.parametrize("chunk", [1, 8, 100])
def test_search_agrees_with_the_definition(windows, chunk):
    rng = np.random.default_rng(windows)
    video, audio = rng.normal(size=(2, windows, 6))
    score, expected = search(video, audio, chunk), naive(video, audio)
    np.testing.assert_allclose(score.distances, expected, rtol=1e-10)
    assert score.lse_d == pytest.approx(expected.min())
    assert score.lse_c == pytest.approx(np.sort(expected)[15] - expected.min())
    assert score.offset == 15 - expected.argmin()
    assert score.windows == windows


class ReadBack:
    """Reads a number that was hidden in the pixels and in the MFCC."""

    def __init__(self, dimensions: int = 8):
        self._axes = np.random.default_rng(0).normal(size=(4096, dimensions))

    def video(self, windows: np.ndarray) -> np.ndarray:
        assert windows.shape[1:] == (5, 224, 224, 3)
        first = windows[:, 0, 0, 0].astype(int)
        return self._axes[first[:, 0] + 256 * first[:, 1]]

    def audio(self, windows: np.ndarray) -> np.ndarray:
        assert windows.shape[1:] == (13, 20)
        return self._axes[windows[:, 0, 0].astype(int)]


def hidden(delay: int, video_frames: int = FRAMES, audio_frames: int = FRAMES):
    """Crops that carry the number of their frame, and MFCC that carry it `delay` frames later."""
    crops = np.zeros((video_frames, 224, 224, 3), np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = np.arange(video_frames) % 256, np.arange(video_frames) // 256
    mfcc = np.repeat(np.arange(audio_frames) - delay + 1000, 4)[:, None] * np.ones(13)
    mfcc[mfcc >= 1000] -= 1000
    return iter(crops), mfcc.astype(np.float32), audio_frames


def test_matched_streams_are_at_distance_zero():
    score = score_sync(*hidden(0), ReadBack())
    assert score.offset == 0
    assert score.lse_d == pytest.approx(0, abs=1e-5)
    assert score.lse_c > 1
    assert score.windows == FRAMES - 5


@pytest.mark.parametrize("delay", [5, -5, 8, 15, -15])
def test_late_sound_has_a_negative_offset(delay):
    assert score_sync(*hidden(delay), ReadBack(), batch=7).offset == -delay


def test_shorter_stream_decides():
    assert score_sync(*hidden(0, 40, 60), ReadBack()).windows == 35
    assert score_sync(*hidden(0, 60, 40), ReadBack()).windows == 35


def test_several_sounds_are_scored_in_one_pass():
    crops = list(hidden(0)[0])
    sounds = [hidden(delay, FRAMES, frames)[1:] for delay, frames in ((3, FRAMES), (-4, 50), (0, 4))]
    together = score_sounds(iter(crops), sounds, ReadBack())
    for score, sound in zip(together, sounds):
        alone = score_sync(iter(crops), *sound, ReadBack())
        np.testing.assert_array_equal(score.distances, alone.distances)
    assert [score.offset for score in together[:2]] == [-3, 4]
    assert [score.windows for score in together] == [FRAMES - 5, 45, 0]


@pytest.mark.parametrize("frames", [0, 5])
def test_too_short_is_undefined(frames):
    score = score_sync(*hidden(0, frames, frames), ReadBack())
    assert score.windows == 0
    assert np.isnan([score.lse_c, score.lse_d, score.offset]).all()


def test_windows_are_five_frames_and_twenty_rows():
    seen = []

    class Note:
        def video(self, windows):
            seen.extend(w[:, 0, 0, 0].tolist() for w in windows)
            return np.zeros((len(windows), 1))

        def audio(self, windows):
            seen.extend(w[0].tolist() for w in windows)
            return np.zeros((len(windows), 1))

    crops = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 224, 224, 3), np.uint8)
    rows = np.arange(28)[:, None] * np.ones(13)
    score_sync(crops, rows, 7, Note())
    assert seen == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], list(range(20)), list(range(4, 24))]


def test_boxes_go_up_to_the_forehead_and_across_gaps():
    face = np.random.default_rng(0).uniform(0, 1, (68, 2))
    face[:4] = [(0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)]
    landmarks = np.stack([face * 100 + (x, 50) for x in (0, 0, 20, 30)])
    landmarks[1] = np.nan
    boxes = face_boxes(landmarks)
    np.testing.assert_allclose(boxes[0], (0, 15, 100, 150))
    np.testing.assert_allclose(boxes[1], (10, 15, 110, 150))
    mesh = np.concatenate([landmarks[2], np.full((410, 2), 60.0)])[None]
    np.testing.assert_allclose(face_boxes(mesh), [(20, 50, 120, 150)])
    assert np.isnan(face_boxes(landmarks[1:2])).all()


def test_crop_track_is_the_median_of_thirteen():
    boxes = np.random.default_rng(0).uniform(100, 400, (40, 4))
    boxes[:, 2:] += boxes[:, :2]
    track = crop_track(boxes)
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / 2
    np.testing.assert_array_equal(track[:, 2], medfilt(sides, 13))
    assert track[20, 0] == np.median((boxes[14:27, 0] + boxes[14:27, 2]) / 2)


@pytest.mark.parametrize("crop", [(150.0, 100.0, 40.0), (20.3, 30.7, 51.6), (290.2, 190.0, 33.3)])
def test_crop_is_cut_from_a_padded_picture(crop):
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    x, y, half = crop
    pad = int(half * 1.8)
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
    cut = padded[int(y + pad - half) : int(y + pad + half * 1.8), int(x + pad - half * 1.4) : int(x + pad + half * 1.4)]
    np.testing.assert_array_equal(sync_crop(frame, np.array(crop)), cv2.resize(cut, (224, 224)))


def test_crop_outside_the_picture_is_grey():
    crop = sync_crop(np.zeros((50, 50, 3), np.uint8), np.array([500.0, 500.0, 20.0]))
    assert (crop == 110).all()
