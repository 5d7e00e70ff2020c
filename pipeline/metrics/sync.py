"""Do lips and sound belong together? Measures that need no network.

Mouth: opening and width per frame, over the face's height. Sound: 26 log-mel bands per frame. Both lose their
running mean of 2 s, so that neither a smile nor a loud microphone counts. The probe predicts the mouth from the
sound, linearly; how well the prediction fits, shifted by k frames, is the curve that scores and lags are read from.

Signs: a positive lag says that the sound is late against the lips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter1d

from models.interfaces import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from pipeline.librosa_lock import load_librosa

WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "weights" / "sync" / "probe.npz"

BANDS = 26
LOWEST_HZ, HIGHEST_HZ = 60, 7600
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms; four windows per video frame
FLOOR = 1e-7  # power below which a band is silent
VOICE_BAND_HZ = (200, 3500)
LEVEL_FLOOR = 1e-4  # amplitude
DRIFT_FRAMES = 2 * FPS + 1  # running mean that is taken out
SMOOTH_FRAMES = 3
CONTEXT = 4  # frames of sound to either side that the probe hears
SHIFTS = 15  # frames to either side
NEAR_SHIFTS = 5  # where the loudness correlation may peak
LEAST_FRAMES = 50  # below, a curve over 31 shifts is noise
SILENT_BELOW_DB = 35.0  # of the loud parts
LEAST_SILENCE_FRAMES = 5
BILABIALS = ("p", "b", "m")
BEFORE_S, AFTER_S = 0.08, 0.04  # around a closure in which lips may meet
CLOSED_PERCENTILE, OPEN_PERCENTILE, CLOSED_SHARE = 15, 80, 0.25


# ---- signals


def mouth_signals(landmarks: np.ndarray) -> np.ndarray:
    """Opening |p62 - p66| and width |p48 - p54| over the face's height |p27 - p8|, smoothed over 3 frames.

    Args:
        landmarks: shape (T, 68, 2); frames without a face (NaN) are bridged.
    Returns:
        shape (T, 2), NaN everywhere if there is no face at all.
    """
    pairs = np.array([(62, 66), (48, 54), (27, 8)])
    apart = np.linalg.norm(landmarks[:, pairs[:, 0]] - landmarks[:, pairs[:, 1]], axis=-1)
    seen = np.isfinite(apart[:, 0])
    if not seen.any():
        return np.full((len(apart), 2), np.nan)
    frames = np.arange(len(apart))
    apart = np.stack([np.interp(frames, frames[seen], column[seen]) for column in apart.T], 1)
    return _smooth(apart[:, :2] / apart[:, 2:], SMOOTH_FRAMES)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log power of 26 mel bands (60..7600 Hz) per video frame, the mean of four windows of 25 ms.

    Args:
        samples: 16 kHz mono, shape (T * 640,), in [-1, 1]; what doesn't fill a frame is left out.
    Returns:
        shape (T, 26).
    """
    frames = len(samples) // SAMPLES_PER_FRAME
    per_frame = SAMPLES_PER_FRAME // HOP
    padded = np.pad(np.asarray(samples[: frames * SAMPLES_PER_FRAME], np.float64), (WINDOW - HOP) // 2)
    if frames == 0:
        return np.zeros((0, BANDS))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: frames * per_frame]
    power = np.empty((frames, BANDS))
    for first in range(0, frames, 500):  # twenty seconds at a time: the spectra are fifty times as large as the bands
        part = windows[first * per_frame : (first + 500) * per_frame]
        spectrum = np.square(np.abs(np.fft.rfft(part * np.hanning(WINDOW), FFT))) / WINDOW
        power[first : first + 500] = (spectrum @ _mel_filters().T).reshape(-1, per_frame, BANDS).mean(1)
    return np.log(FLOOR + power)


def voice_level(samples: np.ndarray) -> np.ndarray:
    """Level of the band 200..3500 Hz per video frame: log(1e-4 + rms), natural, shape (T,)."""
    frames = len(samples) // SAMPLES_PER_FRAME
    blocks = np.asarray(samples[: frames * SAMPLES_PER_FRAME], np.float64).reshape(frames, SAMPLES_PER_FRAME)
    spectrum = np.fft.rfft(blocks, axis=1)
    hertz = np.fft.rfftfreq(SAMPLES_PER_FRAME, 1 / SAMPLE_RATE)
    band = (hertz >= VOICE_BAND_HZ[0]) & (hertz <= VOICE_BAND_HZ[1])
    rms = np.sqrt(2 * np.square(np.abs(spectrum[:, band])).sum(1)) / SAMPLES_PER_FRAME
    return np.log(LEVEL_FLOOR + rms)


