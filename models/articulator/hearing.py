"""What the articulator hears: mel windows, compared with the clip's own level, as a few cosine coefficients per frame.

Rooms, microphones and voices differ by what is constant over a clip; that is taken out band by band, which is also
what lets a network that learned much of its lips from synthetic speech understand people.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn

from models.interfaces import Speech

MELS, WINDOW_MELS = 80, 16
OWN_MELS = slice(6, 10)  # of a window: what belongs to its frame alone
KEPT = (26, 6)  # cosine coefficients over bands and time
HEARD = KEPT[0] * KEPT[1]
LEAST_SPREAD = 0.3  # added to a band's standard deviation: silence isn't amplified
SCALE = 0.25  # brings coefficients near 1
STRETCH_FRAMES = 500  # read at a time


@dataclass(frozen=True)
class Habit:
    """A clip's usual sound: mean and spread of each mel band, shape (80,)."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of_windows(cls, windows: np.ndarray) -> "Habit":
        """Of mel windows (T, 80, 16)."""
        own = windows[:, :, OWN_MELS].astype(np.float64)
        return cls(own.mean((0, 2)), own.std((0, 2)) + LEAST_SPREAD)

    @classmethod
    def of_speech(cls, speech: Speech) -> "Habit":
        """Of a whole clip, read in stretches."""
        count, total, squares = 0, np.zeros(MELS), np.zeros(MELS)
        for start in range(0, speech.frames, STRETCH_FRAMES):
            windows = speech.mel_windows(start, min(start + STRETCH_FRAMES, speech.frames))
            own = windows[:, :, OWN_MELS].astype(np.float64)
            count += own.shape[0] * own.shape[2]
            total += own.sum((0, 2))
            squares += np.square(own).sum((0, 2))
        mean = total / count
        return cls(mean, np.sqrt(np.maximum(0, squares / count - mean**2)) + LEAST_SPREAD)


def hear(windows: np.ndarray, habit: Habit) -> np.ndarray:
    """Mel windows (T, 80, 16) -> what the network gets, float32, shape (T, 156)."""
    compared = (windows - habit.mean[:, None]) / habit.spread[:, None]
    cosines = np.asarray(dctn(compared, axes=(1, 2), norm="ortho"))
    return (SCALE * cosines[:, : KEPT[0], : KEPT[1]]).reshape(len(windows), HEARD).astype(np.float32)
