"""Small media files that tests make for themselves."""

import subprocess
import wave
from pathlib import Path

import numpy as np

from pipeline import ffmpeg

RATE = 16_000


def chirps(seconds: float, rate: int = RATE) -> np.ndarray:
    """Something voice-like: harmonics on a gliding pitch, four syllables per second, float64 in [-1, 1]."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * 120 * time - 30 / 0.9 * np.cos(2 * np.pi * 0.9 * time)
    formant = 1 + np.sin(2 * np.pi * 2.0 * time)
    tone = sum(np.sin(k * phase) * np.exp(-np.square(k * 0.12 - formant)) for k in range(1, 25))
    return 0.04 * np.clip(np.sin(2 * np.pi * 2.0 * time), 0, 1) ** 0.5 * tone


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """16-bit WAV of samples (n,) or (n, channels) in [-1, 1]."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    return path


def write_float_wav(path: Path, samples: np.ndarray) -> Path:
    """32-bit float WAV at 16 kHz, whatever the samples hold."""
    return convert(samples.astype("<f4").tobytes(), ["-f", "f32le", "-ar", "16000", "-ac", "1"], path, "pcm_f32le")


def convert(data: bytes, reading: list[str], path: Path, codec: str) -> Path:
    """Raw bytes through ffmpeg into a file."""
    arguments = [*reading, "-i", "pipe:0", "-c:a", codec, "-y", str(path)]
    subprocess.run(ffmpeg.command("-v", "error", *arguments), input=data, check=True)
    return path


def sound_of(path: Path, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Decoded sound track, float32, shape (n, channels)."""
    arguments = [*ffmpeg.source(path), "-map", "0:a:0", "-ac", str(channels), "-ar", str(rate), "-f", "f32le", "pipe:1"]
    done = subprocess.run(ffmpeg.command("-v", "error", *arguments), check=True, stdout=subprocess.PIPE)
    return np.frombuffer(done.stdout, "<f4").reshape(-1, channels)


def moving_bar(frames: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frames whose bright bar tells their number, uint8, shape (frames, height, width, 3)."""
    shown = np.full((frames, height, width, 3), 60, np.uint8)
    shown[..., 0] += np.linspace(0, 90, width).astype(np.uint8)
    for number in range(frames):
        start = 4 * number % (width - 8)
        shown[number, :, start : start + 8] = 230
    return shown
