"""Mel windows are those the networks were trained on, however the recording is cut."""

import numpy as np
import pytest

from models.interfaces import SAMPLES_PER_FRAME
from pipeline.audio import SpeechFile, mel_frames, mel_windows
from tests.media_files import chirps


def reader(samples):
    return lambda first, last: samples[first:last]


def speech_file(path, samples):
    path.write_bytes((samples * 32767).astype("<i2").tobytes())
    return SpeechFile(path)


def slaney(hertz):
    """The mel scale: linear below 1 kHz, logarithmic above."""
    return hertz / (200 / 3) if hertz < 1000 else 15 + np.log(hertz / 1000) * 27 / np.log(6.4)


def direct_mel_frame(samples, number):
    """One mel frame by the formulas: a sum over sines instead of an FFT, triangles from their definition."""
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    at = np.arange(number * 200 - 400, number * 200 + 400)
    inside = np.where((at >= 0) & (at < len(samples)), emphasised[at.clip(0, len(samples) - 1)], 0)
    windowed = inside * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800))
    angles = 2 * np.pi * np.outer(np.arange(401), np.arange(800)) / 800
    magnitude = np.hypot((np.cos(angles) * windowed).sum(1), (np.sin(angles) * windowed).sum(1))
    mels = np.linspace(slaney(55.0), slaney(7600.0), 82)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    hertz = np.arange(401) * 20.0
    levels = []
    for low, middle, high in zip(corners, corners[1:], corners[2:]):
        triangle = np.clip(np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)), 0, None)
        levels.append(20 * np.log10(max(1e-5, (triangle * 2 / (high - low)) @ magnitude)) - 20)
    return np.clip(8 * (np.array(levels) + 100) / 100 - 4, -4, 4)


@pytest.mark.parametrize("number", [0, 1, 37, 159, 160])
def test_mel_frames_follow_the_formulas(number):
    samples = chirps(2.0)
    mels = mel_frames(reader(samples), len(samples), number, number + 1)
    assert np.abs(mels[0] - direct_mel_frame(samples, number)).max() < 1e-4


def test_windows_start_where_the_networks_expect_them():
    samples = chirps(2.0)
    mels = mel_frames(reader(samples), len(samples), 0, 161)
    windows = mel_windows(reader(samples), len(samples), 0, 50)
    for frame, start in ((0, -6), (1, -3), (2, 0), (3, 3), (4, 6), (5, 9), (49, 150)):
        wanted = mels[np.clip(np.arange(start, start + 16), 0, 160)]
        assert np.array_equal(windows[frame], wanted.T), frame


def test_cutting_changes_nothing(tmp_path):
    speech = speech_file(tmp_path / "a.pcm", chirps(3.0))
    whole = speech.mel_windows(0, speech.frames)
    for step in (1, 7, 40):
        pieces = [speech.mel_windows(k, min(k + step, speech.frames)) for k in range(0, speech.frames, step)]
        assert np.array_equal(np.concatenate(pieces), whole)


def test_silence_and_loudness_stay_in_range(tmp_path):
    assert (speech_file(tmp_path / "a.pcm", np.zeros(16_000)).mel_windows(0, 25) == -4).all()
    loud = speech_file(tmp_path / "a.pcm", np.sign(np.sin(np.arange(16_000) / 3))).mel_windows(0, 25)
    assert loud.max() <= 4 and loud.dtype == np.float32


@pytest.mark.parametrize("samples", [0, 639, 640, 1279, 16_000])
def test_frames_and_samples(tmp_path, samples):
    signal = chirps(1.0)[:samples]
    speech = speech_file(tmp_path / "a.pcm", signal)
    assert speech.frames == samples // SAMPLES_PER_FRAME
    assert speech.mel_windows(0, speech.frames).shape == (speech.frames, 80, 16)
    read = speech.samples(0, speech.frames)
    assert read.dtype == np.float32 and np.abs(read - signal[: speech.frames * 640]).max(initial=0) < 1e-4


def test_golden_windows(shared_data):
    path = shared_data.parent / "parity" / "sadtalker" / "mel_frontend.safetensors"
    if not path.exists():
        pytest.skip(f"no golden values at {path}")
    from safetensors.numpy import load_file

    golden = load_file(path)
    for suffix in ("", "_short"):
        frames, kept = golden[f"out.num_frames{suffix}"]
        samples = golden[f"in.wav{suffix}"][:kept]
        windows = mel_windows(reader(samples), int(kept), 0, int(frames))
        assert np.abs(windows - golden[f"out.chunks{suffix}"]).max() <= 1e-6
