"""Fits of the open space to detected points: a photo, a video, or 68 landmarks."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.facespace import camera
from models.facespace import topology as top
from models.facespace.gaze import estimate_gaze, hold_through_blinks, lid_opening
from models.facespace.solver import Fits, Problem
from models.facespace.temporal import blur, fit_parabolas
from models.interfaces import EXPRESSION, IDENTITY, FaceFit, Motion

if TYPE_CHECKING:
    from models.facespace.open import OpenSpace

# Prices of squared coefficients against the mean squared error: they let a fit come as close as the detector's noise.
IDENTITY_PRICE, EXPRESSION_PRICE = 0.0002, 0.0001
WAVE_PRICE = 2.0  # of modes that nobody authored, relative to the others
LIPS, PHOTO_LIDS, VIDEO_LIDS = 2.5, 2.5, 5.0  # weights of errors, others 1: a video's blinks are small and short
STABLE = np.array(top.STABLE)
IBUG_STABLE = np.arange(27, 48)  # nose and eyes
IBUG_JAW = 0.3  # weight of iBUG landmarks 0..16: they slide along the outline as the head turns
IDENTITY_FRAMES = 16  # of a video, from which the identity is taken
POSE_WINDOW = 9  # frames; a quadratic smoothed over 0.36 s takes out the noise of the detector
# What the detector's noise leaves beside a window, of log scale, angles (rad), shifts (units). A head that is quicker
# than the window leaves more: from the first multiple to the second it is followed as it is.
NOISE, QUICK = np.array([0.003, 0.004, 0.004, 0.003, 0.003, 0.003, 0.01]), (1.2, 2.4)
POSE_NOISE = NOISE[[1, 2, 3, 4, 5, 0]]  # angles, shifts in the picture, logarithm of the distance
CALM_FRAMES = 1.5  # standard deviation of the smoothing of brows and cheeks
SHARP = ("jaw", "pucker", "funnel", "press", "lips", "upper", "lower", "stretch", "smile", "blink", "lid", "squint")


class Fitter:
    """Fits faces of one space; the products it keeps take a few megabytes."""

    def __init__(self, space: "OpenSpace"):
        self.space = space
        self.mean = space.mean[: top.VERTICES]
        self.both = np.concatenate([space.expression, space.identity])
        waves = np.array([name.startswith("wave") for name in space.expression_names])
        self.expression_price = EXPRESSION_PRICE * np.where(waves, WAVE_PRICE, 1.0)
        self.price = np.concatenate([self.expression_price, IDENTITY_PRICE / space.identity_sd**2])

    # Each problem's products are worked out when it is first needed.

    @cached_property
    def photo(self) -> Problem:
        return Problem(self.mean, self.both, weights(PHOTO_LIDS), self.price)

    @cached_property
    def shared(self) -> Problem:
        """Identity and expression of several frames of a video."""
        return Problem(self.mean, self.both, weights(VIDEO_LIDS), self.price)

    @cached_property
    def moving(self) -> Problem:
        """Expression alone, of every frame of a video."""
        return Problem(self.mean, self.space.expression, weights(VIDEO_LIDS), self.expression_price)

    @cached_property
    def sparse(self) -> Problem:
        """68 landmarks, which have no depth."""
        jaw_lighter = np.where(np.arange(68) < 17, IBUG_JAW, 1.0)
        views = self.space.ibug(self.mean), self.space.ibug(self.both)
        return Problem(*views, jaw_lighter, self.price, depth_weight=0.0)

    @cached_property
    def sharp(self) -> np.ndarray:
        """Orthonormal rows (S, 64) that span the movements of jaw, lips and lids."""
        names = [n for n in self.space.direction_names if n.startswith(SHARP)]
        return np.linalg.qr(np.stack([self.space.direction(n) for n in names], 1))[0].T

    def fit_points(self, landmarks: np.ndarray) -> FaceFit:
        """A face from points (478, 3) in pixels."""
        points, unit, middle = normalised(landmarks[None, : top.VERTICES], top.RIGHT_EYE_OUTER, top.LEFT_EYE_OUTER)
        fits = self.photo.solve(points, self.photo.start(points, STABLE), iterations=6)
        face = self._face(landmarks, fits, unit, middle, mean_error(self.photo, fits, points))
        gaze = estimate_gaze(self.space, face, landmarks[None], face.expression[None], face.pose[None])
        return replace(face, gaze=gaze[0].astype(np.float32))

    def fit_ibug(self, landmarks: np.ndarray) -> FaceFit:
        """A face from 68 landmarks (68, 2) in pixels; its points are the fitted mesh, looking straight ahead."""
        flat = np.column_stack([landmarks[:, :2], np.zeros(68)])[None]
        points, unit, middle = normalised(flat, 36, 45)
        # Lent the mean face's depth, the flat points start as a frontal face.
        start = self.sparse.start(points + self.sparse.mean * (0, 0, 1), IBUG_STABLE)
        fits = self.sparse.solve(points, start, iterations=12)
        blank = np.zeros((top.POINTS, 3), np.float32)
        face = self._face(blank, fits, unit, middle, mean_error(self.sparse, fits, points))
        return replace(face, landmarks=self.space.project_points(face).astype(np.float32))

    def fit_video(self, landmarks: np.ndarray) -> tuple[FaceFit, Motion]:
        """The first frame's face and the motion of all frames, from points (T, 478, 3) in pixels."""
        points, unit, middle = normalised(landmarks[:, : top.VERTICES], top.RIGHT_EYE_OUTER, top.LEFT_EYE_OUTER)
        few = points[np.unique(np.linspace(0, len(points) - 1, IDENTITY_FRAMES).astype(int))]
        together = self.shared.solve_shared(few, self.shared.start(few, STABLE), shared=IDENTITY, iterations=6)
        identity = together.coefficients[0, EXPRESSION:]

        neutral = self.moving.mean + np.tensordot(identity, self.space.identity, 1)
        problem = self.moving.around(neutral)
        fits = problem.solve(points, problem.start(points, STABLE), iterations=5)
        log_scale, turns, shift = smooth_cameras(fits)
        expression = smooth_calm_part(fits.coefficients, self.sharp)

        coefficients = np.concatenate([expression[:1], identity[None]], 1)
        first = Fits(np.exp(log_scale[:1]), camera.rotation(turns[:1]), shift[:1], coefficients)
        face = self._face(landmarks[0], first, unit, middle, mean_error(problem, fits[:1], points[:1]))
        pose = np.column_stack([turns, (shift - shift[0])[:, :2] / first.scale[0], log_scale[0] - log_scale])
        gaze = estimate_gaze(self.space, face, landmarks, expression, pose)
        gaze = hold_through_blinks(gaze, lid_opening(landmarks))
        motion = Motion("open", *(a.astype(np.float32) for a in (expression, pose, gaze)))
        return replace(face, gaze=motion.gaze[0]), motion

    def _face(self, landmarks: np.ndarray, fits: Fits, unit: float, middle: np.ndarray, residual: float) -> FaceFit:
        """The first of `fits`, back in pixels, as the camera's own frame: t = 0."""
        angles = camera.angles(fits.turn[0])
        return FaceFit(
            space="open",
            landmarks=landmarks.astype(np.float32),
            identity=fits.coefficients[0, EXPRESSION:].astype(np.float32),
            expression=fits.coefficients[0, :EXPRESSION].astype(np.float32),
            pose=np.concatenate([angles, np.zeros(3)]).astype(np.float32),
            gaze=np.zeros(2, np.float32),
            scale_px=float(fits.scale[0] * unit),
            origin_px=(fits.shift[0, :2] * unit + middle[:2]).astype(np.float32),
            residual=residual,
        )


