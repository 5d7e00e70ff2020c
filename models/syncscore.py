"""LSE-C, LSE-D and the offset of sound against picture, for any network that puts both into one space.

Chung and Zisserman, "Out of time" (2016); Prajwal et al., "A lip sync expert is all you need" (2020); with the
conventions of both released scripts, which the published numbers rest on. Nothing here needs weights.

Everything streams: a clip of any length takes the memory of a few seconds. Legend: T frames, L windows, N rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import cv2
import numpy as np
from scipy.ndimage import median_filter

from models.mfcc import ROWS_PER_FRAME

SIZE = 224  # pixels, of a crop's side
WINDOW = 5  # frames per window: 0.2 s
ROWS = WINDOW * ROWS_PER_FRAME  # MFCC rows per window: 20
MOST_SHIFT = 15  # frames, both ways
EPSILON = 1e-6  # added to every difference by the original's distance
CROP_MARGIN = 0.4  # of the crop: side 2 (1 + margin) half sides, moved down by this many half sides
SMOOTHING = 13  # frames of the median filter over a face's track
BORDER = 110  # grey value beyond the picture
IBUG, FOREHEAD = 68, 0.35  # landmarks that end at the brows, and what a box adds above them, of brows to chin


class Embedder(Protocol):
    """Two networks into one space."""

    def video(self, windows: np.ndarray) -> np.ndarray:
        """RGB crops, uint8, shape (n, 5, 224, 224, 3), to vectors, shape (n, C)."""
        ...

    def audio(self, windows: np.ndarray) -> np.ndarray:
        """MFCC, float32, shape (n, 13, 20), to vectors, shape (n, C)."""
        ...


@dataclass(frozen=True)
class SyncScore:
    """What the search over shifts found.

    Args:
        lse_c: confidence, median of `distances` less their minimum; higher is better, up to what real video has.
        lse_d: distance, the minimum of `distances`; lower is better, down to what real video has.
        offset: frames by which the sound leads the picture; negative where it lags.
        windows: how many windows of five frames were compared; under 45 (2 s) the scores are noise.
        distances: mean distance for the sound read -15 .. 15 frames later, shape (31,).
    All of them are NaN, offset included, for a clip of less than six frames.
    """

    lse_c: float
    lse_d: float
    offset: float
    windows: int
    distances: np.ndarray


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Boxes around a face like those of the detector S3FD, which SyncNet's crops are made from.

    Args:
        landmarks: in pixels, 68 in iBUG order or 478 of the face mesh, shape (T, n, 2 or more); NaN where no face was
            seen.
    Returns:
        x0, y0, x1, y1, shape (T, 4), from forehead to chin and cheek to cheek; gaps are filled in linearly. All NaN
        if no face was ever seen.
    """
    xy = np.asarray(landmarks, np.float64)[..., :2]
    low, high = xy.min(1), xy.max(1)
    if xy.shape[1] == IBUG:
        low[:, 1] -= FOREHEAD * (high[:, 1] - low[:, 1])
    boxes = np.concatenate([low, high], 1)
    seen = np.flatnonzero(np.isfinite(boxes).all(1))
    if not len(seen):
        return np.full_like(boxes, np.nan)
    return np.stack([np.interp(np.arange(len(boxes)), seen, boxes[seen, k]) for k in range(4)], 1)


def crop_track(boxes: np.ndarray) -> np.ndarray:
    """Centres and half sides of the crops of a face that moves.

    Args:
        boxes: of the face in pixels, x0, y0, x1, y1, without gaps, shape (T, 4).
    Returns:
        x, y, half of the longer side, each under a running median of 13 frames with zeros beyond both ends, which
        is how the original treats them; shape (T, 3).
    """
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).T
    half = np.maximum(x1 - x0, y1 - y0) / 2
    tracks = ((x0 + x1) / 2, (y0 + y1) / 2, half)
    return np.stack([median_filter(values, SMOOTHING, mode="constant") for values in tracks], axis=1)


