"""How own weights hear a voice: band by band against what is usual in the clip.

The published weights hear mel windows as they are.
"""

import numpy as np

from models.articulator.hearing import Habit


def compare(windows: np.ndarray, habit: Habit) -> np.ndarray:
    """Mel windows (T, 80, 16) in standard deviations from the clip's habit, float32, the same shape."""
    return ((windows - habit.mean[:, None]) / habit.spread[:, None]).astype(np.float32)


def hear(windows: np.ndarray) -> np.ndarray:
    """Mel windows (T, 80, 16) in standard deviations from their own habit, float32, the same shape."""
    return compare(windows, Habit.of_windows(windows))