@cache
def _mel_filters() -> np.ndarray:
    return load_librosa("filters").filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=BANDS, fmin=LOWEST_HZ, fmax=HIGHEST_HZ)


def _smooth(values: np.ndarray, frames: int) -> np.ndarray:
    return uniform_filter1d(values, frames, axis=0, mode="nearest")


def normalise(values: np.ndarray) -> np.ndarray:
    """Running mean of 2 s taken out, unit variance per column; columns that don't vary are 0."""
    values = values - _smooth(values, DRIFT_FRAMES)
    spread = values.std(0)
    return values / np.where(spread > 1e-9, spread, np.inf)


# ---- the curve over shifts


@dataclass(frozen=True)
class Sync:
    """What a curve over shifts says.

    Args:
        score: correlation without a shift, -1..1.
        confidence: the curve's maximum over its median (of the shape of LSE-C); about 0 for sound of another clip.
        best: the curve's maximum.
        lag: frames at the maximum; positive when the sound is late.
    """

    score: float
    confidence: float
    best: float
    lag: float


UNDEFINED = Sync(*[float("nan")] * 4)


def shifted_correlation(heard: np.ndarray, seen: np.ndarray, shifts: int = SHIFTS) -> np.ndarray:
    """Mean over channels of Pearson(seen_t, heard_{t+k}) for k = -shifts..shifts, shape (2 shifts + 1,).

    Args:
        heard, seen: shape (T, C), of one length. Channels that don't vary correlate by 0.
    """
    frames, curve = len(seen), []
    for k in range(-shifts, shifts + 1):
        a, b = heard[max(0, k) : frames + min(0, k)], seen[max(0, -k) : frames + min(0, -k)]
        a, b = a - a.mean(0), b - b.mean(0)
        spread = np.sqrt((a**2).sum(0) * (b**2).sum(0))
        curve.append(((a * b).sum(0) / np.where(spread > 1e-12, spread, np.inf)).mean())
    return np.array(curve)


def read_curve(curve: np.ndarray, within: int = SHIFTS) -> Sync:
    """Score, confidence and lag of a curve over shifts, its maximum sought within some frames of 0."""
    middle = len(curve) // 2
    near = curve[middle - within : middle + within + 1]
    lag = int(near.argmax()) - within
    return Sync(float(curve[middle]), float(near.max() - np.median(curve)), float(near.max()), float(lag))


def loudness_sync(mouth: np.ndarray, level: np.ndarray) -> Sync:
    """AV-corr and lag: correlation of the opening with the voice's level. Cheap and weak; a smoke test, not a score.

    Args:
        mouth: shape (T, 2), of `mouth_signals`.
        level: shape (T',), of `voice_level`; the shorter one counts.
    """
    frames = min(len(mouth), len(level))
    if frames < LEAST_FRAMES or not np.isfinite(mouth[:frames]).all():
        return UNDEFINED
    seen, heard = normalise(mouth[:frames, :1]), normalise(level[:frames, None])
    curve = shifted_correlation(heard, seen)
    return read_curve(curve, NEAR_SHIFTS) if curve.any() else UNDEFINED


# ---- the probe


@dataclass(frozen=True)
class Probe:
    """A linear map from sound to the mouth.

    Args:
        weights: shape (9 * 26, 4): bands of frames t - 4 .. t + 4 to opening, width and the changes of both.
    """

    weights: np.ndarray

    @classmethod
    @cache
    def load(cls) -> "Probe":
        """The shipped one; made by `python -m scripts.fit_sync_probe`."""
        with np.load(WEIGHTS) as data:
            return cls(data["weights"].astype(np.float64))

    def curve(self, mouth: np.ndarray, bands: np.ndarray) -> np.ndarray:
        """Mean correlation of predicted and seen opening, width and their changes, for shifts of -15..15 frames.

        Args:
            mouth: shape (T, 2), of `mouth_signals`.
            bands: shape (T', 26), of `log_mel`; the shorter one counts.
        Returns:
            shape (31,), NaN for less than 2 s or without a face.
        """
        frames = min(len(mouth), len(bands))
        if frames < LEAST_FRAMES or not np.isfinite(mouth[:frames]).all():
            return np.full(2 * SHIFTS + 1, np.nan)
        return shifted_correlation(sound_context(bands[:frames]) @ self.weights, mouth_targets(mouth[:frames]))

    def sync(self, mouth: np.ndarray, bands: np.ndarray) -> Sync:
        """The default sync score: how well the mouth follows the sound, and the lag.

        Undefined (NaN) where there is no curve, or nothing moves or sounds.
        """
        curve = self.curve(mouth, bands)
        return read_curve(curve) if np.isfinite(curve).all() and curve.any() else UNDEFINED


