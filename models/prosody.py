"""What a mouth can follow in a voice without understanding it: how open, how wide, how loud, when silent.

Levels of a few frequency bands, taken at 100 Hz, smoothed without delay, compared with what this very speaker does
on average. Open vowels are strong around their first formant (650-900 Hz), spread ones around the second formant
of "ee" (1.8-3.5 kHz), rounded ones have theirs near 1 kHz; a strong band below 450 Hz alone means a nearly closed
mouth (m, n, u). Against mouths measured in real videos the opening correlates with 0.54 and 0.31 (read sentences,
free speech; loudness alone: 0.45 and 0.2), the width with 0.37.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.interfaces import SAMPLE_RATE, SAMPLES_PER_FRAME, Speech

HOP = 160  # samples, 10 ms
HOPS_PER_FRAME = SAMPLES_PER_FRAME // HOP
WINDOW = 400  # samples, 25 ms
FFT = 512
PREEMPHASIS = 0.9
BANDS_HZ = ((100, 450), (650, 900), (900, 1300), (1800, 3500), (100, 5000))
LOUDNESS = 4  # index of the band that holds the whole voice
OPENING_WEIGHTS = np.array([-0.4, 0.5, 0.0, 0.5])  # of the first four bands, in standard deviations
WIDTH_WEIGHTS = np.array([-0.35, 0.15, -0.35, 0.45])
OPENING_SMOOTHING, WIDTH_SMOOTHING, GATE_SMOOTHING = 3.0, 4.0, 4.0  # standard deviations, hops
EMPHASIS_SMOOTHING = 5.0  # standard deviation, frames
STRETCH_FRAMES = 250  # read at a time: ten seconds
QUIETEST = 1e-10  # power, -100 dB of full scale
DEPTH_DB = 50  # levels this far below the voice's loud parts count the same

SILENT_DB = -85  # dB of full scale, after pre-emphasis: below this nobody speaks
GATE_ABOVE_FLOOR_DB = 4  # the mouth opens from this far above the background ...
GATE_DB = (-40, -8)  # ... but at a level between these, relative to the loud parts ...
GATE_RANGE_DB = 7  # ... and fully, this much higher
HABIT_FRAMES = 25 * 30  # a speaker's averages are taken over this much time around each frame ...
PRIOR_FRAMES = 25 * 3  # ... plus the whole recording's, weighing as much as this
LEAST_SPREAD_DB = 2.0  # added to the deviation of levels: a steady tone is no vowel change ...
LEAST_SPREAD = 0.25  # ... and to that of opening and width


@dataclass(frozen=True)
class Prosody:
    """Per frame, T of them, float64.

    Args:
        opening: how open the mouth is against this speaker's average, standard deviations; shape (T,).
        width: how spread (> 0) or rounded (< 0) the lips are, the same way; shape (T,).
        voice: 0 in silence, 1 while speaking, shape (T,).
        emphasis: slow rise and fall of the loudness, standard deviations, 0 in silence; shape (T,).
    """

    opening: np.ndarray
    width: np.ndarray
    voice: np.ndarray
    emphasis: np.ndarray


def listen(speech: Speech) -> Prosody:
    """Read speech stretch by stretch; holds some numbers per frame, never the sound."""
    starts = range(0, speech.frames, STRETCH_FRAMES)
    levels = np.concatenate([_levels(speech, start, min(start + STRETCH_FRAMES, speech.frames)) for start in starts])
    loud_db = _loud_part(levels[:, LOUDNESS])
    # Below the voice all is equally silent; deeper values would pull down what is near them in the smoothing.
    np.maximum(levels, loud_db - DEPTH_DB, out=levels)
    for_opening, for_width = (gaussian_filter1d(levels, s, axis=0) for s in (OPENING_SMOOTHING, WIDTH_SMOOTHING))
    voice = _per_frame(_gate(for_opening[:, LOUDNESS], loud_db))
    speaking = voice > 0.5
    by_opening, by_width = (_against_habit(_per_frame(x), speaking, LEAST_SPREAD_DB) for x in (for_opening, for_width))
    opening = _against_habit(by_opening[:, :LOUDNESS] @ OPENING_WEIGHTS, speaking, LEAST_SPREAD)
    width = _against_habit(by_width[:, :LOUDNESS] @ WIDTH_WEIGHTS, speaking, LEAST_SPREAD)
    loudness = by_opening[:, LOUDNESS].clip(-2, 2) * voice
    emphasis = gaussian_filter1d(loudness, EMPHASIS_SMOOTHING, mode="nearest") * voice
    return Prosody(opening, width, voice, emphasis)


def _levels(speech: Speech, start: int, stop: int) -> np.ndarray:
    """Band levels of frames [start, stop), dB of full scale, shape (hops, 5), float32."""
    # A frame more on either side: windows are longer than hops, and pre-emphasis looks back.
    first, last = max(0, start - 1), min(speech.frames, stop + 1)
    samples = speech.samples(first, last).astype(np.float64)
    samples[1:] -= PREEMPHASIS * samples[:-1]
    margin = (WINDOW - HOP) // 2  # windows are centred on their hop
    padded = np.pad(samples, (margin, WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    taper = np.hanning(WINDOW)
    inside = windows[(start - first) * HOPS_PER_FRAME : (stop - first) * HOPS_PER_FRAME]
    power = np.abs(np.fft.rfft(inside * taper, FFT)) ** 2 / (np.sum(taper**2) * FFT / 2)
    edges = [[round(hz * FFT / SAMPLE_RATE) for hz in band] for band in BANDS_HZ]
    bands = np.stack([power[:, low:high].sum(1) for low, high in edges], axis=1)
    return (10 * np.log10(bands + QUIETEST)).astype(np.float32)


def _loud_part(loudness: np.ndarray) -> float:
    """Level of the loud parts, dB: the mean power, weighted by itself, so that pauses don't count."""
    power = 10 ** (loudness.astype(np.float64) / 10)
    return float(10 * np.log10(np.square(power).sum() / power.sum()))


