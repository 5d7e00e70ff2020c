"""The audio front end of the speech networks: mel windows, 16 kHz in, 25 windows per second out.

The numbers are those of the published audio encoders (Wav2Lip, SadTalker): a network sees exactly what it was
trained on. Everything is computed in float64 and from the samples it needs only, so that a stretch of a long
recording gives the same windows as the whole.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from models.interfaces import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from pipeline.librosa_lock import load_librosa

FFT_SAMPLES = 800  # 50 ms, also the window's length
HOP_SAMPLES = 200  # 12.5 ms
MEL_RATE = SAMPLE_RATE // HOP_SAMPLES  # 80 mel frames per second, 3.2 per video frame
MELS = 80
LOWEST_HZ, HIGHEST_HZ = 55, 7600
PREEMPHASIS = 0.97
REFERENCE_DB = 20  # level that is subtracted
RANGE_DB = 100  # levels from -100 to 0 dB ...
MEL_LIMIT = 4.0  # ... become -4 to 4
WINDOW_MELS = 16  # 0.2 s around a video frame
LEAD_FRAMES = 2  # video frames from a window's start to its frame
QUIETEST = 1e-5  # amplitude, -100 dB


class SpeechFile:
    """Decoded speech on disk: headerless 16 kHz mono s16le. Implements `models.interfaces.Speech`.

    Args:
        path: as written by `pipeline.speech.decode_speech`.
    """

    def __init__(self, path: Path):
        self._path = path
        self._samples = path.stat().st_size // 2 // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME

    @property
    def frames(self) -> int:
        """Number of video frames: floor(samples / 640)."""
        return self._samples // SAMPLES_PER_FRAME

    def samples(self, start: int, stop: int) -> np.ndarray:
        """Samples of frames [start, stop), float32 in [-1, 1), shape ((stop - start) * 640,)."""
        return self._read(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME)

    def mel_windows(self, start: int, stop: int) -> np.ndarray:
        """Mel windows of frames [start, stop), shape (stop - start, 80, 16), float32 in [-4, 4]."""
        return mel_windows(self._read, self._samples, start, stop)

    def _read(self, first: int, last: int) -> np.ndarray:
        # Read, not mapped: mapped pages would count as our memory while hours go by.
        with self._path.open("rb") as file:
            file.seek(first * 2)
            return np.frombuffer(file.read((last - first) * 2), "<i2").astype(np.float32) / 32768


def mel_windows(read: Callable[[int, int], np.ndarray], samples: int, start: int, stop: int) -> np.ndarray:
    """Mel windows of video frames.

    Args:
        read: gives samples [first, last) of the recording, 16 kHz, in [-1, 1].
        samples: length of the recording, a multiple of 640.
        start, stop: video frames.
    Returns:
        shape (stop - start, 80, 16), float32 in [-4, 4]. Windows that reach over an end repeat its mel frame.
    """
    wanted = np.clip(window_starts(start, stop)[:, None] + np.arange(WINDOW_MELS), 0, samples // HOP_SAMPLES)
    if not wanted.size:
        return np.zeros((0, MELS, WINDOW_MELS), np.float32)
    first = int(wanted.min())
    mels = mel_frames(read, samples, first, int(wanted.max()) + 1)
    return mels[wanted - first].transpose(0, 2, 1).copy()


def window_starts(start: int, stop: int) -> np.ndarray:
    """First mel frame of the windows of video frames [start, stop), int64; negative at the recording's start."""
    # int() truncates towards zero, so frame 1 starts at -3, not at -4: the networks learned it so.
    return np.array([int(MEL_RATE * (frame - LEAD_FRAMES) / FPS) for frame in range(start, stop)], np.int64)


def mel_frames(read: Callable[[int, int], np.ndarray], samples: int, first: int, last: int) -> np.ndarray:
    """Mel frames [first, last) of samples // 200 + 1, shape (last - first, 80), float32 in [-4, 4].

    Frame m is centred on sample 200 m; beyond the ends there is silence.
    """
    begin, end = first * HOP_SAMPLES - FFT_SAMPLES // 2, (last - 1) * HOP_SAMPLES + FFT_SAMPLES // 2
    inside_begin, inside_end = max(0, begin), min(samples, end)
    before = max(0, inside_begin - 1)  # pre-emphasis looks one sample back
    signal = read(before, inside_end).astype(np.float64)
    emphasised = signal - PREEMPHASIS * np.concatenate([[0.0], signal[:-1]])
    padded = np.pad(emphasised[inside_begin - before :], (inside_begin - begin, end - inside_end))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES]
    magnitude = np.abs(np.fft.rfft(windows * _hann(), axis=1))
    level_db = 20 * np.log10(np.maximum(QUIETEST, magnitude @ mel_filters().T)) - REFERENCE_DB
    scaled = 2 * MEL_LIMIT * (level_db + RANGE_DB) / RANGE_DB - MEL_LIMIT
    return np.clip(scaled, -MEL_LIMIT, MEL_LIMIT).astype(np.float32)


@cache
def mel_filters() -> np.ndarray:
    """Slaney's triangles of equal area, shape (80, 401), float64 holding float32 values."""
    filters = load_librosa("filters").filters.mel(
        sr=SAMPLE_RATE, n_fft=FFT_SAMPLES, n_mels=MELS, fmin=LOWEST_HZ, fmax=HIGHEST_HZ
    )
    return filters.astype(np.float64)


@cache
def _hann() -> np.ndarray:
    """Periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SAMPLES) / FFT_SAMPLES)
