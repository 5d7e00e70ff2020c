"""Distances between two sets of feature vectors: FID's, and KID's for sets that are too small for it.

Heusel et al., "GANs trained by a two time-scale update rule ..." (2017); Binkowski et al., "Demystifying MMD GANs"
(2018). Any features do: Inception's make FID, poses and velocities make the distances that need no weights.
"""

import numpy as np

FEW = 2048  # vectors: below as many as Inception has numbers, FID is biased upwards; tell KID instead


class Moments:
    """Mean and covariance of vectors that arrive in batches; memory doesn't grow with their number.

    Args:
        dimensions: numbers per vector.
    """

    def __init__(self, dimensions: int):
        self.count = 0
        self._shift = np.zeros(dimensions)
        self._sum = np.zeros(dimensions)
        self._products = np.zeros((dimensions, dimensions))

    def add(self, features: np.ndarray) -> None:
        """Vectors of shape (n, dimensions).

        Raises:
            ValueError: another shape.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != len(self._sum):
            raise ValueError(f"features have shape {features.shape} instead of (n, {len(self._sum)})")
        if not len(features):
            return
        if not self.count:
            self._shift = features.mean(0)  # sums of squares stay near the variance, so that no digits are lost
        centred = features - self._shift
        self.count += len(features)
        self._sum += centred.sum(0)
        self._products += centred.T @ centred

    def merge(self, other: "Moments") -> None:
        """Add all vectors that another one has seen."""
        if not other.count:
            return
        if not self.count:
            self._shift = other._shift.copy()
        moved = other._shift - self._shift
        cross = np.outer(moved, other._sum)
        self._products += other._products + cross + cross.T + other.count * np.outer(moved, moved)
        self._sum += other._sum + other.count * moved
        self.count += other.count

    @property
    def mean(self) -> np.ndarray:
        """Shape (dimensions,); NaN without vectors."""
        return self._shift + self._sum / self.count if self.count else np.full(len(self._sum), np.nan)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, shape (dimensions, dimensions); NaN below two vectors."""
        if self.count < 2:
            return np.full(self._products.shape, np.nan)
        return (self._products - np.outer(self._sum, self._sum) / self.count) / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Distance of two Gaussians: ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    The trace of the root is the sum of the singular values of S1^(1/2) S2^(1/2): both roots are of symmetric
    matrices, so nothing turns complex and nothing has to be added to covariances of less than full rank.

    Returns:
        At least 0, in squared units of the features; NaN where either side has less than two vectors.
    """
    if min(a.count, b.count) < 2:
        return float("nan")
    shift = a.mean - b.mean
    first, second = a.covariance, b.covariance
    overlap = np.linalg.svd(_root(first) @ _root(second), compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.trace(first) + np.trace(second) - 2 * overlap))


def kernel_distance(
    x: np.ndarray, y: np.ndarray, generator: np.random.Generator, subsets: int = 100, subset_size: int = 1000
) -> tuple[float, float]:
    """KID: squared maximum mean discrepancy under the kernel (x.y / dimensions + 1)^3, unbiased for any number.

    Args:
        x, y: vectors, shape (n, dimensions) and (m, dimensions).
        generator: draws the subsets.
        subsets: how many pairs of subsets are compared.
        subset_size: vectors per subset, at most what there are.
    Returns:
        Mean and standard deviation over the subsets; may be below 0. NaN where either side has less than two.
    """
    size = min(len(x), len(y), subset_size)
    if size < 2:
        return float("nan"), float("nan")
    values = []
    for _ in range(subsets):
        first = np.asarray(x[generator.choice(len(x), size, replace=False)], np.float64)
        second = np.asarray(y[generator.choice(len(y), size, replace=False)], np.float64)
        own = sum(_sum_of_others(_kernel(part, part)) for part in (first, second)) / (size * (size - 1))
        values.append(own - 2 * _kernel(first, second).mean())
    return float(np.mean(values)), float(np.std(values))


def _root(symmetric: np.ndarray) -> np.ndarray:
    """Square root of a symmetric matrix without negative eigenvalues but those of rounding."""
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _sum_of_others(kernel: np.ndarray) -> float:
    """Sum of a kernel's values without those of a vector with itself."""
    return float(kernel.sum() - np.trace(kernel))
