"""What SadTalker's mapping network sees of a motion: each frame among its neighbours.

The published network takes 13 frames on either side; the paper says two. Legend: T frames, N of them, C coefficients,
W frames of a window.
"""

import numpy as np

RADIUS = 13  # frames on either side of a window's own


def coefficient_windows(coefficients_TC: np.ndarray, frames_N: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """Windows around some frames of a whole clip; beyond its ends the first and the last frame go on.

    Args:
        coefficients_TC: of the whole clip, shape (T, C), T >= 1.
        frames_N: numbers of frames, shape (N,).
    Returns:
        shape (N, C, 2 radius + 1), of the coefficients' type.
    """
    steps_W = np.arange(-radius, radius + 1)
    rows_NW = np.clip(np.asarray(frames_N)[:, None] + steps_W, 0, len(coefficients_TC) - 1)
    return np.ascontiguousarray(coefficients_TC[rows_NW].transpose(0, 2, 1))
