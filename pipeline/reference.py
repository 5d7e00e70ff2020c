"""The face of a video that a clip follows: its head motion, its blinks.

Frames stream through the tracker, and where the coefficient space needs them, through its regressor; a few numbers per
frame stay.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.facespace.open import OpenSpace
from models.interfaces import FPS, Motion
from pipeline.errors import FaceError, VideoError
from pipeline.media import probe, video_frames
from pipeline.observation import GIVE_UP, Tracker, observe, tracked_size

if TYPE_CHECKING:
    from models.facespace.bfm import BfmSpace

REVISION = 1  # raise it when the same video gives another motion: kept results are left aside


def follow(path: Path, finder: Tracker, bfm: "BfmSpace | None" = None) -> Motion:
    """The motion of the largest face of a video at 25 fps; stretches without a face are bridged.

    In the open space the detector's noise is taken out; in the space bfm every frame stands as the regressor reads it,
    as the published networks are used to.

    Args:
        bfm: the space to speak; the open one unless given.
    Raises:
        VideoError: no video.
        FaceError: no face in the first two seconds.
    """
    expression, pose, gaze = _read_bfm(path, finder, bfm) if bfm else _read_open(path, finder)
    parts = (bridged(part).astype(np.float32) for part in (expression, pose, gaze))
    return Motion(bfm.name if bfm else OpenSpace.name, *parts)


def bridged(values: np.ndarray) -> np.ndarray:
    """Series (T, C) with its NaN rows filled in along straight lines."""
    seen = np.flatnonzero(np.isfinite(values).all(1))
    frames = np.arange(len(values))
    return np.stack([np.interp(frames, seen, column[seen]) for column in values.T], 1)


def _read_open(path: Path, finder: Tracker) -> tuple[np.ndarray, ...]:
    from pipeline.take import smoothed

    return smoothed(observe(path, finder))[:3]


def _read_bfm(path: Path, finder: Tracker, space: "BfmSpace") -> tuple[np.ndarray, ...]:
    found: list[bool] = []
    expression, pose = space.read_frames(_faces(path, finder, found))
    if not any(found):
        raise FaceError(
            f"{path}: no face in the first {len(found)} frames", "use a video of one person facing the camera"
        )
    whole = [np.full((len(found), part.shape[1]), np.nan, np.float32) for part in (expression, pose)]
    for rows, part in zip(whole, (expression, pose)):
        rows[np.array(found)] = part
    return (*whole, np.zeros((len(found), 2), np.float32))


def _faces(path: Path, finder: Tracker, found: list[bool]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Picture and iBUG landmarks of every frame with a face; `found` tells which frames these are."""
    if not probe(path).has_video:
        raise VideoError(f"{path} has no video stream", "use a video, not a sound file")
    space = OpenSpace.load()
    passed: deque[np.ndarray] = deque()
    for points in finder.track(_kept(video_frames(path, FPS, tracked_size(path)), passed)):
        image = passed.popleft()
        found.append(points is not None)
        if points is not None:
            yield image, space.ibug(points)[:, :2]
        elif len(found) == GIVE_UP and not any(found):
            return


def _kept(frames: Iterable[np.ndarray], passed: deque[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        passed.append(frame)
        yield frame
