"""The two compiled loops of a frame: triangles to a sampling field, and the field to pixels.

The field has two by two samples per pixel. Where they agree the photo is sampled once, at full sharpness; only where
one part of the head covers another are all four sampled and averaged, so that the edge is smooth.

Compiled by numba on first use and cached on disk. Single threaded: a farm runs one renderer per core.
"""

import cv2
import numba
import numpy as np

FINE = 2  # samples of the field per pixel, across and down
TORN_PX = np.float32(1.0)  # across a pixel's samples: further apart, they lie on an edge or in a picture shrunk by two
SHARPNESS = np.float32(-0.75)  # of the cubic kernel; at the usual -0.5 a moving photo loses a fifth of its sharpness
STILL = np.float32(1e-3)  # pixels moved less than this are copied from the photo


@numba.njit(cache=True, fastmath=True, nogil=True)
def rasterise(xy, depth, source, triangles, bias, left, top, field, zbuffer):
    """Where in the photo every pixel of the view comes from; the nearest triangle wins.

    Args:
        xy: vertices in the frame, pixels, float32, shape (V, 2).
        depth: their depth, float32, shape (V,).
        source: the same vertices in the photo, pixels, float32, shape (V, 2).
        triangles: int32, shape (F, 3).
        bias: depth added to each triangle, float32, shape (F,).
        left, top: the view's corner in the photo.
        field: receives positions in the photo, float32, shape (FINE h, FINE w, 2); their own where no triangle is.
        zbuffer: for depths, float32, shape (FINE h, FINE w).
    """
    height, width = zbuffer.shape
    step = np.float32(1 / FINE)
    for y in range(height):
        own = np.float32(top + (y + 0.5) * step)
        for x in range(width):
            field[y, x, 0] = np.float32(left + (x + np.float32(0.5)) * step)
            field[y, x, 1] = own
            zbuffer[y, x] = np.float32(3e38)
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        # samples at whole numbers
        ax, ay = (xy[a, 0] - left) * FINE - 0.5, (xy[a, 1] - top) * FINE - 0.5
        bx, by = (xy[b, 0] - left) * FINE - 0.5, (xy[b, 1] - top) * FINE - 0.5
        cx, cy = (xy[c, 0] - left) * FINE - 0.5, (xy[c, 1] - top) * FINE - 0.5
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-6:
            continue
        y0 = max(0, int(np.ceil(min(ay, by, cy))))
        y1 = min(height - 1, int(np.floor(max(ay, by, cy))))
        x0 = max(0, int(np.ceil(min(ax, bx, cx) - 1e-3)))
        x1 = min(width - 1, int(np.floor(max(ax, bx, cx) + 1e-3)))
        if y0 > y1 or x0 > x1:
            continue
        scale = 1.0 / area
        # barycentric weights of b and c as planes over the picture
        ub, vb = (cy - ay) * scale, (ax - cx) * scale
        uc, vc = (ay - by) * scale, (bx - ax) * scale
        sx, sy, sz = source[a, 0], source[a, 1], depth[a] + bias[k]
        dxb, dyb, dzb = source[b, 0] - sx, source[b, 1] - sy, depth[b] - depth[a]
        dxc, dyc, dzc = source[c, 0] - sx, source[c, 1] - sy, depth[c] - depth[a]
        for y in range(y0, y1 + 1):
            # the span of this row, by clipping it with the three edges
            first, last = np.float64(x0), np.float64(x1)
            rb, rc = vb * (y - ay) - ub * ax, vc * (y - ay) - uc * ax
            for edge in range(3):
                if edge == 0:
                    slope, start = ub, rb
                elif edge == 1:
                    slope, start = uc, rc
                else:
                    slope, start = -(ub + uc), 1.0 - rb - rc
                start += 1e-5
                if slope > 1e-9:
                    first = max(first, -start / slope)
                elif slope < -1e-9:
                    last = min(last, -start / slope)
                elif start < 0:
                    last = first - 1
            for x in range(int(np.ceil(first)), int(np.floor(last)) + 1):
                wb, wc = rb + ub * x, rc + uc * x
                z = np.float32(sz + wb * dzb + wc * dzc)
                if z < zbuffer[y, x]:
                    zbuffer[y, x] = z
                    field[y, x, 0] = sx + wb * dxb + wc * dxc
                    field[y, x, 1] = sy + wb * dyb + wc * dyc


@numba.njit(cache=True, fastmath=True, nogil=True, inline="always")
def _cubic(t):
    """The four weights of cubic interpolation at the fraction t in [0, 1)."""
    a = SHARPNESS
    s = np.float32(1) - t
    w0 = a * t * s * s
    w3 = a * s * t * t
    w1 = ((a + np.float32(2)) * t - (a + np.float32(3))) * t * t + np.float32(1)
    return w0, w1, np.float32(1) - w0 - w1 - w3, w3


@numba.njit(cache=True, fastmath=True, nogil=True, inline="always")
def _clamp(i, n):
    """Index i held within 0..n-1."""
    return min(max(i, 0), n - 1)


