"""Regularised Gauss-Newton fits of a linear face model to landmarks, batched over frames.

Unknown per frame are the camera (logarithm of the scale, rotation, translation) and coefficients of a basis. The
linearisation lives in the head's own frame, where the basis doesn't turn with the head: its products are computed
once, and a frame only mixes them. So a face takes milliseconds and a minute of video seconds.

Legend: T frames, N points, K coefficients.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np

CAMERA = 7  # unknowns: log scale, three turns, three shifts
CHUNK = 128  # frames at a time
DEPTH_WEIGHT = 0.3  # of z against x and y: a monocular detector's depth is its weakest guess


@dataclass
class Fits:
    """Cameras and coefficients of T frames: X = s R (mean + c @ basis) + t.

    Args:
        scale: shape (T,).
        turn: shape (T, 3, 3).
        shift: shape (T, 3).
        coefficients: shape (T, K).
    """

    scale: np.ndarray
    turn: np.ndarray
    shift: np.ndarray
    coefficients: np.ndarray

    def __getitem__(self, frames: slice) -> "Fits":
        return Fits(self.scale[frames], self.turn[frames], self.shift[frames], self.coefficients[frames])

    @staticmethod
    def joined(parts: list["Fits"]) -> "Fits":
        names = ("scale", "turn", "shift", "coefficients")
        return Fits(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class Problem:
    """A linear model and what its fit is judged by.

    Args:
        mean: shape (N, 3).
        basis: shape (K, N, 3).
        weights: of the points' errors, shape (N,).
        ridge: price of a squared coefficient, shape (K,).
        depth_weight: of z against x and y.
    """

    def __init__(
        self,
        mean: np.ndarray,
        basis: np.ndarray,
        weights: np.ndarray,
        ridge: np.ndarray,
        depth_weight: float = DEPTH_WEIGHT,
    ):
        self.mean = mean.astype(np.float64)
        self.basis = basis.astype(np.float64)
        self.ridge = ridge.astype(np.float64)
        self.weights = np.asarray(weights, np.float64) ** 2 / (2 * len(mean))
        self.metric = np.array([1, 1, depth_weight**2])
        count = len(basis)
        weighted = self.basis * self.weights[:, None]
        # Products of every pair of modes, for every pair of axes: (3 * 3, K * K).
        pairs = [weighted[:, :, i] @ self.basis[:, :, j].T for i in range(3) for j in range(3)]
        self.products = np.reshape(pairs, (9, count * count))
        self.flat = self.basis.reshape(count, -1)

    def around(self, mean: np.ndarray) -> "Problem":
        """The same problem with another mean (N, 3)."""
        other = copy(self)
        other.mean = mean.astype(np.float64)
        return other

    def start(self, points: np.ndarray, stable: np.ndarray) -> Fits:
        """Mean faces, rigidly placed on points (T, N, 3) by the vertices `stable`."""
        here, there = self.mean[stable], points[:, stable]
        middle, middles = here.mean(0), there.mean(1)
        covariance = np.swapaxes(there - middles[:, None], 1, 2) @ (here - middle)
        u, values, vt = np.linalg.svd(covariance)
        sign = np.ones_like(values)
        sign[:, 2] = np.linalg.det(u @ vt)
        turn = (u * sign[:, None]) @ vt
        scale = (values * sign).sum(1) / ((here - middle) ** 2).sum()
        shift = middles - scale[:, None] * (turn @ middle)
        return Fits(scale, turn, shift, np.zeros((len(points), len(self.basis))))

    def normal_equations(self, points: np.ndarray, fits: Fits) -> tuple[np.ndarray, np.ndarray]:
        """Left (T, 7 + K, 7 + K) and right (T, 7 + K) sides of the linearised problem, without the ridge."""
        frames = len(points)
        shape = self.mean + (fits.coefficients @ self.flat).reshape(frames, -1, 3)
        seen = (points - fits.shift[:, None]) @ fits.turn / fits.scale[:, None, None]
        missing = seen - shape
        metric = np.swapaxes(fits.turn, 1, 2) @ (self.metric[:, None] * fits.turn) * fits.scale[:, None, None] ** 2

        columns = np.zeros((frames, CAMERA, *self.mean.shape))
        x, y, z = shape[..., 0], shape[..., 1], shape[..., 2]
        columns[:, 0] = shape
        columns[:, 1, :, 1], columns[:, 1, :, 2] = -z, y
        columns[:, 2, :, 0], columns[:, 2, :, 2] = z, -x
        columns[:, 3, :, 0], columns[:, 3, :, 1] = -y, x
        for axis in range(3):
            columns[:, 4 + axis, :, axis] = 1
        weighted = (columns @ metric[:, None] * self.weights[:, None]).reshape(frames, CAMERA, -1)
        columns = columns.reshape(frames, CAMERA, -1)
        error = missing.reshape(frames, -1, 1)
        error_weighted = (missing @ metric * self.weights[:, None]).reshape(frames, -1)

        size = CAMERA + len(self.basis)
        left, right = np.empty((frames, size, size)), np.empty((frames, size))
        left[:, :CAMERA, :CAMERA] = weighted @ np.swapaxes(columns, 1, 2)
        left[:, :CAMERA, CAMERA:] = weighted @ self.flat.T
        left[:, CAMERA:, :CAMERA] = np.swapaxes(left[:, :CAMERA, CAMERA:], 1, 2)
        left[:, CAMERA:, CAMERA:] = (metric.reshape(frames, 9) @ self.products).reshape(frames, size - CAMERA, -1)
        right[:, :CAMERA] = (weighted @ error)[..., 0]
        right[:, CAMERA:] = error_weighted @ self.flat.T
        return left, right

    def regularised(self, left: np.ndarray, right: np.ndarray, fits: Fits) -> tuple[np.ndarray, np.ndarray]:
        """The same equations with the ridge; unseen directions stay put."""
        diagonal = np.concatenate([np.full(CAMERA, 1e-7), self.ridge])
        right = right.copy()
        right[:, CAMERA:] -= self.ridge * fits.coefficients
        return left + np.diag(diagonal), right

    def solve(self, points: np.ndarray, fits: Fits, iterations: int) -> Fits:
        """Independent fits of the frames (T, N, 3), from `fits` on."""
        parts = []
        for first in range(0, len(points), CHUNK):
            part, chunk = fits[first : first + CHUNK], points[first : first + CHUNK]
            for _ in range(iterations):
                left, right = self.regularised(*self.normal_equations(chunk, part), part)
                part = moved(part, np.linalg.solve(left, right[..., None])[..., 0])
            parts.append(part)
        return Fits.joined(parts)

    def solve_shared(self, points: np.ndarray, fits: Fits, shared: int, iterations: int) -> Fits:
        """As `solve`, but the last `shared` coefficients are the same in all frames."""
        own = CAMERA + len(self.basis) - shared
        fits.coefficients[:, -shared:] = fits.coefficients[:, -shared:].mean(0)
        for _ in range(iterations):
            left, right = self.normal_equations(points, fits)
            ridge = self.ridge[-shared:]
            left, right = self.regularised(left, right, fits)
            # The ridge on what is shared counts once, not once per frame.
            excess = (len(points) - 1) / len(points)
            left[:, own:, own:] -= np.diag(ridge * excess)
            right[:, own:] += ridge * excess * fits.coefficients[:, -shared:]
            # Eliminate every frame's own unknowns, solve for the shared ones, substitute back.
            solved = np.linalg.solve(
                left[:, :own, :own], np.concatenate([left[:, :own, own:], right[:, :own, None]], 2)
            )
            reduced = left[:, own:, own:] - left[:, own:, :own] @ solved[..., :-1]
            rest = right[:, own:] - (left[:, own:, :own] @ solved[..., -1:])[..., 0]
            together = np.linalg.solve(reduced.sum(0), rest.sum(0))
            alone = solved[..., -1] - solved[..., :-1] @ together
            fits = moved(fits, np.concatenate([alone, np.tile(together, (len(points), 1))], 1))
        return fits

    def place(self, fits: Fits) -> np.ndarray:
        """The fitted points, shape (T, N, 3)."""
        shape = self.mean + (fits.coefficients @ self.flat).reshape(len(fits.scale), -1, 3)
        return fits.scale[:, None, None] * shape @ np.swapaxes(fits.turn, 1, 2) + fits.shift[:, None]


def moved(fits: Fits, step: np.ndarray) -> Fits:
    """A Gauss-Newton step (T, 7 + K), given in the head's own frame."""
    shift = fits.shift + fits.scale[:, None] * (fits.turn @ step[:, 4:7, None])[..., 0]
    turn = fits.turn @ turned_by(step[:, 1:4])
    return Fits(fits.scale * np.exp(step[:, 0]), turn, shift, fits.coefficients + step[:, CAMERA:])


def turned_by(vectors: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) about axis-angle vectors (T, 3) (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None] + 1e-12
    x, y, z = (vectors / angle[:, 0]).T
    zero = np.zeros_like(x)
    cross = np.stack([np.stack(r, -1) for r in ((zero, -z, y), (z, zero, -x), (-y, x, zero))], -2)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