def mouth_targets(mouth: np.ndarray) -> np.ndarray:
    """Opening, width and their changes per frame, normalised: shape (T, 2) -> (T, 4)."""
    return normalise(np.concatenate([mouth, np.gradient(mouth, axis=0)], 1))


def sound_context(bands: np.ndarray) -> np.ndarray:
    """Normalised bands of the frames t - 4 .. t + 4, the ends repeated: shape (T, 26) -> (T, 9 * 26)."""
    padded = np.pad(normalise(bands), ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(bands)] for k in range(2 * CONTEXT + 1)], 1)


# ---- closures


def silence_closure(opening: np.ndarray, level: np.ndarray) -> float:
    """Mean opening in silence over the 80th percentile of the opening in speech; real 0.1..0.4, talking on above 0.7.

    Silence: at least 0.2 s whose voice level is 35 dB or more below the 95th percentile.

    Args:
        opening: shape (T,), not normalised.
        level: shape (T',), of `voice_level`.
    Returns:
        NaN without silence or without speech.
    """
    frames = min(len(opening), len(level))
    opening, level = opening[:frames], level[:frames]
    if frames == 0 or not np.isfinite(opening).all():
        return float("nan")
    silent = find_silence(level)
    if not silent.any() or silent.all():
        return float("nan")
    loud = np.percentile(opening[~silent], OPEN_PERCENTILE)
    return float(opening[silent].mean() / loud) if loud > 0 else float("nan")


def find_silence(level: np.ndarray) -> np.ndarray:
    """Frames of silence, at least 5 in a row, of voice levels (T,); bool, shape (T,)."""
    quiet = level < np.percentile(level, 95) - SILENT_BELOW_DB * np.log(10) / 20
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    silent = np.zeros(len(level), bool)
    for first, last in zip(edges[::2], edges[1::2]):
        silent[first:last] = last - first >= LEAST_SILENCE_FRAMES
    return silent


def bilabial_closure(opening: np.ndarray, phones: Sequence[tuple[float, float, str]]) -> float:
    """BCR: share of /p b m/ during which the lips meet; real 0.8..0.95.

    A hit: the smallest opening in [start - 0.08, end + 0.04] s is below the 15th percentile of the opening, or below a
    quarter of its 80th percentile.

    Args:
        opening: over speech, shape (T,), 25 fps.
        phones: (start in s, end in s, phone) of a forced alignment or a synthesiser.
    Returns:
        NaN without such phones or without a face. Compare with `closure_by_chance`.
    """
    spans = [(start, end) for start, end, phone in phones if phone.lower() in BILABIALS]
    return _closed_share(opening, spans)


def closure_by_chance(
    opening: np.ndarray, phones: Sequence[tuple[float, float, str]], rng: np.random.Generator, rounds: int = 20
) -> float:
    """What `bilabial_closure` gives for as many spans of the same lengths at random instants."""
    spans = [(start, end) for start, end, phone in phones if phone.lower() in BILABIALS]
    length_s = len(opening) / FPS
    moved = []
    for _ in range(rounds):
        for start, end in spans:
            begin = rng.uniform(0, max(1e-6, length_s - (end - start)))
            moved.append((begin, begin + end - start))
    return _closed_share(opening, moved)


def _closed_share(opening: np.ndarray, spans: list[tuple[float, float]]) -> float:
    if not len(opening) or not np.isfinite(opening).all():
        return float("nan")
    limit = max(np.percentile(opening, CLOSED_PERCENTILE), CLOSED_SHARE * np.percentile(opening, OPEN_PERCENTILE))
    smallest = []
    for start, end in spans:
        first, last = int(np.floor((start - BEFORE_S) * FPS)), int(np.ceil((end + AFTER_S) * FPS))
        window = opening[max(0, first) : last + 1]
        if len(window):
            smallest.append(window.min())
    return float(np.mean(np.array(smallest) < limit)) if smallest else float("nan")