def weights(lids: float) -> np.ndarray:
    """Weights of the vertices' errors, shape (468,)."""
    result = np.ones(top.VERTICES)
    result[list(top.LIPS)] = LIPS
    result[[*top.RIGHT_EYE, *top.LEFT_EYE]] = lids
    return result


def normalised(points: np.ndarray, right: int, left: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Points (T, N, 3) in units of the median distance of the outer eye corners, around the first frame's middle."""
    unit = float(np.median(np.linalg.norm(points[:, left, :2] - points[:, right, :2], axis=1)))
    middle = points[0].mean(0).astype(np.float64)
    return (points - middle) / unit, unit, middle


def mean_error(problem: Problem, fits: Fits, points: np.ndarray) -> float:
    """Mean distance in the picture between fitted and given points (T, N, 3), in model units."""
    distances = np.linalg.norm((problem.place(fits) - points)[..., :2], axis=-1).mean(1)
    return float((distances / fits.scale).mean())


def smooth_cameras(fits: Fits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log scales (T,), angles (T, 3) and shifts (T, 3) with the detector's noise taken out, without delay."""
    values = np.column_stack([np.log(fits.scale), np.unwrap(camera.angles(fits.turn), axis=0), fits.shift])
    values = steadied(values, NOISE)
    return values[:, 0], values[:, 1:4], values[:, 4:]


def smooth_pose(pose: np.ndarray) -> np.ndarray:
    """Poses (T, 6), as `models.interfaces.FaceFit.pose`, with the detector's noise taken out, without delay."""
    turns = np.unwrap(pose[:, :3], axis=0)
    return steadied(np.column_stack([turns, pose[:, 3:]]), POSE_NOISE)


def steadied(values: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Series (T, C) without the detector's noise (C,), except where they move quicker than it could."""
    calm = fit_parabolas(values, POSE_WINDOW)
    missed = values - calm
    excess = np.sqrt(blur(missed**2, CALM_FRAMES)) / noise
    return calm + np.clip((excess - QUICK[0]) / (QUICK[1] - QUICK[0]), 0, 1) * missed


def smooth_calm_part(coefficients: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """Coefficients (T, 64), smoothed over time but within the span of the orthonormal rows `sharp` (S, 64)."""
    calm = blur(coefficients, CALM_FRAMES)
    return calm + (coefficients - calm) @ sharp.T @ sharp
