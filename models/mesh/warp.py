"""The two compiled loops of a frame: triangles to a sampling field, and the field to pixels.

Compiled by numba on first use and cached on disk. Single threaded: a farm runs one renderer per core.
"""

import numba
import numpy as np

FAR = np.float32(3e38)  # depth of pixels that no triangle covers
SHARPNESS = np.float32(-0.6)  # of the cubic kernel: -0.5 is Catmull-Rom, lower is crisper and rings more
STILL = np.float32(1e-3)  # pixels moved less than this are copied from the photo
REMNANT_FADE_PX = 2.0  # motion over which the matting remnant fades out, at a 512 px view


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
        field: receives positions in the photo, float32, shape (h, w, 2).
        zbuffer: receives depths, float32, shape (h, w); `FAR` where nothing is.
    """
    height, width = zbuffer.shape
    zbuffer[:] = FAR
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        # pixel centres at whole numbers
        ax, ay = xy[a, 0] - left - 0.5, xy[a, 1] - top - 0.5
        bx, by = xy[b, 0] - left - 0.5, xy[b, 1] - top - 0.5
        cx, cy = xy[c, 0] - left - 0.5, xy[c, 1] - top - 0.5
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
def _mirror(i, n):
    """Index i reflected into 0..n-1."""
    if i < 0:
        i = -1 - i
    if i >= n:
        i = 2 * n - 1 - i
    return min(max(i, 0), n - 1)


@numba.njit(cache=True, fastmath=True, nogil=True)
def composite(field, zbuffer, left, top, image, person, background, remnant, fade, out):
    """Sample the person through the field and lay them over the background.

    Args:
        field, zbuffer: from `rasterise`, shapes (h, w, 2) and (h, w).
        left, top: the view's corner in the photo.
        image: the photo, uint8, shape (H, W, 3).
        person: the photo's person, colours multiplied by the matte, then the matte in 0..255; float32, shape (H, W, 4).
        background: the photo without the person, float32, shape (H, W, 4), last channel unused.
        remnant: what matting lost, image - person - (1 - matte) * background, float32, shape (H, W, 4), last
            channel 0 where there is none.
        fade: motion in pixels over which the remnant vanishes.
        out: receives the frame, uint8, shape (h, w, 3).
    """
    height, width = zbuffer.shape
    rows, columns = image.shape[0], image.shape[1]
    for y in range(height):
        py = y + top
        for x in range(width):
            px = x + left
            if zbuffer[y, x] == FAR:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = image[py, px, 0], image[py, px, 1], image[py, px, 2]
                continue
            sx, sy = field[y, x, 0] - np.float32(0.5), field[y, x, 1] - np.float32(0.5)
            mx, my = sx - px, sy - py
            moved = mx * mx + my * my
            if moved < STILL * STILL:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = image[py, px, 0], image[py, px, 1], image[py, px, 2]
                continue
            ix, iy = int(np.floor(sx)), int(np.floor(sy))
            h0, h1, h2, h3 = _cubic(sx - np.float32(ix))
            v = _cubic(sy - np.float32(iy))
            r = g = b = alpha = np.float32(0)
            if 1 <= ix < columns - 2 and 1 <= iy < rows - 2:
                for j in range(4):
                    q = person[iy - 1 + j]
                    k = ix - 1
                    w = v[j]
                    r += w * (h0 * q[k, 0] + h1 * q[k + 1, 0] + h2 * q[k + 2, 0] + h3 * q[k + 3, 0])
                    g += w * (h0 * q[k, 1] + h1 * q[k + 1, 1] + h2 * q[k + 2, 1] + h3 * q[k + 3, 1])
                    b += w * (h0 * q[k, 2] + h1 * q[k + 1, 2] + h2 * q[k + 2, 2] + h3 * q[k + 3, 2])
                    alpha += w * (h0 * q[k, 3] + h1 * q[k + 1, 3] + h2 * q[k + 2, 3] + h3 * q[k + 3, 3])
            else:
                k0, k1 = _mirror(ix - 1, columns), _mirror(ix, columns)
                k2, k3 = _mirror(ix + 1, columns), _mirror(ix + 2, columns)
                for j in range(4):
                    q = person[_mirror(iy - 1 + j, rows)]
                    w = v[j]
                    r += w * (h0 * q[k0, 0] + h1 * q[k1, 0] + h2 * q[k2, 0] + h3 * q[k3, 0])
                    g += w * (h0 * q[k0, 1] + h1 * q[k1, 1] + h2 * q[k2, 1] + h3 * q[k3, 1])
                    b += w * (h0 * q[k0, 2] + h1 * q[k1, 2] + h2 * q[k2, 2] + h3 * q[k3, 2])
                    alpha += w * (h0 * q[k0, 3] + h1 * q[k1, 3] + h2 * q[k2, 3] + h3 * q[k3, 3])
            through = min(max(np.float32(1) - alpha / np.float32(255), np.float32(0)), np.float32(1))
            if through > 0:
                r += through * background[py, px, 0]
                g += through * background[py, px, 1]
                b += through * background[py, px, 2]
            if remnant[py, px, 3] > 0:
                keep = max(np.float32(0), np.float32(1) - np.sqrt(moved) / fade)
                r += keep * remnant[py, px, 0]
                g += keep * remnant[py, px, 1]
                b += keep * remnant[py, px, 2]
            out[y, x, 0] = np.uint8(min(max(r + np.float32(0.5), np.float32(0)), np.float32(255)))
            out[y, x, 1] = np.uint8(min(max(g + np.float32(0.5), np.float32(0)), np.float32(255)))
            out[y, x, 2] = np.uint8(min(max(b + np.float32(0.5), np.float32(0)), np.float32(255)))
