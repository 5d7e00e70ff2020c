"""How far two gazes point apart."""

import numpy as np


def direction(gaze: np.ndarray) -> np.ndarray:
    """Unit vectors (cos p sin y, sin p, cos p cos y) of yaw and pitch in radians, shape (..., 2) -> (..., 3)."""
    yaw, pitch = np.moveaxis(np.asarray(gaze, np.float64), -1, 0)
    return np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], -1)


def angular_error(gaze: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Gaze error of every frame: the angle between two directions.

    Formula: arccos <g, g*>, computed as 2 arcsin(|g - g*| / 2), which stays exact for small angles.

    Args:
        gaze, wanted: yaw and pitch in radians, shape (T, 2); one of them may be (2,).
    Returns:
        shape (T,), degrees, lower is better.
    """
    apart = np.linalg.norm(direction(gaze) - direction(wanted), axis=-1)
    return np.degrees(2 * np.arcsin(np.minimum(apart / 2, 1)))
