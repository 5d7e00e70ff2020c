"""Small premultiplied pictures laid over a frame, and the sampling the parts of the face share.

Mouth and eyes are drawn as patches so that the CPU and the torch renderer composite the very same pixels.
Pixel i covers [i, i + 1): its centre lies at i + 0.5.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Patch:
    """A piece of picture to lay over a frame.

    Args:
        x, y: pixel of the frame under the patch's first pixel.
        rgba: colour times coverage (0 to 255) and coverage (0 to 1), float32, shape (h, w, 4).
    """

    x: int
    y: int
    rgba: np.ndarray


def composite(canvas: np.ndarray, patch: Patch, corner: tuple[int, int] = (0, 0)) -> None:
    """Lay a patch over a canvas, in place.

    Args:
        canvas: uint8 or float32 in 0 to 255, shape (H, W, 3), C-contiguous.
        patch: what sticks out of the canvas is cut off.
        corner: (x, y) of the canvas's first pixel in the frame that the patch is placed in.
    """
    x, y = patch.x - corner[0], patch.y - corner[1]
    left, top = max(0, -x), max(0, -y)
    rgba = patch.rgba[top : max(0, canvas.shape[0] - y), left : max(0, canvas.shape[1] - x)]
    if rgba.size:
        _composite(canvas, rgba, x + left, y + top, 0.5 if canvas.dtype == np.uint8 else 0.0)


@njit(cache=True, fastmath=True, nogil=True)
def _composite(canvas, rgba, x0, y0, rounding):
    for y in range(rgba.shape[0]):
        for x in range(rgba.shape[1]):
            keep = 1.0 - rgba[y, x, 3]
            if keep < 1.0:
                for c in range(3):
                    value = canvas[y0 + y, x0 + x, c] * keep + rgba[y, x, c]
                    canvas[y0 + y, x0 + x, c] = min(max(value, 0.0), 255.0) + rounding


def clip_box(points: np.ndarray, margin_px: float, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """The whole-pixel box (x0, y0, x1, y1) around points, clipped to a picture; None when nothing is left."""
    height, width = shape[:2]
    x0, y0 = np.floor(points.min(0) - margin_px).astype(int)
    x1, y1 = np.ceil(points.max(0) + margin_px).astype(int)
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None


def subdivide(points: int, samples: int) -> np.ndarray:
    """Matrix (samples, points) of a Catmull-Rom curve through a polyline, evenly spaced in its parameter."""
    t = np.linspace(0, points - 1, samples)
    k = np.minimum(t.astype(int), points - 2)
    f = t - k
    weights = (
        0.5 * (-f + 2 * f**2 - f**3),
        0.5 * (2 - 5 * f**2 + 3 * f**3),
        0.5 * (f + 4 * f**2 - 3 * f**3),
        0.5 * (-(f**2) + f**3),
    )
    matrix = np.zeros((samples, points))
    rows = np.arange(samples)
    for offset, weight in zip((-1, 0, 1, 2), weights):
        column = k + offset
        # Beyond the ends the polyline is continued straight: p[-1] = 2 p[0] - p[1].
        low, high = column < 0, column >= points
        inside = ~(low | high)
        np.add.at(matrix, (rows[inside], column[inside]), weight[inside])
        for rim, edge, inner in ((low, 0, 1), (high, points - 1, points - 2)):
            matrix[rows[rim], edge] += 2 * weight[rim]
            matrix[rows[rim], inner] -= weight[rim]
    return matrix.astype(np.float32)


def curve_over(axis: np.ndarray, points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A smooth curve through points as a function of x.

    Args:
        axis: where to evaluate, increasing, shape (n,).
        points: polyline of increasing x, shape (p, 2).
        matrix: `subdivide(p, samples)`.
    Returns:
        y at every place of the axis, float32, shape (n,); constant beyond the ends.
    """
    curve = matrix @ points
    return np.interp(axis, np.maximum.accumulate(curve[:, 0]), curve[:, 1]).astype(np.float32)


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def smoothstep(low, high, value):
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def lookup(curve, position):
    """Linear interpolation in a table at a fractional index, clamped."""
    position = min(max(position, 0.0), curve.shape[0] - 1.001)
    k = int(position)
    f = position - k
    return curve[k] * (1.0 - f) + curve[k + 1] * f


@njit(cache=True, fastmath=True, nogil=True)
def sample_linear(texture, x, y, out):
    """Bilinear sample of a texture (h, w, c) at fractional indices, clamped at the border; fills out (c,)."""
    height, width, channels = texture.shape
    x = min(max(x, 0.0), width - 1.001)
    y = min(max(y, 0.0), height - 1.001)
    i, j = int(x), int(y)
    u, v = x - i, y - j
    for c in range(channels):
        top = texture[j, i, c] * (1.0 - u) + texture[j, i + 1, c] * u
        bottom = texture[j + 1, i, c] * (1.0 - u) + texture[j + 1, i + 1, c] * u
        out[c] = top * (1.0 - v) + bottom * v


@njit(cache=True, fastmath=True, nogil=True)
def sample_cubic(texture, x, y, out):
    """Catmull-Rom sample of a texture (h, w, c) at fractional indices, clamped at the border; fills out (c,)."""
    height, width, channels = texture.shape
    x = min(max(x, 0.0), width - 1.0)
    y = min(max(y, 0.0), height - 1.0)
    i, j = int(x), int(y)
    u, v = x - i, y - j
    wx = (
        0.5 * (-u + 2 * u * u - u * u * u),
        0.5 * (2 - 5 * u * u + 3 * u * u * u),
        0.5 * (u + 4 * u * u - 3 * u * u * u),
        0.5 * (-u * u + u * u * u),
    )
    wy = (
        0.5 * (-v + 2 * v * v - v * v * v),
        0.5 * (2 - 5 * v * v + 3 * v * v * v),
        0.5 * (v + 4 * v * v - 3 * v * v * v),
        0.5 * (-v * v + v * v * v),
    )
    for c in range(channels):
        out[c] = 0.0
    for b in range(4):
        row = min(max(j + b - 1, 0), height - 1)
        for a in range(4):
            column = min(max(i + a - 1, 0), width - 1)
            weight = wx[a] * wy[b]
            for c in range(channels):
                out[c] += weight * texture[row, column, c]
