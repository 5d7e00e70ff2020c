"""What can be seen of the largest face in a video, frame by frame: the one face track that all metrics share.

Frames stream through the tracker and the fit, and are gone; 0.8 kB per frame stay. Unlike the fit for rendering,
nothing is smoothed over time: jitter is one of the things to be measured.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from models.facespace import camera
from models.facespace import topology as top
from models.facespace.fit import IDENTITY_FRAMES, STABLE, Fitter, normalised
from models.facespace.gaze import estimate_gaze
from models.facespace.open import OpenSpace
from models.facespace.solver import Fits, Problem
from models.interfaces import EXPRESSION, FPS, IDENTITY, FaceFit
from pipeline.arrays import Arrays
from pipeline.errors import FaceError, VideoError
from pipeline.media import probe, video_frames

LONGEST_SIDE = 512  # pixels at which faces are tracked; larger videos are reduced
METRIC_SIDE = 256  # pixels of the longer side at which landmarks and pictures are compared
STRETCH = 500  # frames that are fitted at a time
FIT_STEPS = 5
GIVE_UP = 50  # frames without a face at the beginning, after which the video has none
REVISION = 1  # raise it when observations change: stored ones are made again


class Tracker(Protocol):
    """What follows a face; `pipeline.face.FaceFinder` does."""

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """Points (478, 3) in pixels of the largest face for each RGB frame; None where it isn't seen."""
        ...


@dataclass(frozen=True)
class Observation(Arrays):
    """The face of a video over T frames at 25 fps; rows of frames without a face are NaN.

    Args:
        landmarks: iBUG points, shape (T, 68, 2), in pixels of the video shrunk to a longer side of 256.
        expression: of the open space, shape (T, 64).
        pose: shape (T, 6), as `models.interfaces.FaceFit.pose`, relative to the first frame with a face.
        gaze: shape (T, 2), yaw and pitch of the eyes relative to the head, radians.
        size: width and height of the pictures that the landmarks are in, shape (2,).
    """

    landmarks: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    gaze: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def seen(self) -> np.ndarray:
        """Frames in which there is a face, shape (T,), bool."""
        return np.isfinite(self.pose[:, 0])


def detector() -> str:
    """Name and version of what observations come from."""
    return f"mediapipe {version('mediapipe')} face mesh, tracking; open space fit, observation {REVISION}"


def observe(path: Path, finder: Tracker) -> Observation:
    """Follow the largest face of a video.

    Raises:
        VideoError: no video, or nothing that can be decoded.
        FaceError: no face in the first two seconds.
    """
    fit = _Fit(OpenSpace.load())
    parts = [fit.fit(points) for points in _stretches(_points(path, finder))]
    landmarks, expression, pose, gaze = (np.concatenate(column) for column in zip(*parts))
    info = probe(path)
    _, size = metric_size(info.width, info.height)
    scale = METRIC_SIDE / max(tracked_size(path))
    return Observation(landmarks * np.float32(scale), expression, pose, gaze, np.array(size))


def metric_size(width: int, height: int) -> tuple[float, tuple[int, int]]:
    """Scale and (width, height) of a picture whose longer side is brought to 256 pixels; sizes are even."""
    return _scaled(width, height, METRIC_SIDE / max(width, height))


def tracked_size(path: Path) -> tuple[int, int]:
    """(width, height) of the pictures that a video's face is looked for in: as displayed, reduced to 512 pixels."""
    info = probe(path)
    longest = max(info.width, info.height)
    return _scaled(info.width, info.height, min(1.0, LONGEST_SIDE / longest))[1]


def _scaled(width: int, height: int, scale: float) -> tuple[float, tuple[int, int]]:
    return scale, (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))


def _points(path: Path, finder: Tracker) -> Iterator[np.ndarray | None]:
    """Points (478, 3) of every frame in pixels of the reduced video, or None."""
    info = probe(path)
    if not info.has_video:
        raise VideoError(f"{path} has no video stream", "use a video, not a sound file")
    met, missed = False, 0
    for points in finder.track(video_frames(path, FPS, tracked_size(path))):
        met, missed = met or points is not None, missed + 1
        if not met and missed == GIVE_UP:
            break
        yield points
    if not met:
        raise FaceError(f"{path}: no face in the first {missed} frames", "use a video of one person facing the camera")


def _stretches(points: Iterable[np.ndarray | None]) -> Iterator[list[np.ndarray | None]]:
    iterator = iter(points)
    while stretch := list(islice(iterator, STRETCH)):
        yield stretch


@dataclass(frozen=True)
class _Reference:
    """What the first stretch settles for the whole video: the person, the units and the camera.

    Args:
        identity: shape (80,).
        problem: the fit of expression and camera around this person.
        unit: pixels of the distance of the outer eye corners.
        middle: pixels, shape (3,).
        first: camera of the first frame with a face.
    """

    identity: np.ndarray
    problem: Problem
    unit: float
    middle: np.ndarray
    first: Fits


class _Fit:
    """Fits a video stretch by stretch, with the identity of the first one and its first frame's camera."""

    def __init__(self, space: OpenSpace):
        self._space, self._fitter = space, Fitter(space)
        self._reference: _Reference | None = None

    def fit(self, stretch: list[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        """Landmarks (T, 68, 2), expression, pose and gaze of a stretch, NaN where there is no face."""
        found = np.array([points is not None for points in stretch])
        blank = [np.full((len(stretch), *shape), np.nan, np.float32) for shape in ((68, 2), (EXPRESSION,), (6,), (2,))]
        if found.any():
            points = np.stack([p for p in stretch if p is not None])
            for whole, part in zip(blank, self._fit_seen(points)):
                whole[found] = part
        return tuple(blank)

    def _fit_seen(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        reference = self._reference = self._reference or self._meet(points)
        scaled = (points[:, : top.VERTICES] - reference.middle) / reference.unit
        fits = reference.problem.solve(scaled, reference.problem.start(scaled, STABLE), FIT_STEPS)
        first = reference.first
        shift = (fits.shift - first.shift)[:, :2] / first.scale[0]
        pose = np.column_stack([camera.angles(fits.turn), shift, np.log(first.scale[0] / fits.scale)])
        face = FaceFit(
            space="open",
            landmarks=points[0],
            identity=reference.identity,
            expression=fits.coefficients[0],
            pose=pose[0],
            gaze=np.zeros(2),
            scale_px=float(first.scale[0] * reference.unit),
            origin_px=first.shift[0, :2] * reference.unit + reference.middle[:2],
            residual=0.0,
        )
        gaze = estimate_gaze(self._space, face, points, fits.coefficients, pose)
        return self._space.ibug(points)[..., :2], fits.coefficients, pose, gaze

    def _meet(self, points: np.ndarray) -> _Reference:
        fitter = self._fitter
        scaled, unit, middle = normalised(points[:, : top.VERTICES], top.RIGHT_EYE_OUTER, top.LEFT_EYE_OUTER)
        few = scaled[np.unique(np.linspace(0, len(scaled) - 1, IDENTITY_FRAMES).astype(int))]
        together = fitter.shared.solve_shared(few, fitter.shared.start(few, STABLE), IDENTITY, iterations=6)
        identity = together.coefficients[0, EXPRESSION:]
        problem = fitter.moving.around(fitter.moving.mean + np.tensordot(identity, self._space.identity, 1))
        first = problem.solve(scaled[:1], problem.start(scaled[:1], STABLE), FIT_STEPS)
        return _Reference(identity, problem, unit, middle, first)