def _gate(loudness: np.ndarray, loud_db: float) -> np.ndarray:
    """0 in silence, 1 in speech, with soft flanks; shape (hops,)."""
    background = float(np.percentile(loudness, 3))
    low = np.clip(background + GATE_ABOVE_FLOOR_DB, loud_db + GATE_DB[0], loud_db + GATE_DB[1])
    low = max(low, SILENT_DB)
    rise = np.clip((loudness - low) / GATE_RANGE_DB, 0, 1)
    return gaussian_filter1d(rise * rise * (3 - 2 * rise), GATE_SMOOTHING, mode="nearest")


def _per_frame(values: np.ndarray) -> np.ndarray:
    """Mean of each frame's four hops, which lie symmetrically about its middle."""
    return values.reshape(-1, HOPS_PER_FRAME, *values.shape[1:]).mean(1, dtype=np.float64)


def _against_habit(values: np.ndarray, speaking: np.ndarray, least: float) -> np.ndarray:
    """Values (T, ...) as deviations from their mean while speaking, in standard deviations, both drifting slowly.

    `least` is added to the standard deviation.
    """
    weight = speaking.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1))
    if not weight.any():
        return np.zeros_like(values)
    mean = (values * weight).sum(0) / weight.sum()
    variance = (np.square(values - mean) * weight).sum(0) / weight.sum()
    near = _windowed(weight) + PRIOR_FRAMES
    local_mean = _windowed((values - mean) * weight) / near  # about the whole recording's mean
    local_square = (_windowed(np.square(values - mean) * weight) + PRIOR_FRAMES * variance) / near
    spread = np.sqrt(np.maximum(local_square - local_mean**2, 0))
    return np.clip((values - mean - local_mean) / (spread + least), -4, 4)


def _windowed(values: np.ndarray) -> np.ndarray:
    """Sums over a window of HABIT_FRAMES around each frame, cut at the ends."""
    frames = len(values)
    sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    middle = np.arange(frames)
    return sums[np.minimum(middle + HABIT_FRAMES // 2, frames)] - sums[np.maximum(middle - HABIT_FRAMES // 2, 0)]
