"""The open morphable model: 468 vertices, 80 ways faces differ, 64 ways they move.

The tables ship in models/weights/open, made by `python -m scripts.build_open_space`. Numpy only.
"""

from functools import cache, cached_property
from pathlib import Path

import numpy as np

from models.facespace import camera
from models.facespace import topology as top
from models.facespace.fit import Fitter
from models.facespace.mouth_mesh import MouthMesh, cut_mouth
from models.interfaces import EXPRESSION, IDENTITY, FaceFit, Motion

TABLES = Path(__file__).resolve().parent.parent / "weights" / "open" / "face_space.npz"

UPPER_LID_SHARE = 0.82  # of the way the lids go to meet
JAW_SHARE = 0.6  # of an open mouth that the jaw closes, the lips do the rest
SKIN, LIPS = 0.62, 0.38  # brightness of a mouth in a picture
TARGET_WEIGHT = 300.0  # of reaching a lip or lid target against staying near a prior movement


class OpenSpace:
    """A face space (`models.interfaces.FaceSpace`).

    Attributes:
        mean: points of the mean face, model units, shape (478, 3); the last ten are the irises.
        mirror: index of each point's mirror image, shape (478,).
        triangles: the skin, wound towards the viewer, shape (852, 3); mouth and eyes are holes
            (`models.facespace.topology` names their rims).
        identity, identity_sd: orthonormal modes (80, 468, 3) and their expected sizes (80,).
        expression, expression_names: orthonormal modes (64, 468, 3) and their names.
        direction_names: of the authored movements.
    """

    name = "open"

    def __init__(self, tables: Path = TABLES):
        with np.load(tables) as data:
            self.mean: np.ndarray = data["mean"]
            self.mirror: np.ndarray = data["mirror"]
            self.triangles: np.ndarray = data["triangles"]
            self.identity: np.ndarray = data["identity"]
            self.identity_sd: np.ndarray = data["identity_sd"]
            self.expression: np.ndarray = data["expression"]
            self.expression_names: list[str] = data["expression_names"].tolist()
            self.direction_names: list[str] = data["direction_names"].tolist()
            self._directions: np.ndarray = data["directions"]
            self._ibug_vertices: np.ndarray = data["ibug_vertices"]
            self._ibug_shares: np.ndarray = data["ibug_shares"]

    @classmethod
    @cache
    def load(cls) -> "OpenSpace":
        """The shipped space; read once per process. Treat its arrays as constants."""
        return cls()

    # ---- shapes

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Faces in model units: identity (80,), expression (..., 64) -> (..., 468, 3)."""
        neutral = self.mean[: top.VERTICES].reshape(-1) + identity @ self.identity.reshape(IDENTITY, -1)
        shapes = neutral + expression @ self.expression.reshape(EXPRESSION, -1)
        return shapes.reshape(*expression.shape[:-1], top.VERTICES, 3)

    def project(self, face: FaceFit, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """The face moved: expression (..., 64), pose (..., 6) -> pixels with depth (..., 468, 3)."""
        return camera.project(self.vertices(face.identity, expression), pose, face.scale_px, face.origin_px)

    def project_points(self, face: FaceFit) -> np.ndarray:
        """All points of the fitted face, irises looking straight ahead: pixels with depth (478, 3)."""
        vertices = self.vertices(face.identity, face.expression)
        irises = []
        for iris, eye in ((top.RIGHT_IRIS, top.RIGHT_EYE), (top.LEFT_IRIS, top.LEFT_EYE)):
            irises.append(self.mean[list(iris)] + (vertices[list(eye)] - self.mean[list(eye)]).mean(0))
        return camera.project(np.concatenate([vertices, *irises]), face.pose, face.scale_px, face.origin_px)

    def canonical(self, face: FaceFit) -> np.ndarray:
        """The detected points in the model's own frame, at fitted depth: model units, shape (478, 3)."""
        points = self.project_points(face)
        points[:, :2] = face.landmarks[:, :2]
        return camera.unproject(points, face.pose, face.scale_px, face.origin_px).astype(np.float32)

    def landmarks68(self, identity: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """iBUG landmarks in model units, posed: expression (T, 64), pose (T, 6) -> (T, 68, 3)."""
        return camera.pose_points(self.ibug(self.vertices(identity, expression)), pose)

    def ibug(self, points: np.ndarray) -> np.ndarray:
        """The iBUG view of mesh points in any frame: (..., 468 or 478, C) -> (..., 68, C)."""
        return (points[..., self._ibug_vertices, :] * self._ibug_shares[..., None]).sum(-2)

    def mouth(self) -> MouthMesh:
        """The mouth of the mean face, for pictures of it; lips are darker than skin."""
        brightness = np.full(top.VERTICES, SKIN, np.float32)
        brightness[list(top.LIPS)] = LIPS
        gap = top.UPPER_LIP_INNER, top.LOWER_LIP_INNER
        return cut_mouth(self.mean[: top.VERTICES], self.expression, self.triangles, brightness, gap, side=1.0)

    # ---- movements

    def direction(self, name: str) -> np.ndarray:
        """An authored movement at full strength, as expression coefficients (64,)."""
        if name not in self.direction_names:
            raise KeyError(f"no movement {name!r}; the open space has {', '.join(self.direction_names)}")
        return self._directions[self.direction_names.index(name)]

    def closing(self, face: FaceFit) -> np.ndarray:
        """Expression change that shuts this very mouth: added to the fitted expression, the lips meet; (64,)."""
        upper, lower = top.UPPER_LIP_INNER[1:-1], top.LOWER_LIP_INNER[1:-1]
        points = self.canonical(face)
        gap = np.maximum(0, points[lower, 1] - points[upper, 1])  # below zero is detector noise
        opening = (self.expression[:, lower, 1] - self.expression[:, upper, 1]).T
        jaw = self.direction("jaw_open")
        middle = len(gap) // 2
        strength = min(1.0, JAW_SHARE * gap[middle] / (opening[middle] @ jaw))
        return nearest(-strength * jaw, opening, -gap)

    def blink(self, face: FaceFit) -> np.ndarray:
        """Expression changes that shut this very face's right and left eye, shape (2, 64)."""
        points = self.canonical(face)
        right = self._shut(points, top.RIGHT_EYE_UPPER[1:-1], top.RIGHT_EYE_LOWER[1:-1], "blink_R")
        left = self._shut(points, top.LEFT_EYE_UPPER[1:-1], top.LEFT_EYE_LOWER[1:-1], "blink_L")
        return np.stack([right, left])

    def _shut(self, points: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...], name: str) -> np.ndarray:
        gap = np.maximum(0, points[lower, 1] - points[upper, 1])
        usual = self.mean[lower, 1] - self.mean[upper, 1]
        targets = np.concatenate([UPPER_LID_SHARE * gap, (UPPER_LID_SHARE - 1) * gap])
        rows = self.expression[:, (*upper, *lower), 1].T
        return nearest(self.direction(name) * (gap.sum() / usual.sum()), rows, targets)

    # ---- fits

    @cached_property
    def _fitter(self) -> Fitter:
        return Fitter(self)

    def fit(self, landmarks: np.ndarray) -> FaceFit:
        """One face from its points (478, 3) in pixels (depth in the same scale), or from iBUG landmarks (68, 2).

        From 68 landmarks the points of the result are the fitted mesh, and the gaze is straight ahead.
        """
        return self._fitter.fit_ibug(landmarks) if len(landmarks) == 68 else self._fitter.fit_points(landmarks)

    def fit_video(self, landmarks: np.ndarray) -> tuple[FaceFit, Motion]:
        """The first frame's face and the motion of all frames, under the first frame's camera.

        The identity is shared, head and brows are smoothed over time without delay, lips and lids stay sharp.

        Args:
            landmarks: points of T frames in pixels, shape (T, 478, 3).
        """
        return self._fitter.fit_video(landmarks)


def nearest(prior: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Coefficients (K,) near `prior` for which rows (N, K) @ coefficients comes close to the targets (N,)."""
    left = np.eye(len(prior)) + TARGET_WEIGHT * rows.T @ rows
    return np.linalg.solve(left, prior + TARGET_WEIGHT * rows.T @ targets).astype(np.float32)
