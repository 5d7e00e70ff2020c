"""Filling holes of a picture from what surrounds them, and giving smooth fills the picture's own grain."""

import cv2
import numpy as np


def fill(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Smooth completion of a picture from its trusted pixels (push-pull pyramid).

    Args:
        image: float32, shape (h, w, c).
        weight: trust in each pixel, float32 in 0 to 1, shape (h, w).
    Returns:
        float32, shape (h, w, c): the image where trusted, smoothly continued elsewhere; all zero when
        nothing is trusted.
    """
    levels = [(image * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1:
        colour, trust = levels[-1]
        levels.append((_halve(colour), _halve(trust)))
    colour, trust = levels[-1]
    filled = colour / np.maximum(trust, 1e-6)[..., None]
    for colour, trust in levels[-2::-1]:
        height, width = trust.shape
        coarse = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
        share = np.minimum(2 * trust, 1)[..., None]
        filled = colour / np.maximum(trust, 1e-6)[..., None] * share + coarse * (1 - share)
    return filled


def _halve(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape[:2]
    half = cv2.pyrDown(plane, dstsize=((width + 1) // 2, (height + 1) // 2))
    return half.reshape((height + 1) // 2, (width + 1) // 2, *plane.shape[2:])


def grain(image: np.ndarray, box: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    """Noise as strong and as fine as that of one place of a picture, to be added to a smooth fill elsewhere.

    Args:
        image: uint8, shape (H, W, 3).
        box: (x0, y0, x1, y1) of a plain piece of skin, inside the picture.
        shape: (h, w) wanted.
    Returns:
        Zero-mean float32, shape (h, w), in grey levels; the same for the same picture.
    """
    x0, y0, x1, y1 = box
    piece = image[y0:y1, x0:x1].astype(np.float32).mean(-1)
    if min(piece.shape) < 5:
        return np.zeros(shape, np.float32)
    detail = piece - cv2.GaussianBlur(piece, (0, 0), 2.0)
    # The median ignores moles and edges; the likeness of neighbours tells how coarse the grain is.
    strength = np.median(np.abs(detail)) / 0.6745
    limited = np.clip(detail, -2 * strength, 2 * strength)
    likeness = (limited[:, 1:] * limited[:, :-1]).mean() / max((limited**2).mean(), 1e-6)
    likeness = float(np.clip(likeness, 0.02, 0.9))
    sigma = np.sqrt(-1 / (4 * np.log(min(likeness, 0.5))))
    strength = min(strength, 5.0) * (1 - likeness)
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma)
    return noise * (strength / max(float(noise.std()), 1e-6))
