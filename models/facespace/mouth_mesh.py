"""The part of a morphable model that a lip reader sees: lips and what lies around them, on the mean face."""

from dataclasses import dataclass

import numpy as np

from models.facespace.topology import strip

MARGIN = 0.35  # of the square's side, kept around it: faces move in it


@dataclass(frozen=True)
class MouthMesh:
    """A mesh that looks straight ahead, in model units and the project's axes (`models.interfaces`).

    Args:
        mean: at rest, shape (V, 3).
        expression: what each coefficient adds, shape (64, V, 3).
        triangles: the skin, and what would close the gap between the lips; shape (F, 3).
        brightness: of the skin, 0 to 1, shape (V,).
        rim: vertices around the gap between the lips: along the upper lip to the right of the picture, back along the
            lower one; shape (R,).
        side: of the square around the mouth that is looked at: the distance of the outer eye corners.
    """

    mean: np.ndarray
    expression: np.ndarray
    triangles: np.ndarray
    brightness: np.ndarray
    rim: np.ndarray
    side: float


def cut_mouth(
    mean: np.ndarray,
    expression: np.ndarray,
    triangles: np.ndarray,
    brightness: np.ndarray,
    lips: tuple[tuple[int, ...], tuple[int, ...]],
    side: float,
) -> MouthMesh:
    """The mouth of a whole face.

    Args:
        mean, expression, triangles, brightness, side: as of `MouthMesh`; the triangles leave the gap open.
        lips: vertices along the inner edge of the upper and of the lower lip, from corner to corner, to the right of
            the picture; as many of both.
    Raises:
        IndexError: triangles or lips name vertices that there aren't.
    """
    rim = np.array([*lips[0], *lips[1][-2:0:-1]])
    near = np.abs(mean[:, :2] - mean[rim, :2].mean(0)).max(1) < (0.5 + MARGIN) * side
    near[rim] = True
    kept = np.concatenate([triangles[near[triangles].all(1)], strip(*lips)])
    vertices, numbers = np.unique(kept, return_inverse=True)
    return MouthMesh(
        mean=np.ascontiguousarray(mean[vertices], np.float32),
        expression=np.ascontiguousarray(expression[:, vertices], np.float32),
        triangles=numbers.reshape(-1, 3),
        brightness=np.ascontiguousarray(brightness[vertices], np.float32),
        rim=np.searchsorted(vertices, rim),
        side=float(side),
    )
