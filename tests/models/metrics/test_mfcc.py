"""MFCC of SyncNet: against a plain rewriting of their definition, and in stretches."""

import numpy as np
import pytest

from models.mfcc import FULL_SCALE, compute_mfcc


def slow_mfcc(samples: np.ndarray) -> np.ndarray:
    """python_speech_features' definition written out, one value at a time where that is short."""
    signal = np.round(samples * FULL_SCALE)
    signal = np.array([s - 0.97 * (signal[k - 1] if k else 0.0) for k, s in enumerate(signal)])
    count = 1 if len(signal) <= 400 else 1 + int(np.ceil((len(signal) - 400) / 160))
    signal = np.append(signal, np.zeros(count * 160 + 400))

    def hertz(mel: float) -> float:
        return 700 * (10 ** (mel / 2595) - 1)

    top = 2595 * np.log10(1 + 8000 / 700)
    edges = [int(513 * hertz(top * k / 27) / 16000) for k in range(28)]
    rows = []
    for k in range(count):
        power = np.abs(np.fft.fft(np.append(signal[160 * k : 160 * k + 400], np.zeros(112)))[:257]) ** 2 / 512
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:]):
            up = sum(power[b] * (b - low) / (middle - low) for b in range(low, middle))
            bands.append(up + sum(power[b] * (high - b) / (high - middle) for b in range(middle, high)))
        log = np.log(np.maximum(bands, np.finfo(float).eps))
        row = [np.log(max(power.sum(), np.finfo(float).eps))]
        for c in range(1, 13):
            cosine = np.sqrt(2 / 26) * sum(log[b] * np.cos(np.pi * c * (2 * b + 1) / 52) for b in range(26))
            row.append(cosine * (1 + 11 * np.sin(np.pi * c / 22)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("samples", [1, 400, 401, 2000])
def test_agrees_with_the_definition(samples):
    sound = np.random.default_rng(samples).normal(size=samples) * 0.1
    np.testing.assert_allclose(compute_mfcc(sound), slow_mfcc(sound), rtol=1e-4, atol=1e-4)


def test_golden_values_of_a_tone():
    """Made once with python_speech_features 0.6 from the same 16-bit samples."""
    tone = np.round(8000 * np.sin(2 * np.pi * 440 * np.arange(1600) / 16000)) / FULL_SCALE
    golden = [
        19.06589,
        26.04552,
        9.43214,
        -7.56767,
        -21.87858,
        -29.18626,
        -25.90088,
        -15.15994,
        -0.25598,
        12.54423,
        19.92959,
        19.15070,
        12.23870,
    ]
    np.testing.assert_allclose(compute_mfcc(tone)[3], golden, rtol=1e-4)


def test_silence_is_finite():
    assert np.isfinite(compute_mfcc(np.zeros(3200))).all()
    assert compute_mfcc(np.zeros(0)).shape == (0, 13)


def test_stretches_give_the_same_rows(monkeypatch):
    sound = np.random.default_rng(0).normal(size=640 * 30 + 100).astype(np.float32) * 0.1
    whole = compute_mfcc(sound)
    monkeypatch.setattr("models.mfcc.AT_ONCE", 7)
    np.testing.assert_allclose(compute_mfcc(sound), whole, rtol=1e-6, atol=1e-6)
