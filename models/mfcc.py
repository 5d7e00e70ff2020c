"""The MFCC that SyncNet was trained on: those of python_speech_features with its default settings.

100 feature rows per second, each of 13 values: the logarithm of the window's energy, then the cepstral coefficients
1 to 12. Samples are taken in the scale of 16-bit integers. Legend: N rows.
"""

from functools import cache

import numpy as np
from scipy.fft import dct

from models.interfaces import SAMPLE_RATE, SAMPLES_PER_FRAME

WINDOW, HOP = 400, 160  # samples: 25 ms and 10 ms
ROWS_PER_FRAME = SAMPLES_PER_FRAME // HOP  # 4 rows per video frame
FFT, FILTERS, COEFFICIENTS = 512, 26, 13
PRE_EMPHASIS, LIFTER = 0.97, 22
FULL_SCALE = 32768
TINY = np.finfo(float).eps  # stands for an energy of zero, which has no logarithm
AT_ONCE = 4000  # rows computed at once: spectra of a long recording would fill the memory


def compute_mfcc(samples: np.ndarray) -> np.ndarray:
    """Features of a recording.

    Args:
        samples: 16 kHz mono in [-1, 1], shape (samples,); rounded to 16 bits, as they are in a sound file.
    Returns:
        float32, shape (N, 13), N = 1 + ceil((samples - 400) / 160): the last window is filled up with zeros. None
        at all for no samples.
    """
    if not len(samples):
        return np.zeros((0, COEFFICIENTS), np.float32)
    windows = max(1, 1 + -(-(len(samples) - WINDOW) // HOP))
    rows = []
    for start in range(0, windows, AT_ONCE):
        stop = min(start + AT_ONCE, windows)
        before = _to_int16(samples[start * HOP - 1 : start * HOP])[0] if start else 0.0
        part = _to_int16(samples[start * HOP : (stop - 1) * HOP + WINDOW])
        rows.append(_features(part, before, stop - start))
    return np.concatenate(rows)


def _to_int16(samples: np.ndarray) -> np.ndarray:
    scaled = np.rint(np.asarray(samples, np.float64) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1)


def _features(samples: np.ndarray, before: float, windows: int) -> np.ndarray:
    """Features of the first windows of samples in integer scale; `before` is the sample that precedes them."""
    emphasised = samples - PRE_EMPHASIS * np.append(before, samples[:-1])
    padded = np.append(emphasised, np.zeros(max(0, (windows - 1) * HOP + WINDOW - len(samples))))
    framed = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:windows]
    power = np.abs(np.fft.rfft(framed, FFT)) ** 2 / FFT
    energy = _avoid_zero(power.sum(1))
    log_mel = np.log(_avoid_zero(power @ _filters().T))
    cepstra = np.asarray(dct(log_mel, type=2, norm="ortho"))[:, :COEFFICIENTS]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra.astype(np.float32)


def _avoid_zero(energy: np.ndarray) -> np.ndarray:
    return np.where(energy == 0, TINY, energy)


@cache
def _filters() -> np.ndarray:
    """Triangles over the power spectrum, evenly spaced in mel from 0 to 8 kHz, shape (26, 257)."""
    highest_mel = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, highest_mel, FILTERS + 2) / 2595) - 1)
    edges = np.floor((FFT + 1) * edges_hz / SAMPLE_RATE)  # whole bins, as the original has them
    bins = np.arange(FFT // 2 + 1)
    low, middle, high = (edges[k : k + FILTERS, None] for k in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.where((bins >= low) & (bins < middle), rising, 0) + np.where((bins >= middle) & (bins < high), falling, 0)
