"""Distances between two faces' landmarks, frame by frame. T frames, P points; frames with NaN are left out."""

from collections.abc import Sequence

import numpy as np

MOUTH = slice(48, 68)
OUTER_EYE_CORNERS = (36, 45)


def face_distance(points: np.ndarray, real: np.ndarray, norm: str = "l2") -> np.ndarray:
    """F-LMD of every frame (EAMM; EmoTalker): mean over 68 points of || (l - mean l) - (l' - mean l') ||.

    Args:
        points, real: shape (T, 68, 2), in pixels of pictures of 256 x 256.
        norm: "l2", the Euclidean distance, or "l1", the mean absolute difference of coordinates (EmoTalker's script).
    Returns:
        shape (T,), pixels, lower is better; NaN where either face is missing.
    """
    return _distance(points, real, norm)


def mouth_distance(points: np.ndarray, real: np.ndarray, norm: str = "l2") -> np.ndarray:
    """M-LMD of every frame (EAMM; EmoTalker): as `face_distance`, over points 48..67 about their own mean."""
    return _distance(points[:, MOUTH], real[:, MOUTH], norm)


def velocity_distance(points: np.ndarray, real: np.ndarray) -> np.ndarray:
    """LVD of every step: mean over points of || (l_{t+1} - l_t) - (l'_{t+1} - l'_t) ||, shape (T - 1,), pixels."""
    return np.linalg.norm(np.diff(points, axis=0) - np.diff(real, axis=0), axis=-1).mean(-1)


def relative_distance(distance: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Distances (T,) in pixels as percent of the real face's distance of the outer eye corners, which knows no size."""
    right, left = OUTER_EYE_CORNERS
    return 100 * distance / np.linalg.norm(real[:, right] - real[:, left], axis=-1)


def coefficient_mouth_distance(points: np.ndarray, real: np.ndarray) -> np.ndarray:
    """MLD of every frame (GoHD): mean over mouth points of the distance between landmarks from coefficients.

    Args:
        points, real: landmarks of expression coefficients with neutral identity and pose, shape (T, 68, 2 or 3).
            Only x and y count. In pixels of the 224 px image plane for the published figures, else in any one unit.
    Returns:
        shape (T,), in the unit of the input, lower is better.
    """
    return np.linalg.norm(points[:, MOUTH, :2] - real[:, MOUTH, :2], axis=-1).mean(-1)


def align_lengths(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Arrays brought to the shortest one's number of frames by linear index mapping (first to first, last to last)."""
    length = min(len(array) for array in arrays)
    return tuple(array[_indices(len(array), length)] for array in arrays)


def _indices(frames: int, wanted: int) -> Sequence[int]:
    return np.round(np.linspace(0, frames - 1, wanted)).astype(int).tolist() if wanted else []


def _distance(points: np.ndarray, real: np.ndarray, norm: str) -> np.ndarray:
    if norm not in ("l1", "l2"):
        raise ValueError(f"norm is {norm!r}, but must be 'l1' or 'l2'")
    apart = (points - points.mean(1, keepdims=True)) - (real - real.mean(1, keepdims=True))
    return np.abs(apart).mean((-1, -2)) if norm == "l1" else np.linalg.norm(apart, axis=-1).mean(-1)
