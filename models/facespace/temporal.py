"""Smoothing over time without delay; numpy only, for scipy's filters take a second to import.

Legend: T frames, C channels.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def fit_parabolas(values: np.ndarray, window: int) -> np.ndarray:
    """Each frame's value on the parabola through the `window` (odd) frames around it (Savitzky and Golay); (T, C).

    Near the ends it is the parabola of the first, or last, `window` frames. Shorter series come back as they are.
    """
    if len(values) < window:
        return values
    half = window // 2
    steps = np.vander(np.arange(-half, half + 1), 3)
    hat = steps @ np.linalg.pinv(steps)  # measured -> fitted, within one window
    smooth = np.empty_like(values)
    smooth[:half] = hat[:half] @ values[:window]
    smooth[-half:] = hat[-half:] @ values[-window:]
    smooth[half:-half] = sliding_window_view(values, window, axis=0) @ hat[half]
    return smooth


def blur(values: np.ndarray, frames: float) -> np.ndarray:
    """Values (T, C) under a Gaussian with a standard deviation of `frames`; the ends are held."""
    half = int(np.ceil(3 * frames))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / frames) ** 2)
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    return sliding_window_view(padded, 2 * half + 1, axis=0) @ (kernel / kernel.sum())


def take_medians(values: np.ndarray, window: int) -> np.ndarray:
    """Running medians of `window` (odd) frames of values (T, C); the ends are held."""
    half = window // 2
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    return np.median(sliding_window_view(padded, window, axis=0), axis=-1)
