"""Eyes of a frame: a rigid eyeball with a turning iris behind lids that open and close.

The photo's eye is taken apart once (see `eye_layers`); each frame it is put together again between the posed lids:
skin without lashes slides down over the eyeball, the lashes ride on the lid's edge, the iris turns with the gaze.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from models.facespace import topology as topo
from models.mesh import tone
from models.mesh.eye_layers import (
    COLUMNS,
    EYES,
    LASH_RANGE,
    LASH_ROWS,
    U_REACH,
    Eye,
    place_lids,
    take_apart,
)
from models.mesh.geometry import Head, Posed
from models.mesh.patches import Patch, lookup, sample_cubic, sample_linear, smoothstep

IRIS_LEVER = 0.115  # distance of the iris from the eyeball's centre of rotation, model units
SHUT = 0.16  # lids this close (share of the photo's opening) are taken as shut
EYE_WIDTH = 0.33  # of an eye in model units, roughly


@dataclass(frozen=True)
class EyesAssets:
    """What `patches` needs of a photo: its eyes, the person's right one first; an eye too small to draw is None."""

    eyes: tuple[Eye | None, Eye | None]


def prepare(head: Head) -> EyesAssets:
    """All of the eyes that depends on the photo only."""
    softness_px = tone.softness(head.image, head.source.xy[: topo.VERTICES])
    right, left = (take_apart(head, *names, softness_px) for names in EYES)
    return EyesAssets((right, left))


def patches(assets: EyesAssets, posed: Posed) -> list[Patch]:
    """The eyes of one frame, to lay over the warped face; empty where they look as in the photo."""
    drawn = (_draw_eye(eye, posed, names) for eye, names in zip(assets.eyes, EYES) if eye is not None)
    return [patch for patch in drawn if patch is not None]


def _draw_eye(eye: Eye, posed: Posed, names) -> Patch | None:
    lids = place_lids(posed, *names[:3])
    opening = max(eye.lids.opening, 0.02)
    shift = IRIS_LEVER * np.array(
        [
            np.sin(eye.gaze[0]) - np.sin(posed.gaze[0]),
            np.sin(posed.gaze[1]) - np.sin(eye.gaze[1]),
        ]
    )
    closure = float(np.clip((eye.lids.opening - lids.opening) / opening, -1.0, 1.0))
    moved = float(np.abs(np.r_[lids.upper - eye.lids.upper, lids.lower - eye.lids.lower]).max())
    change = max(np.hypot(*shift) / 0.006, moved / 0.02)
    if change < 1e-3:
        return None
    unit = float(np.linalg.norm(lids.axes[:, 1]))
    fit = np.array(
        [
            lids.origin + lids.axes @ (u, v)
            for u in (-U_REACH, U_REACH)
            for v in (lids.crease.min() - 0.09, lids.lower.max() + 0.06)
        ]
    )
    box = (*np.floor(fit.min(0)).astype(int), *np.ceil(fit.max(0)).astype(int))
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    if width < 2 or height < 2:
        return None
    # Shut lids must meet: the mesh may leave a slit.
    shut = np.clip((closure - (1 - 2 * SHUT)) / SHUT, 0, 1)
    upper = np.minimum(lids.upper + shut * (lids.lower - lids.upper), lids.lower)
    iris_shift = eye.across * shift[0] + eye.lids.axes[:, 1] * shift[1]
    rgba = np.zeros((height, width, 4), np.float32)
    _fill_eye(
        rgba,
        np.linalg.inv(lids.axes),
        np.array([box[0] + 0.5, box[1] + 0.5]) - lids.origin,
        eye.lids.axes,
        eye.lids.origin - eye.corner - 0.5,
        np.ascontiguousarray(upper, np.float32),
        lids.lower,
        lids.crease,
        lids.upper,
        eye.lids.upper,
        unit,
        max(closure, 0.0),
        min(change, 1.0),
        iris_shift,
        eye.ball,
        eye.iris,
        eye.skin,
        eye.lash,
        eye.lash_colour,
        eye.lash_strength,
        max(1.0, eye.softness_px),
    )
    return Patch(int(box[0]), int(box[1]), rgba)


