"""Filters over time keep what they should and have no delay."""

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import savgol_filter

from models.facespace.temporal import blur, fit_parabolas, take_medians

VALUES = np.random.default_rng(0).normal(size=(40, 3))


def test_parabolas_agree_with_scipy():
    assert np.allclose(fit_parabolas(VALUES, 9), savgol_filter(VALUES, 9, 2, axis=0, mode="interp"))
    assert np.allclose(fit_parabolas(VALUES[:9], 9), savgol_filter(VALUES[:9], 9, 2, axis=0, mode="interp"))
    assert np.array_equal(fit_parabolas(VALUES[:8], 9), VALUES[:8])


def test_blur_agrees_with_scipy():
    assert np.allclose(blur(VALUES, 1.5), gaussian_filter1d(VALUES, 1.5, axis=0, mode="nearest", radius=5))
    assert np.allclose(blur(VALUES[:1], 1.5), VALUES[:1])


def test_medians_agree_with_scipy():
    assert np.allclose(take_medians(VALUES, 5), median_filter(VALUES, (5, 1), mode="nearest"))
