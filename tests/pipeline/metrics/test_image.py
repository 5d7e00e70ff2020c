"""Pictures against pictures: hand-worked cases, published implementations' numbers, an SSIM written out."""

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.ndimage import gaussian_filter

from pipeline.metrics.image import cpbd, edge_widths, flicker, psnr, ssim, warp_error


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def small(astronaut):
    return cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)


def test_equal_pictures_are_perfect(small):
    assert psnr(small, small) == 100.0
    assert ssim(small, small) == pytest.approx(1.0, abs=1e-12)
    assert flicker(small, small, np.ones(small.shape[:2], bool)) == 0
    assert warp_error(small, small, np.ones(small.shape[:2], bool)) == pytest.approx(0, abs=1e-3)


def test_psnr_by_hand():
    real = np.zeros((4, 4), np.uint8)
    image = real.copy()
    image[0, 0] = 40  # MSE = 1600 / 16 = 100
    assert psnr(image, real) == pytest.approx(10 * np.log10(65025 / 100))


def test_ssim_is_wang_2004(small):
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    noisy = np.clip(grey + np.random.default_rng(0).normal(0, 12, grey.shape), 0, 255).astype(np.uint8)
    x, y = grey.astype(float), noisy.astype(float)

    def mean(values):
        return gaussian_filter(values, 1.5, truncate=3.5)  # 11 x 11

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    full = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(noisy, grey) == pytest.approx(full[5:-5, 5:-5].mean(), rel=1e-6)


def test_cpbd_agrees_with_the_reference_implementation(astronaut, small):
    # figures of the `cpbd` package 1.0.7 on the same grey pictures
    def grey(image):
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    assert cpbd(grey(astronaut)) == pytest.approx(0.3836094158674804, rel=1e-9)
    assert cpbd(skimage.data.camera()) == pytest.approx(0.7481657466284677, rel=1e-9)
    assert cpbd(grey(small)) == pytest.approx(0.435594675826535, rel=1e-9)
    assert cpbd(small) == cpbd(grey(small))


def test_cpbd_falls_with_blur_and_is_undefined_without_edges(small):
    assert cpbd(cv2.GaussianBlur(small, (0, 0), 2)) < 0.5 * cpbd(small)
    assert np.isnan(cpbd(np.full((128, 128), 90, np.uint8)))
    assert np.isnan(cpbd(small[:40, :40]))


def test_width_of_a_ramp_by_hand():
    picture = np.tile(np.repeat([10.0, 60.0, 120.0, 180.0, 230.0], [20, 1, 1, 1, 20]), (30, 1))
    found = edge_widths(picture)
    for mirrored in (found, edge_widths(picture[:, ::-1])):
        assert set(np.unique(mirrored)) == {0, 4}  # four rising steps between the two plateaus


def test_flicker_counts_masked_pixels_only(small):
    brighter = small.copy()
    brighter[:128] = np.minimum(small[:128].astype(int) + 8, 255)
    below = np.zeros(small.shape[:2], bool)
    below[128:] = True
    assert flicker(small, brighter, below) == 0
    assert 6 < flicker(small, brighter, ~below) <= 8
    assert np.isnan(flicker(small, brighter, np.zeros_like(below)))


def test_warp_error_forgives_motion_but_not_flicker(small):
    inside = np.zeros(small.shape[:2], bool)
    inside[40:-40, 40:-40] = True
    moved = np.roll(small, 2, axis=1)
    assert warp_error(small, moved, inside) < 0.35 * np.abs(moved.astype(float) - small)[inside].mean()
    flickering = np.clip(small.astype(int) + 10, 0, 255).astype(np.uint8)
    assert warp_error(small, flickering, inside) > 5