@njit(cache=True, fastmath=True, nogil=True)
def _fill_eye(
    rgba,
    into,
    start,
    source_axes,
    source_origin,
    upper,
    lower,
    crease,
    skin_edge,
    upper_0,
    unit,
    closure,
    change,
    iris_shift,
    ball,
    iris,
    skin,
    lash,
    lash_colour,
    lash_strength,
    soft,
):
    """Paint one eye. `into` maps pixels from `start` on to (u, v); `source_*` map (u, v) to texture indices.

    `upper`, `lower`, `crease` are the frame's curves, `upper_0` is the photo's. `skin_edge` is where the warped
    skin of the upper lid ends: from there to `upper` there is nothing but what is painted here.
    """
    columns = (COLUMNS - 1) / (2 * U_REACH)
    lash_rows = (LASH_ROWS - 1) / (LASH_RANGE[1] - LASH_RANGE[0])
    lid_share = smoothstep(0.02, 0.3, closure)
    lash_share = lid_share
    for k in range(COLUMNS):
        lash_share = max(lash_share, smoothstep(0.0, 0.015, upper[k] - skin_edge[k]))
    shut = smoothstep(0.5, 0.9, closure)
    line_width = max(0.013, 0.85 * soft / unit)
    both = np.empty(6, np.float32)
    layer = np.empty(4, np.float32)
    colour = np.empty(4, np.float32)
    one = np.empty(1, np.float32)
    for row in range(rgba.shape[0]):
        for column in range(rgba.shape[1]):
            px = start[0] + column
            py = start[1] + row
            u = into[0, 0] * px + into[0, 1] * py
            if abs(u) >= U_REACH:
                continue
            v = into[1, 0] * px + into[1, 1] * py
            position = (u + U_REACH) * columns
            top = lookup(upper, position)
            bottom = lookup(lower, position)
            if v > bottom + 0.06:
                continue
            fold = min(lookup(crease, position), top - 0.02)
            sx = source_origin[0] + source_axes[0, 0] * u + source_axes[0, 1] * v
            sy = source_origin[1] + source_axes[1, 0] * u + source_axes[1, 1] * v
            slope = (lookup(upper, position + 1) - lookup(upper, position - 1)) * columns * 0.5 / EYE_WIDTH
            across = unit / (soft * np.sqrt(1 + slope * slope))
            above = min(max((top - v) * across + 0.5, 0.0), 1.0)  # share of the pixel above the upper lid's edge
            below = min(max((v - bottom) * across + 0.5, 0.0), 1.0)
            opened = max(1.0 - above - below, 0.0)
            if abs(u) >= 0.5:
                opened = 0.0
            ends = 1.0 - smoothstep(0.52, U_REACH, abs(u))

            r, g, b, a = 0.0, 0.0, 0.0, 0.0
            lid = lid_share * ends * above * smoothstep(fold - 0.075, fold - 0.01, v)
            lid = max(lid, min(max((v - lookup(skin_edge, position)) * across + 0.5, 0.0), 1.0) * above * ends)
            if lid > 0.0:
                sample_linear(skin, sx, sy, colour)
                depth = (v - fold) / max(top - fold, 0.02)
                bulge = 1.0 + 0.05 * lid_share * (1.0 - (2.0 * min(max(depth, 0.0), 1.0) - 1.0) ** 2) - 0.03
                r, g, b, a = colour[0] * bulge * lid, colour[1] * bulge * lid, colour[2] * bulge * lid, lid
            elif shut > 0.0 and v > bottom:
                sample_linear(skin, sx, sy, colour)
                a = shut * ends * min(colour[3], 1.0)
                r, g, b = colour[0] * a, colour[1] * a, colour[2] * a
            w = v - top
            if LASH_RANGE[0] < w < 0.012 and lid > 0.0:
                stretch = 1.0 - 0.6 * closure
                sample_linear(lash, position, (w / stretch - LASH_RANGE[0]) * lash_rows, one)
                dark = one[0] * lid * (1.0 - 0.45 * closure)
                r = r * (1 - dark) + lash_colour[0] * dark
                g = g * (1 - dark) + lash_colour[1] * dark
                b = b * (1 - dark) + lash_colour[2] * dark
            if opened > 0.0:
                sample_cubic(ball, sx, sy, both)
                sample_cubic(iris, sx - iris_shift[0], sy - iris_shift[1], layer)
                # The upper lid's shadow moves with it.
                shade = 1.0 - 0.4 * np.exp(-max(w, 0.0) / 0.025)
                shade /= 1.0 - 0.4 * np.exp(-max(v - lookup(upper_0, position), 0.0) / 0.025)
                shade = min(shade, 1.1)
                rest = 1.0 - layer[3]
                er = both[0] * (1 - change) + (both[3] * rest + layer[0]) * change * shade
                eg = both[1] * (1 - change) + (both[4] * rest + layer[1]) * change * shade
                eb = both[2] * (1 - change) + (both[5] * rest + layer[2]) * change * shade
                r = r * (1 - opened) + er * opened
                g = g * (1 - opened) + eg * opened
                b = b * (1 - opened) + eb * opened
                a = a * (1 - opened) + opened
            # The edge of the lid with its lashes: a line that tapers to the corners, a fringe below it when closed.
            taper = (1.0 - smoothstep(0.30, 0.53, u)) * (1.0 - smoothstep(0.50, 0.60, -u))
            line = np.exp(-(((w - 0.2 * line_width) / line_width) ** 2))
            fringe = np.exp(-max(w, 0.0) / (0.008 + 0.016 * closure)) * 0.45 * closure * (1.0 - above)
            dark = lash_share * lash_strength * taper * max(line, fringe)
            if dark > 0.003:
                r = r * (1 - dark) + lash_colour[0] * dark
                g = g * (1 - dark) + lash_colour[1] * dark
                b = b * (1 - dark) + lash_colour[2] * dark
                a = a * (1 - dark) + dark
            rgba[row, column, 0] = r
            rgba[row, column, 1] = g
            rgba[row, column, 2] = b
            rgba[row, column, 3] = a
