"""What the mouth follows: silence is silence, and nothing comes early, late or depends on how the file is read."""

import numpy as np
import pytest

from models import prosody
from models.prosody import listen
from tests.models.voices import Voice, vowel


def test_silence_has_no_voice():
    for signal in (np.zeros(32_000), 2e-5 * np.random.default_rng(0).standard_normal(32_000)):
        heard = listen(Voice(signal))
        assert heard.voice.max() == 0 and np.abs(heard.emphasis).max() == 0
        assert heard.opening.shape == (50,)


def test_voice_is_in_time():
    signal = np.zeros(48_000)
    signal[16_000:32_000] = vowel("a", 1.0)
    voice = listen(Voice(signal)).voice
    speaking = np.flatnonzero(voice > 0.5)
    assert speaking[0] in (24, 25) and speaking[-1] in (49, 50)
    assert voice[30:45].min() > 0.9
    assert voice[:21].max() < 0.05 and voice[55:].max() < 0.05  # shut within 200 ms


@pytest.mark.parametrize("gain", [0.3, 2.0])
def test_loudness_of_the_recording_does_not_matter(gain):
    signal = np.tile(np.concatenate([vowel("a", 0.3), vowel("m", 0.2), np.zeros(3200)]), 6)
    first, second = listen(Voice(signal)), listen(Voice(gain * signal))
    assert np.abs(first.opening - second.opening)[first.voice > 0.5].max() < 0.02
    assert np.abs(first.voice - second.voice).max() < 0.05


def test_vowels_are_told_apart():
    signal = np.concatenate([vowel(name, 0.4) for name in "aimu"] * 4)
    heard = listen(Voice(signal))
    opening, width = (x.reshape(4, 4, 10)[:, :, 2:-2].mean((0, 2)) for x in (heard.opening, heard.width))
    a, i, m, u = range(4)
    assert opening[a] > opening[u] + 0.5 and opening[a] > opening[m] + 0.5
    assert width[i] > width[a] and width[i] > width[u] + 0.5


def test_noise_behind_a_voice_is_not_a_voice():
    signal = np.zeros(96_000)
    for start in range(8000, 96_000, 24_000):
        signal[start : start + 8000] = vowel("a", 0.5)
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(signal))
    voice = listen(Voice(signal + noise)).voice
    speaking = np.repeat(np.abs(signal).reshape(-1, 640).max(1) > 0, 1)
    assert voice[speaking].mean() > 0.85 and voice[~speaking].mean() < 0.15


def test_stretches_fit_together(monkeypatch):
    signal = np.tile(np.concatenate([vowel("a", 0.31), vowel("i", 0.17), np.zeros(2880)]), 8)
    whole = listen(Voice(signal))
    monkeypatch.setattr(prosody, "STRETCH_FRAMES", 13)
    pieces = listen(Voice(signal))
    for name in ("opening", "width", "voice", "emphasis"):
        assert np.abs(getattr(whole, name) - getattr(pieces, name)).max() < 1e-9


@pytest.mark.parametrize("frames", [1, 2, 3, 20])
def test_short_recordings(frames):
    heard = listen(Voice(vowel("a", 1.0)[: frames * 640]))
    assert len(heard.voice) == frames and np.isfinite(heard.opening).all() and np.isfinite(heard.width).all()


def test_a_change_of_level_within_an_hour_is_followed():
    words = np.tile(np.concatenate([vowel("a", 0.3), vowel("m", 0.2), np.zeros(4800)]), 100)
    opening = listen(Voice(np.concatenate([words, 0.3 * words]))).opening
    half = len(opening) // 2
    assert abs(opening[: half - 400].mean() - opening[half + 400 :].mean()) < 0.3