@numba.njit(cache=True, fastmath=True, nogil=True)
def sample(person, x, y):
    """The person's colours times matte, and matte, all 0..255, at a position (index scale) in the photo."""
    rows, columns = person.shape[0], person.shape[1]
    ix, iy = int(np.floor(x)), int(np.floor(y))
    h0, h1, h2, h3 = _cubic(x - np.float32(ix))
    v = _cubic(y - np.float32(iy))
    r = g = b = matte = np.float32(0)
    if 1 <= ix < columns - 2 and 1 <= iy < rows - 2:
        k0, k1, k2, k3 = ix - 1, ix, ix + 1, ix + 2
    else:
        k0, k1 = _clamp(ix - 1, columns), _clamp(ix, columns)
        k2, k3 = _clamp(ix + 1, columns), _clamp(ix + 2, columns)
    for j in range(4):
        q = person[_clamp(iy - 1 + j, rows)]
        w = v[j]
        r += w * (h0 * q[k0, 0] + h1 * q[k1, 0] + h2 * q[k2, 0] + h3 * q[k3, 0])
        g += w * (h0 * q[k0, 1] + h1 * q[k1, 1] + h2 * q[k2, 1] + h3 * q[k3, 1])
        b += w * (h0 * q[k0, 2] + h1 * q[k1, 2] + h2 * q[k2, 2] + h3 * q[k3, 2])
        matte += w * (h0 * q[k0, 3] + h1 * q[k1, 3] + h2 * q[k2, 3] + h3 * q[k3, 3])
    return r, g, b, matte


def near_person(person: np.ndarray) -> np.ndarray:
    """Whether any of the sixteen pixels that `sample` reads from here on shows the person.

    Args:
        person: as for `sample`, shape (H, W, 4).
    Returns:
        uint8, shape (H, W): 0 where a sample at [x, x + 1) and [y, y + 1), index scale, is all zero.
    """
    return cv2.dilate((person[..., 3] > 0).astype(np.uint8), np.ones((4, 4)), anchor=(1, 1))


@numba.njit(cache=True, fastmath=True, nogil=True)
def composite(field, left, top, image, person, near, background, remnant, fade, out):
    """Sample the person through the field and lay them over the background.

    Args:
        field: from `rasterise`, shape (FINE h, FINE w, 2).
        left, top: the view's corner in the photo.
        image: the photo, uint8, shape (H, W, 3).
        person: the photo's person, colours multiplied by the matte, then the matte in 0..255; float32, shape (H, W, 4).
        near: where sampling can meet the person, from `near_person`; uint8, shape (H, W).
        background: the photo without the person, float32, shape (H, W, 4), last channel unused.
        remnant: what matting lost, image - person - (1 - matte) * background, float32, shape (H, W, 4), last
            channel 0 where there is none.
        fade: motion in pixels over which the remnant vanishes.
        out: receives the frame, uint8, shape (h, w, 3).
    """
    zero, half, full, quarter = np.float32(0), np.float32(0.5), np.float32(255), np.float32(0.25)
    for y in range(out.shape[0]):
        py = y + top
        upper, lower = field[FINE * y], field[FINE * y + 1]
        for x in range(out.shape[1]):
            px = x + left
            x0, y0, x1, y1 = upper[FINE * x, 0], upper[FINE * x, 1], upper[FINE * x + 1, 0], upper[FINE * x + 1, 1]
            x2, y2, x3, y3 = lower[FINE * x, 0], lower[FINE * x, 1], lower[FINE * x + 1, 0], lower[FINE * x + 1, 1]
            sx, sy = (x0 + x1 + x2 + x3) * quarter - half, (y0 + y1 + y2 + y3) * quarter - half
            moved = (sx - px) * (sx - px) + (sy - py) * (sy - py)
            jump = max(max(abs(x0 - x3), abs(y0 - y3)), max(abs(x1 - x2), abs(y1 - y2)))
            if jump > TORN_PX:
                r0, g0, b0, m0 = sample(person, x0 - half, y0 - half)
                r1, g1, b1, m1 = sample(person, x1 - half, y1 - half)
                r2, g2, b2, m2 = sample(person, x2 - half, y2 - half)
                r3, g3, b3, m3 = sample(person, x3 - half, y3 - half)
                r, g, b = (r0 + r1 + r2 + r3) * quarter, (g0 + g1 + g2 + g3) * quarter, (b0 + b1 + b2 + b3) * quarter
                matte = (m0 + m1 + m2 + m3) * quarter
            elif moved < STILL * STILL:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = image[py, px, 0], image[py, px, 1], image[py, px, 2]
                continue
            elif near[_clamp(int(np.floor(sy)), near.shape[0]), _clamp(int(np.floor(sx)), near.shape[1])]:
                r, g, b, matte = sample(person, sx, sy)
            else:
                r = g = b = matte = zero
            # not clipped to 0..1: where the kernel overshoots in the matte it does so in the colours, and they cancel
            through = np.float32(1) - matte / full
            if through != zero:
                r += through * background[py, px, 0]
                g += through * background[py, px, 1]
                b += through * background[py, px, 2]
            if remnant[py, px, 3] > 0:
                keep = max(zero, np.float32(1) - np.sqrt(moved) / fade)
                r += keep * remnant[py, px, 0]
                g += keep * remnant[py, px, 1]
                b += keep * remnant[py, px, 2]
            out[y, x, 0] = np.uint8(min(max(r + half, zero), full))
            out[y, x, 1] = np.uint8(min(max(g + half, zero), full))
            out[y, x, 2] = np.uint8(min(max(b + half, zero), full))
