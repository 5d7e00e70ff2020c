"""What is heard in recordings."""

import numpy as np
import pytest

from pipeline.errors import AudioError
from pipeline.hearing import STRETCH, Hearing, hear
from pipeline.metrics.sync import log_mel
from tests.media_files import RATE, chirps, write_wav


def test_clicks_are_onsets(tmp_path):
    samples = np.zeros(4 * RATE)
    for second in (1.0, 2.0, 3.0):
        samples[int(second * RATE) :][:400] = np.random.default_rng(0).uniform(-0.9, 0.9, 400)
    heard = hear(write_wav(tmp_path / "clicks.wav", samples))
    assert len(heard) == 100
    for click in (25, 50, 75):
        assert np.abs(heard.onsets - click).min() < 1.5
    assert np.abs(heard.onsets[:, None] - [25, 50, 75]).min(1).max() < 3  # and where they end
    assert heard.level.argmax() in (25, 50, 75)


def test_bands_are_those_of_the_samples_and_survive_storage(tmp_path):
    heard = hear(write_wav(tmp_path / "speech.wav", chirps(2)))
    assert heard.bands.shape == (50, 26)
    expected = log_mel(np.rint(chirps(2) * 32768) / 32768)
    assert np.abs(heard.bands - expected)[5:-5].mean() < 0.05
    again = Hearing.loads(heard.dumps())
    np.testing.assert_array_equal(again.bands, heard.bands)
    np.testing.assert_array_equal(again.onsets, heard.onsets)


def test_stretches_join(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "speech.wav", chirps(4))
    whole = hear(path)
    monkeypatch.setattr("pipeline.hearing.STRETCH", 50)
    pieces = hear(path)
    assert len(pieces) == len(whole) < STRETCH
    assert np.abs(pieces.bands - whole.bands).max(1)[[10, 40, 60, 90]].max() < 1e-6


def test_no_sound_is_the_inputs_fault(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError):
        hear(tmp_path / "text.wav")
