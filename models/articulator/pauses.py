"""When a mouth rests: pauses of a voice, told by its level.

Lips hardly follow loudness: people leave them parted between words, and set out before they are heard. A mouth that
shuts in every dip of the voice shuts at the wrong time (correlations of the opening .02 lower): only silence counts.
"""

import numpy as np
from scipy.ndimage import binary_closing, binary_opening

from models.interfaces import SAMPLE_RATE, SAMPLES_PER_FRAME, Speech

VOICE_BAND_HZ = (200, 3500)
LEAST_AMPLITUDE = 1e-4
LOUD_PERCENTILE = 95
SILENT_DB = 35  # below the loud parts
LEAST_SILENCE = 5  # frames: shorter dips are within words, such as the closures of p and t
LEAST_VOICE = 0.2  # in a loud background, which is never silent, nobody speaks below ...
PAUSE_FRAMES = 6  # ... unless it is for so short a time
STRETCH_FRAMES = 500  # read at a time


def find_speech(speech: Speech, voice: np.ndarray) -> np.ndarray:
    """Frames at which a mouth has something to do, bool, shape (T,).

    Args:
        speech: T frames.
        voice: 0 in silence, 1 while speaking (`models.prosody.Prosody.voice`), shape (T,).
    """
    starts = range(0, speech.frames, STRETCH_FRAMES)
    levels = np.concatenate([_level_db(speech.samples(at, min(at + STRETCH_FRAMES, speech.frames))) for at in starts])
    quiet = levels < np.percentile(levels, LOUD_PERCENTILE) - SILENT_DB
    silent = np.asarray(binary_opening(quiet, np.ones(LEAST_SILENCE)), bool)
    return _without_gaps(voice > LEAST_VOICE) & ~silent


def _level_db(samples: np.ndarray) -> np.ndarray:
    """Level of the voice's band, dB of full scale, shape (T,)."""
    spectrum = np.abs(np.fft.rfft(samples.reshape(-1, SAMPLES_PER_FRAME), axis=1))
    low, high = (round(hz * SAMPLES_PER_FRAME / SAMPLE_RATE) for hz in VOICE_BAND_HZ)
    rms = np.sqrt(2 * np.square(spectrum[:, low : high + 1]).sum(1)) / SAMPLES_PER_FRAME
    return 20 * np.log10(LEAST_AMPLITUDE + rms)


def _without_gaps(speaking: np.ndarray) -> np.ndarray:
    """Speech with its short pauses filled, bool, shape (T,)."""
    filled = binary_closing(np.pad(speaking, PAUSE_FRAMES), np.ones(PAUSE_FRAMES))
    return filled[PAUSE_FRAMES : PAUSE_FRAMES + len(speaking)]