def sync_crop(frame: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """The square that SyncNet was trained on: 2.8 half sides wide, low enough for the chin.

    Args:
        frame: uint8, shape (H, W, 3).
        crop: x, y, half side in pixels, a row of `crop_track`.
    Returns:
        uint8, shape (224, 224, 3).
    """
    x, y, half = crop
    margin = int(half * (1 + 2 * CROP_MARGIN))
    # whole pixels as in the original, which cuts them off after moving the centre into the padded picture
    top, left = (int(at + margin - half * by) for at, by in ((y, 1), (x, 1 + CROP_MARGIN)))
    bottom, right = (int(at + margin + half * by) for at, by in ((y, 1 + 2 * CROP_MARGIN), (x, 1 + CROP_MARGIN)))
    height, width = frame.shape[:2]
    cut = np.full((max(1, bottom - top), max(1, right - left), 3), BORDER, np.uint8)
    top, bottom, left, right = top - margin, bottom - margin, left - margin, right - margin
    y0, y1, x0, x1 = max(0, top), min(height, bottom), max(0, left), min(width, right)
    if y0 < y1 and x0 < x1:
        cut[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
    return cv2.resize(cut, (SIZE, SIZE))


def score_sync(
    crops: Iterable[np.ndarray], mfcc_N13: np.ndarray, audio_frames: int, embedder: Embedder, batch: int = 8
) -> SyncScore:
    """Search the shift of the sound that fits the picture best.

    Args:
        crops: of consecutive frames at 25 fps, RGB, uint8, shape (224, 224, 3) each.
        mfcc_N13: features of the sound track, as `compute_mfcc` returns them.
        audio_frames: floor(samples / 640), whole video frames of sound.
        embedder: the networks.
        batch: windows per call of them.
    """
    return score_sounds(crops, [(mfcc_N13, audio_frames)], embedder, batch)[0]


def score_sounds(
    crops: Iterable[np.ndarray], sounds: Sequence[tuple[np.ndarray, int]], embedder: Embedder, batch: int = 8
) -> list[SyncScore]:
    """`score_sync` of one picture with several sounds, its own and a stranger's for instance, for one look at it.

    Args:
        sounds: features and whole video frames of each.
    """
    searches = [OffsetSearch() for _ in sounds]
    windows = _windows(crops, max(frames for _, frames in sounds))
    done = 0
    while chunk := list(islice(windows, batch)):
        video = embedder.video(np.stack(chunk))
        for search, (mfcc_N13, frames) in zip(searches, sounds):
            starts = range(done, min(done + len(chunk), frames - WINDOW))
            if starts:
                audio = np.stack([mfcc_N13[ROWS_PER_FRAME * i : ROWS_PER_FRAME * i + ROWS].T for i in starts])
                search.add(video[: len(starts)], embedder.audio(audio))
        done += len(chunk)
    return [search.finish() for search in searches]


def _windows(crops: Iterable[np.ndarray], audio_frames: int) -> Iterator[np.ndarray]:
    """Five frames each, one window per frame; min(frames, audio frames) - 5 of them, one less than there could be."""
    last: list[np.ndarray] = []
    for frame, crop in enumerate(crops):
        if frame >= audio_frames:
            return
        if len(last) == WINDOW:
            yield np.stack(last)
            last.pop(0)
        last.append(crop)


class OffsetSearch:
    """Mean distances between picture and shifted sound, gathered window by window.

    d_i(k) = || v_i - a_{i+k} + 1e-6 ||, where a beyond either end is the zero vector; D(k) is its mean over i.
    """

    def __init__(self):
        self._sums = np.zeros(2 * MOST_SHIFT + 1)
        self._count = 0
        self._video = self._audio = np.zeros((0, 0))  # of the last 15 windows
        self._ends: list[np.ndarray] = []  # || v_i || of the first 15 windows, to which silence is compared

    def add(self, video: np.ndarray, audio: np.ndarray) -> None:
        """Vectors of the next windows, shape (n, C) each."""
        kept = len(self._video)
        self._video = _join(self._video, video)
        self._audio = _join(self._audio, audio)
        total = len(self._video)
        for k in range(-MOST_SHIFT, MOST_SHIFT + 1):
            # pairs of which the later half is new; v_i meets a_{i+k}
            start = max(0, kept - max(k, 0), -k)
            stop = total - max(k, 0)
            if start < stop:
                pairs = self._video[start:stop] - self._audio[start + k : stop + k] + EPSILON
                self._sums[k + MOST_SHIFT] += np.linalg.norm(pairs, axis=1).sum()
        wanted = MOST_SHIFT - self._count
        if wanted > 0:
            self._ends.append(_lengths(self._video[kept : kept + wanted]))
        self._count += len(video)
        self._video, self._audio = self._video[-MOST_SHIFT:], self._audio[-MOST_SHIFT:]

    def finish(self) -> SyncScore:
        """The scores of all windows so far."""
        if not self._count:
            nothing = np.full(len(self._sums), np.nan)
            return SyncScore(np.nan, np.nan, np.nan, 0, nothing)
        first, last = np.concatenate(self._ends), _lengths(self._video)
        sums = self._sums.copy()
        for k in range(1, MOST_SHIFT + 1):
            sums[MOST_SHIFT - k] += first[:k].sum()
            sums[MOST_SHIFT + k] += last[-k:].sum()
        distances = sums / self._count
        best = int(distances.argmin())
        confidence = float(np.median(distances) - distances[best])
        return SyncScore(confidence, float(distances[best]), float(MOST_SHIFT - best), self._count, distances)


def _join(kept: np.ndarray, new: np.ndarray) -> np.ndarray:
    new = np.asarray(new, np.float64)
    return np.concatenate([kept, new]) if len(kept) else new


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Distances to the zero vector, shape (n,)."""
    return np.linalg.norm(vectors + EPSILON, axis=1)
