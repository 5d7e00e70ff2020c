"""The inside of the mouth in a frame: the photo's own where it shows one, painted teeth, tongue and dark beyond.

The upper row of teeth is fixed to the skull, the lower row and the tongue move with the jaw, and the lips' inner
edges cut out what can be seen (coordinates: see `mouth_layers`).
"""

import numpy as np
from numba import njit

from models.mesh import teeth
from models.mesh.geometry import Head, Posed
from models.mesh.mouth_layers import COLUMNS, DEPTH, MouthAssets, place_lips, take_apart
from models.mesh.patches import Patch, lookup, sample_cubic, sample_linear, smoothstep

LOWER_BELOW_JAW = 0.022  # how far the lower teeth's edge lies below the line of closed lips when carried by the jaw


def prepare(head: Head) -> MouthAssets:
    """All of the mouth that depends on the photo only."""
    return take_apart(head)


def patch(assets: MouthAssets, posed: Posed) -> Patch | None:
    """The inside of the mouth in one frame, to lay over the warped face; None when nothing is to be drawn."""
    lips = place_lips(posed, assets.middle, assets.chin)
    moved = max(np.abs(lips.upper - assets.lips.upper).max(), np.abs(lips.lower - assets.lips.lower).max())
    change = float(np.clip(moved / 0.012, 0, 1))
    if change < 1e-3 and not assets.is_parted:
        return None
    matrix, offset = posed.plane(float(assets.middle[2]) + DEPTH)
    offset = offset + matrix @ assets.middle[:2]
    margin = 0.07 if assets.is_parted else 0.02
    x = lips.start - margin, lips.start + lips.step * (COLUMNS - 1) + margin
    y = float(lips.upper.min()) - margin, float(lips.lower.max()) + margin
    corners = np.array([offset + matrix @ (a, b) for a in x for b in y])
    x0, y0 = np.floor(corners.min(0)).astype(int)
    x1, y1 = np.ceil(corners.max(0)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2 or (x1 - x0) * (y1 - y0) > 4_000_000:
        return None
    rgba = np.zeros((y1 - y0, x1 - x0, 4), np.float32)
    _fill_mouth(
        rgba,
        np.linalg.inv(matrix),
        np.array([x0 + 0.5, y0 + 0.5]) - offset,
        float(np.linalg.norm(matrix[:, 1])),
        lips.start,
        lips.step,
        lips.upper,
        lips.lower,
        lips.gap,
        lips.jaw,
        assets.width,
        assets.lips.start,
        assets.lips.step,
        assets.lips.upper,
        assets.lips.lower,
        change,
        assets.is_parted,
        assets.plane,
        assets.inside,
        assets.own,
        assets.edge,
        assets.tones,
        assets.noise,
        assets.softness_px,
        *assets.rows,
    )
    return Patch(int(x0), int(y0), rgba)


@njit(cache=True, fastmath=True, nogil=True)
def _fill_mouth(
    rgba,
    into,
    start,
    unit,
    lip_start,
    lip_step,
    upper,
    lower,
    gap,
    jaw,
    neutral_width,
    lip_start_0,
    lip_step_0,
    upper_0,
    lower_0,
    change,
    is_parted,
    plane,
    inside,
    own,
    edge,
    tones,
    noise,
    softness_px,
    upper_row,
    lower_row,
):
    """Paint the mouth's inside. `into` maps pixels from `start` on to the plane; names ending in _0 are the photo's."""
    half = 0.5 * lip_step * (COLUMNS - 1)
    middle = lip_start + half
    cells_x = (teeth.WIDTH - 1) / (2 * teeth.X_REACH)
    cells_y = (teeth.HEIGHT - 1) / (teeth.Y_RANGE[1] - teeth.Y_RANGE[0])
    soft = max(1.0, softness_px)
    lower_line = jaw + LOWER_BELOW_JAW
    # Rounded lips stand off the teeth and shade them.
    rounded = 1.0 - smoothstep(0.50, 0.85, 2 * half / neutral_width)
    show_upper = smoothstep(0.03, 0.13, gap) * (1.0 - 0.65 * rounded)
    show_lower = smoothstep(0.09, 0.20, gap) * 0.6
    show_tongue = smoothstep(0.05, 0.13, gap)
    dusk = tones[3] / max(tones[3].max(), 1e-3)
    texel = np.empty(3, np.float32)
    paint = np.empty(3, np.float32)
    cover = np.empty(2, np.float32)
    for row in range(rgba.shape[0]):
        for column in range(rgba.shape[1]):
            px = start[0] + column
            py = start[1] + row
            x = into[0, 0] * px + into[0, 1] * py
            y = into[1, 0] * px + into[1, 1] * py
            position = (x - lip_start) / lip_step
            at_ends = max(-position, position - (COLUMNS - 1)) * lip_step  # distance beyond the corners
            top = lookup(upper, position)
            bottom = lookup(lower, position)
            # Towards the corners a wide opening is round, though the mesh has only a few points there.
            side = abs(x - middle) / half
            if side > 0.7:
                pinch = 0.5 * (bottom - top) * (1.0 - np.sqrt(max(1.0 - ((side - 0.7) / 0.3) ** 2, 0.0)))
                top += pinch
                bottom -= pinch
            slope_u = (lookup(upper, position + 1) - lookup(upper, position - 1)) / (2 * lip_step)
            slope_l = (lookup(lower, position + 1) - lookup(lower, position - 1)) / (2 * lip_step)
            below_top = min(max((y - top) * unit / soft / np.sqrt(1 + slope_u * slope_u) + 0.5, 0.0), 1.0)
            above_bottom = min(max((bottom - y) * unit / soft / np.sqrt(1 + slope_l * slope_l) + 0.5, 0.0), 1.0)
            opened = max(below_top + above_bottom - 1.0, 0.0)
            if at_ends > 0:
                opened *= max(0.0, 1.0 - at_ends * unit)
            sx = plane[0, 0] * x + plane[0, 1] * y + plane[0, 2]
            sy = plane[1, 0] * x + plane[1, 1] * y + plane[1, 2]

            r, g, b, a = 0.0, 0.0, 0.0, 0.0
            if opened > 0.0:
                deep = max(y - top, 0.0)
                local = max(bottom - top, 0.0)
                corner = 1.0 - smoothstep(0.45, 1.0, abs(x - middle) / half)
                shadow = 0.55 + 0.45 * smoothstep(0.0, 0.035, deep)
                light = shadow * (0.55 + 0.45 * smoothstep(0.01, 0.08, local)) * (0.35 + 0.65 * corner)
                for c in range(3):
                    paint[c] = tones[3, c] * (0.55 + 0.45 * corner)
                # Tongue: low in the mouth, its back lost in the dark.
                rise = bottom - 0.5 * local + 1.2 * (x - middle) ** 2
                share = show_tongue * smoothstep(rise - 0.02, rise + 0.07, y) * corner
                groove = 1.0 - 0.06 * np.exp(-(((x - middle) / 0.025) ** 2))
                for c in range(3):
                    paint[c] += (tones[2, c] * groove * (0.55 + 0.45 * light) - paint[c]) * share * 0.85
                if show_lower > 0.0:
                    sample_linear(
                        lower_row, (x + teeth.X_REACH) * cells_x, (lower_line - y - teeth.Y_RANGE[0]) * cells_y, texel
                    )
                    lip_shadow = 0.55 + 0.45 * smoothstep(0.0, 0.04, bottom - y)
                    _lay_teeth(paint, texel, tones, dusk, 0.52 * lip_shadow * light, show_lower)
                line = edge[0] + edge[1] * x + (edge[2] + 0.30) * x * x
                sample_linear(upper_row, (x + teeth.X_REACH) * cells_x, (y - line - teeth.Y_RANGE[0]) * cells_y, texel)
                _lay_teeth(paint, texel, tones, dusk, light, show_upper)
                speck = noise[int(sy) & 63, int(sx) & 63] * (paint[0] + paint[1] + paint[2]) / 300.0
                for c in range(3):
                    paint[c] += speck
                # The photo's own inside: the upper row stays with the skull, what is below it follows the jaw.
                place_0 = (x - lip_start_0) / lip_step_0
                bottom_0 = lookup(lower_0, place_0)
                own_edge = edge[0] + edge[1] * x + edge[2] * x * x
                y_0 = y
                share = 1.0
                if y > own_edge and is_parted:
                    room, room_0 = bottom - own_edge, bottom_0 - own_edge
                    follow = smoothstep(0.05, 0.10, room_0)
                    if room > room_0 and room > 1e-3:
                        y_0 = own_edge + (y - own_edge) * max(room_0, 0.0) / room
                        y_0 = y + (y_0 - y) * change
                        follow *= 1.0 - smoothstep(1.4, 2.4, room / max(room_0, 1e-3))
                    share = 1.0 - change * (1.0 - follow) * smoothstep(0.002, 0.018, y - own_edge)
                tx = plane[0, 0] * x + plane[0, 1] * y_0 + plane[0, 2]
                ty = plane[1, 0] * x + plane[1, 1] * y_0 + plane[1, 2]
                sample_linear(own, tx, ty, cover)
                share *= cover[0] * change + (1.0 - change)
                if share > 0.0:
                    sample_cubic(inside, tx, ty, texel)
                    # Less light falls through a narrower gap than the photo's.
                    dim = shadow / (0.55 + 0.45 * smoothstep(0.0, 0.035, max(y - lookup(upper_0, place_0), 0.0)))
                    if y < own_edge:
                        # Dark between the teeth's edge and the lip is the lip's shadow: it goes when the lip is lifted.
                        lifted = change * smoothstep(0.005, 0.03, lookup(upper_0, place_0) - top)
                        bright = (texel[0] + texel[1] + texel[2]) / (tones[0, 0] + tones[0, 1] + tones[0, 2])
                        share *= 1.0 - lifted * (1.0 - smoothstep(0.4, 0.75, bright))
                    local_0 = max(bottom_0 - lookup(upper_0, place_0), 0.0)
                    dim *= (0.5 + 0.5 * smoothstep(0.0, 0.08, local)) / (0.5 + 0.5 * smoothstep(0.0, 0.08, local_0))
                    dim = 1.0 + change * (min(dim, 1.0) - 1.0)
                    for c in range(3):
                        paint[c] += (texel[c] * dim - paint[c]) * share
                r, g, b, a = paint[0] * opened, paint[1] * opened, paint[2] * opened, opened
            if is_parted and change < 1.0 and a < 1.0:
                # Next to the photo's own expression the lips' rim is the photo's too.
                sample_linear(own, sx, sy, cover)
                share = cover[1] * (1.0 - change) * (1.0 - a)
                if share > 0.0:
                    sample_cubic(inside, sx, sy, texel)
                    r += texel[0] * share
                    g += texel[1] * share
                    b += texel[2] * share
                    a += share
            rgba[row, column, 0] = max(r, 0.0)
            rgba[row, column, 1] = max(g, 0.0)
            rgba[row, column, 2] = max(b, 0.0)
            rgba[row, column, 3] = a


@njit(cache=True, fastmath=True, nogil=True)
def _lay_teeth(paint, row, tones, dusk, light, shown):
    """Lay a point of a row of teeth over `paint`: its light, cover and share of gum in `row`, under a light 0 to 1."""
    for c in range(3):
        tint = tones[0, c] * (1 - row[2]) + tones[1, c] * row[2]
        # What light gets between the teeth comes back from flesh: their shade is of its hue.
        shade = dusk[c] + (1 - dusk[c]) * light
        paint[c] += (tint * row[0] * light * shade - paint[c]) * row[1] * shown
