"""FID's and KID's distances: closed forms, independent formulas, sets of few vectors."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from models.frechet import Moments, frechet_distance, kernel_distance


def moments(x: np.ndarray, batch: int = 37) -> Moments:
    found = Moments(x.shape[1])
    for start in range(0, len(x), batch):
        found.add(x[start : start + batch])
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_moments_in_batches_and_merged(rng):
    x = rng.normal(size=(200, 5)) * [1, 2, 3, 4, 5] + 1e4
    whole, parts = moments(x), moments(x[:80])
    parts.merge(moments(x[80:]))
    parts.merge(Moments(5))
    for found in (whole, parts):
        assert found.count == 200
        np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-8, atol=1e-10)
    empty = Moments(5)
    empty.merge(whole)
    np.testing.assert_allclose(empty.covariance, np.cov(x.T), rtol=1e-8, atol=1e-10)


def with_covariance(x: np.ndarray, mean: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Vectors of exactly this mean and these variances, without correlation."""
    centred = x - x.mean(0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return white * deviations + mean


def test_uncorrelated_gaussians_have_a_closed_form(rng):
    a = with_covariance(rng.normal(size=(50, 3)), np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    b = with_covariance(rng.normal(size=(60, 3)), np.array([1.0, 1.0, 0.0]), np.array([4.0, 2.0, 1.0]))
    # 1 + 0 + 4 for the means, (1 - 4)^2 + 0 + (3 - 1)^2 for the deviations
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(18, rel=1e-9)


def test_agrees_with_the_formula_for_correlated_vectors(rng):
    a, b = (rng.normal(size=(400, 8)) @ rng.normal(size=(8, 8)) + rng.normal(size=8) for _ in range(2))
    first, second = np.cov(a.T), np.cov(b.T)
    shift = a.mean(0) - b.mean(0)
    root = np.real(sqrtm(first @ second))
    expected = shift @ shift + np.trace(first + second - 2 * root)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(expected, rel=1e-8)


def test_same_vectors_are_at_distance_zero_even_when_few(rng):
    x = rng.normal(size=(20, 64)) * 5  # covariance of rank 19
    assert frechet_distance(moments(x), moments(x[::-1])) == pytest.approx(0, abs=1e-6)
    moved = moments(x + np.eye(64)[0] * 3)
    assert frechet_distance(moments(x), moved) == pytest.approx(9, rel=1e-6)


def test_undefined_and_wrong_shapes(rng):
    one = moments(rng.normal(size=(1, 3)))
    assert np.isnan(frechet_distance(one, moments(rng.normal(size=(9, 3)))))
    assert np.isnan(Moments(3).mean).all()
    assert np.isnan(kernel_distance(np.zeros((1, 3)), np.zeros((9, 3)), rng)).all()
    with pytest.raises(ValueError, match=r"\(4, 2\) instead of \(n, 3\)"):
        Moments(3).add(np.zeros((4, 2)))


def test_kernel_distance_worked_by_hand(rng):
    # k(x, y) = (xy + 1)^3 of 0, 1 against 1, 2: others within are k(0,1) = 1 and k(1,2) = 27, across 1, 1, 8, 27
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    mean, deviation = kernel_distance(x, y, rng, subsets=3)
    assert mean == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)
    assert deviation == pytest.approx(0)


def test_kernel_distance_has_no_bias(rng):
    same = kernel_distance(rng.normal(size=(300, 16)), rng.normal(size=(300, 16)), rng, 50, 50)[0]
    other = kernel_distance(rng.normal(size=(300, 16)), rng.normal(size=(300, 16)) + 0.5, rng, 50, 50)[0]
    assert abs(same) < 0.05
    assert other > 0.2
