"""Inputs that need no download: a portrait that an installed package ships, and a sound that moves like speech."""

import wave
from pathlib import Path

import numpy as np

RATE = 16_000  # Hz
SYLLABLE_S = 0.22
BLOCK_S = 60  # generated at a time, so that an hour takes the memory of a minute


def write_portrait(path: Path, side_px: int = 512) -> None:
    """Write scikit-image's astronaut."""
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).resize((side_px, side_px), Image.Resampling.LANCZOS).save(path)


def write_speech(path: Path, seconds: float, seed: int = 0) -> None:
    """Write a WAV of harmonics whose loudness and timbre change by the syllable, with pauses between phrases."""
    generator = np.random.default_rng(seed)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        left = round(seconds * RATE)
        while left > 0:
            count = min(left, BLOCK_S * RATE)
            file.writeframes(_babble(count, generator).astype("<i2").tobytes())
            left -= count


def _babble(count: int, generator: np.random.Generator) -> np.ndarray:
    time_s = np.arange(count) / RATE
    syllable = (time_s / SYLLABLE_S).astype(int)
    loudness = generator.uniform(0.2, 1, syllable[-1] + 1)
    loudness[generator.random(len(loudness)) < 0.15] = 0.01
    tilt = generator.uniform(0.8, 2.0, len(loudness))[syllable]
    envelope = loudness[syllable] * np.sin(np.pi * (time_s / SYLLABLE_S % 1)) ** 0.7
    pitch = np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.4 * time_s)) / RATE
    voice = sum(np.sin(2 * np.pi * harmonic * pitch) / harmonic**tilt for harmonic in range(1, 20))
    return 6000 * envelope * voice
