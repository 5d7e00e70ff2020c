"""Does a recording contain speech? A cheap measure for a warning, never a reason to refuse.

What tells a voice from music, noise and machines here is its pitch: it glides. Notes, tones and hums hold or
jump; noise has none. A share of the sounding time spent gliding decides, together with how fast the spectrum
changes when the share is small (bowed strings, rumble).
"""

import numpy as np

from models.interfaces import SAMPLE_RATE

WINDOW = 512  # samples, 32 ms: two periods of the lowest voice
HOP = 160  # samples, 10 ms
FFT = 1024
LOWEST_HZ, HIGHEST_HZ = 70, 400  # pitch of human voices
VOICE_BAND_HZ = (100, 4000)  # levels are judged here: rumble and hiss don't count
PITCH_BAND_HZ = 3000  # periodicity is judged below this
BAND_EDGES_HZ = (100, 200, 300, 420, 560, 740, 960, 1240, 1600, 2050, 2600, 3300, 4200, 5400)  # about equal in pitch
SMOOTHING = 5  # hops over which band levels are averaged
STRIDE = 8  # hops between the spectra that are compared, 80 ms: less than a syllable
RANGE_DB = 45  # band levels this far below the loudest sound count as silence

SOUNDING_DB = 25  # hops less than this below the loudest are sounding
VOICED = 0.6  # normalised autocorrelation from which a hop is periodic
GLIDE_OCTAVES = (0.004, 0.08)  # change of pitch between hops: more than held, less than a jump
# Set by 180 recordings of speech, also noisy, sung or shouted: shares of 0.14 to 0.7, and those below 0.25 change by
# 5 dB and more. Noise, tones, bird song and trumpet have shares up to 0.06, strings and room rumble 0.22 at 3.5 dB.
GLIDING_SHARE = 0.12
CERTAIN_SHARE = 0.235
CHANGE_DB = 4.5
FEWEST_HOPS = 16  # shorter recordings can't be judged


class VoiceMeter:
    """Fed with a recording piece by piece, tells at the end whether it has speech in it.

    Args:
        loudness_db: level of the loud parts, dB of full scale.
    """

    def __init__(self, loudness_db: float):
        self._floor_db = loudness_db - RANGE_DB
        self._rest = np.zeros(0, np.float32)  # samples that don't fill a window yet
        self._level: list[np.ndarray] = []  # dB per hop
        self._period: list[np.ndarray] = []  # samples per hop, 0 where not periodic
        self._bands: np.ndarray = np.zeros((0, len(BAND_EDGES_HZ) - 1), np.float32)  # the last few hops' levels
        self._change: list[np.ndarray] = []  # dB per hop, from STRIDE hops before
        frequency = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
        edges = np.asarray(BAND_EDGES_HZ)
        self._filters = ((frequency >= edges[:-1, None]) & (frequency < edges[1:, None])).T.astype(np.float32)
        self._voice_band = ((frequency >= VOICE_BAND_HZ[0]) & (frequency <= VOICE_BAND_HZ[1])).astype(np.float32)
        self._pitch_band = (frequency <= PITCH_BAND_HZ).astype(np.float32)
        self._window = np.hanning(WINDOW).astype(np.float32)
        taper = np.correlate(self._window, self._window, "full")[WINDOW - 1 :]
        self._taper = taper / taper[0]
        self._scale = float(np.sum(self._window**2)) * FFT / 2  # a spectrum's sum over this is mean power

    def add(self, samples: np.ndarray) -> None:
        """The next samples: 16 kHz, float32 in [-1, 1], any number."""
        samples = np.concatenate([self._rest, samples])
        hops = max(0, (len(samples) - WINDOW) // HOP + 1)
        self._rest = samples[hops * HOP :]
        if hops == 0:
            return
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP][:hops]
        spectrum = np.abs(np.fft.rfft(windows * self._window, FFT)) ** 2
        self._level.append(_decibels(spectrum @ self._voice_band / self._scale))
        self._period.append(self._periods(spectrum))
        self._add_bands(np.maximum(_decibels(spectrum @ self._filters / self._scale), self._floor_db))

    def has_voice(self) -> bool:
        """Whether it sounds like speech; True also for what is too short to tell."""
        level = np.concatenate([*self._level, np.zeros(0)])
        if len(level) < FEWEST_HOPS:
            return True
        sounding = level > np.percentile(level, 95) - SOUNDING_DB
        period = np.where(sounding, np.concatenate(self._period), 0)
        both = (period[1:] > 0) & (period[:-1] > 0)
        step = np.abs(np.diff(np.log2(np.maximum(period, 1))))
        gliding = both & (step > GLIDE_OCTAVES[0]) & (step < GLIDE_OCTAVES[1])
        share = gliding.sum() / sounding.sum()
        change = np.concatenate([*self._change, np.zeros(0)])
        about = sounding[SMOOTHING + STRIDE - 1 :] | sounding[: -(SMOOTHING + STRIDE - 1)]
        speed_db = float(change[about].mean()) if about.any() else 0.0
        return bool(share > CERTAIN_SHARE or (share > GLIDING_SHARE and speed_db > CHANGE_DB))

    def _periods(self, spectrum: np.ndarray) -> np.ndarray:
        shortest, longest = SAMPLE_RATE // HIGHEST_HZ, SAMPLE_RATE // LOWEST_HZ
        likeness = np.fft.irfft(spectrum * self._pitch_band)[:, : longest + 1]
        energy = np.maximum(likeness[:, :1], 1e-12)
        likeness = likeness[:, shortest:] / energy / self._taper[shortest : longest + 1]
        best = likeness.argmax(1)
        return np.where(likeness.max(1) > VOICED, best + shortest, 0)

    def _add_bands(self, levels: np.ndarray) -> None:
        """Compare smoothed band levels STRIDE hops apart, across the joints of the pieces, too."""
        levels = np.concatenate([self._bands, levels])
        context = SMOOTHING + STRIDE - 1
        self._bands = levels[-context:]
        if len(levels) <= context:
            return
        sums = np.cumsum(np.concatenate([np.zeros_like(levels[:1]), levels]), axis=0)
        smooth = (sums[SMOOTHING:] - sums[:-SMOOTHING]) / SMOOTHING
        self._change.append(np.abs(smooth[STRIDE:] - smooth[:-STRIDE]).mean(1))


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 1e-12)
