"""The inside of the mouth: the photo's own where it shows one, painted teeth, tongue and dark beyond.

The inside is drawn in canonical coordinates of a plane just behind the lips (see `Posed.plane`): the upper row of
teeth is fixed to the skull there, the lower row and the tongue move with the jaw, and the lips' inner edges, curves
y(x) in the same plane, cut out what can be seen.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from models.facespace import topology as topo
from models.mesh import teeth, tone
from models.mesh.fill import fill, grain
from models.mesh.geometry import Head, Posed
from models.mesh.patches import (
    Patch,
    clip_box,
    curve_over,
    lookup,
    sample_cubic,
    sample_linear,
    smoothstep,
    subdivide,
)

COLUMNS = 65  # samples of a lip curve
LIP_MATRIX = subdivide(11, COLUMNS)
DEPTH = 0.05  # of the plane of teeth behind the lips, model units
EDGE_BELOW_LIPS = 0.030  # how far the upper teeth reach below the line of closed lips
LOWER_BELOW_JAW = 0.022  # how far the lower teeth's edge lies below that line when carried down by the jaw
PARTED = 0.035  # photos with a wider gap show an inside of their own
RIM = 0.022  # width of the lips' inner rim that may still carry the photo's teeth, model units
CHIN = (152, 175, 199)


@dataclass(frozen=True)
class Lips:
    """The lips' inner edges in one frame, in the plane of the teeth, relative to the mouth's middle.

    Args:
        start, step: x of the first sample and distance of samples.
        upper, lower: y at the samples, float32, shape (COLUMNS,).
        gap: widest opening.
        jaw: how far the chin is lowered.
    """

    start: float
    step: float
    upper: np.ndarray
    lower: np.ndarray
    gap: float
    jaw: float


@dataclass(frozen=True)
class MouthAssets:
    """What `patch` needs of a photo.

    Args:
        texture: the photo, its open mouth's inside painted over with lip, uint8, shape (H, W, 3); to be warped.
        middle: canonical middle of the closed mouth, shape (3,).
        chin: canonical height of the chin with a neutral face.
        lips: as in the photo.
        plane: affine map of the teeth's plane to pixels of `inside`, shape (2, 3).
        inside: photo around the mouth, float32, shape (h, w, 3).
        own: coverage of the mouth's inside, then of the inside with its rim, float32, shape (h, w, 2).
        edge: y of the lower edge of the photo's upper teeth over x as a parabola (three coefficients).
        is_parted: whether the photo shows an inside.
        tones: tooth, gum, tongue, cavity, seam colours, shape (5, 3).
        noise: the photo's grain, shape (64, 64).
        softness_px: width of the photo's edges.
    """

    texture: np.ndarray
    middle: np.ndarray
    chin: float
    lips: Lips
    plane: np.ndarray
    inside: np.ndarray
    own: np.ndarray
    edge: np.ndarray
    is_parted: bool
    tones: np.ndarray
    noise: np.ndarray
    softness_px: float


def place_lips(posed: Posed, middle: np.ndarray, chin: float) -> Lips:
    """The lips' inner edges of a posed mesh."""
    matrix, offset = posed.plane(float(middle[2]) + DEPTH)
    into = np.linalg.inv(matrix)
    upper, lower = (
        (posed.xy[list(line)].astype(np.float64) - offset) @ into.T - middle[:2]
        for line in (topo.UPPER_LIP_INNER, topo.LOWER_LIP_INNER)
    )
    start, stop = float(min(upper[0, 0], lower[0, 0])), float(max(upper[-1, 0], lower[-1, 0]))
    stop = max(stop, start + 1e-3)
    axis = np.linspace(start, stop, COLUMNS)
    top, bottom = curve_over(axis, upper, LIP_MATRIX), curve_over(axis, lower, LIP_MATRIX)
    return Lips(
        start=start,
        step=(stop - start) / (COLUMNS - 1),
        upper=top,
        lower=bottom,
        gap=float((bottom - top).max()),
        jaw=float(posed.canonical[list(CHIN), 1].mean() - chin),
    )


def prepare(head: Head) -> MouthAssets:
    """All of the mouth that depends on the photo only."""
    neutral = head.neutral
    middle = ((neutral[13] + neutral[14]) / 2).astype(np.float64)
    chin = float(neutral[list(CHIN), 1].mean())
    lips = place_lips(head.source, middle, chin)
    matrix, offset = head.source.plane(float(middle[2]) + DEPTH)
    unit = head.eye_distance_px
    outline = head.source.xy[[*topo.UPPER_LIP_OUTER, *topo.LOWER_LIP_OUTER]]
    box = clip_box(outline, 0.12 * unit, head.image.shape) or (0, 0, 2, 2)
    x0, y0, x1, y1 = box
    photo = head.image[y0:y1, x0:x1].astype(np.float32)
    colours = tone.measure(head)
    inner = _opening(head, (x0, y0), photo.shape)
    is_parted = lips.gap > PARTED
    rim = cv2.dilate(inner, _disc(RIM * unit))
    plane = np.column_stack([matrix, matrix @ middle[:2] + offset - (x0 + 0.5, y0 + 0.5)])

    texture, edge, tooth = head.image, np.array([EDGE_BELOW_LIPS, 0.0, -teeth.UPPER_ARC]), colours.tooth
    if is_parted:
        mouth = head.source.xy[[*topo.UPPER_LIP_OUTER, *topo.LOWER_LIP_OUTER[::-1]]] - (x0, y0)
        clean = _clean_lips(head, photo, inner, rim, mouth, unit)
        texture = head.image.copy()
        texture[y0:y1, x0:x1] = np.clip(clean + 0.5, 0, 255).astype(np.uint8)
        edge, tooth = _own_teeth(photo, plane, lips, colours, edge)
    cheek = clip_box(head.source.xy[[50, 101, 205]], 0.0, head.image.shape)
    noise = grain(head.image, cheek, (64, 64)) if cheek is not None else np.zeros((64, 64), np.float32)
    feather = max(0.8, 0.006 * unit)
    own = np.dstack(
        [
            cv2.GaussianBlur(cv2.erode(inner, _disc(0.004 * unit)), (0, 0), feather),
            cv2.GaussianBlur(rim, (0, 0), feather),
        ]
    )
    if not is_parted:
        own[..., 0] = 0
    seam = 0.3 * colours.lips
    return MouthAssets(
        texture=texture,
        middle=middle,
        chin=chin,
        lips=lips,
        plane=plane,
        inside=np.ascontiguousarray(photo),
        own=np.ascontiguousarray(own, np.float32),
        edge=edge.astype(np.float64),
        is_parted=is_parted,
        tones=np.stack([tooth, colours.gum, colours.tongue, colours.cavity, seam]).astype(np.float32),
        noise=noise,
        softness_px=colours.softness_px,
    )


def patch(assets: MouthAssets, posed: Posed) -> Patch | None:
    """The inside of the mouth in one frame, to lay over the warped face; None when nothing is to be drawn."""
    lips = place_lips(posed, assets.middle, assets.chin)
    moved = max(np.abs(lips.upper - assets.lips.upper).max(), np.abs(lips.lower - assets.lips.lower).max())
    change = float(np.clip(moved / 0.012, 0, 1))
    if change < 1e-3 and not assets.is_parted:
        return None
    matrix, offset = posed.plane(float(assets.middle[2]) + DEPTH)
    offset = offset + matrix @ assets.middle[:2]
    margin = 0.05 if assets.is_parted else 0.02
    x = lips.start - margin, lips.start + lips.step * (COLUMNS - 1) + margin
    y = float(lips.upper.min()) - margin, float(lips.lower.max()) + margin
    corners = np.array([offset + matrix @ (a, b) for a in x for b in y])
    x0, y0 = np.floor(corners.min(0)).astype(int)
    x1, y1 = np.ceil(corners.max(0)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2 or (x1 - x0) * (y1 - y0) > 4_000_000:
        return None
    rgba = np.zeros((y1 - y0, x1 - x0, 4), np.float32)
    upper_row, lower_row = teeth.tables()
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
        upper_row,
        lower_row,
    )
    return Patch(int(x0), int(y0), rgba)


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _opening(head: Head, corner: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Coverage of the photo's mouth opening, float32, shape (h, w)."""
    upper = LIP_MATRIX @ head.source.xy[list(topo.UPPER_LIP_INNER)]
    lower = LIP_MATRIX @ head.source.xy[list(topo.LOWER_LIP_INNER)]
    line = np.concatenate([upper, lower[::-1]]) - corner
    scale = 4
    fine = np.zeros((shape[0] * scale, shape[1] * scale), np.uint8)
    cv2.fillPoly(fine, [np.round((line * scale - 0.5) * 16).astype(np.int32)], 255, shift=4)
    return cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _clean_lips(head, photo, inner, rim, mouth, unit) -> np.ndarray:
    """The photo with the mouth's inside and the lips' rim filled by lip colours."""
    flesh = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillPoly(flesh, [np.round((mouth - 0.5) * 16).astype(np.int32)], 1, shift=4)
    trust = flesh * (1 - rim)
    if trust.sum() < 12:  # lips thinner than their rim: take the skin around them too
        trust = cv2.dilate(flesh, _disc(0.05 * unit)) * (1 - rim)
    smooth = fill(photo, trust.astype(np.float32) + 1e-5 * (1 - rim))
    cheek = clip_box(head.source.xy[[50, 101, 205]], 0.0, head.image.shape)
    if cheek is not None:
        smooth = smooth + grain(head.image, cheek, photo.shape[:2])[..., None]
    return photo + (smooth - photo) * cv2.GaussianBlur(rim, (0, 0), max(0.7, 0.006 * unit))[..., None]


def _own_teeth(photo, plane, lips, colours, default):
    """Lower edge of the photo's upper teeth (parabola over x) and their colour; the defaults where none are seen."""
    columns, rows = 41, 48
    x = np.linspace(lips.start, lips.start + lips.step * (COLUMNS - 1), columns + 8)[4:-4]
    place = (x - lips.start) / lips.step
    top = np.interp(place, np.arange(COLUMNS), lips.upper)
    bottom = np.interp(place, np.arange(COLUMNS), lips.lower)
    share = (np.arange(rows) + 0.5) / rows
    y = top + (bottom - top) * share[:, None]
    grid = np.stack([np.broadcast_to(x, y.shape), y], -1) @ plane[:, :2].T + plane[:, 2]
    seen = cv2.remap(photo, grid[..., 0].astype(np.float32), grid[..., 1].astype(np.float32), cv2.INTER_LINEAR)
    light = seen.mean(-1)
    redness = (seen[..., 0] - seen[..., 1:].mean(-1)) / np.maximum(light, 1)
    lip_redness = (colours.lips[0] - colours.lips[1:].mean()) / max(colours.lips.mean(), 1.0)
    bright = light > max(0.55 * np.percentile(light, 95), 0.5 * colours.skin.mean())
    tooth = bright & (redness < max(0.7 * lip_redness, 0.12))
    if tooth.mean() < 0.12:
        return default, colours.tooth
    # The row ends where light turns to dark for the first time, from the upper lip downwards.
    ends, places = [], []
    for k in range(columns):
        hits = np.flatnonzero(tooth[:, k])
        if len(hits) < 2 or y[hits[-1], k] - y[hits[0], k] < 0.008:
            continue
        breaks = np.flatnonzero(np.diff(hits) > 3)
        last = hits[breaks[0]] if len(breaks) else hits[-1]
        ends.append(y[last, k])
        places.append(x[k])
    if len(ends) < 6:
        return default, colours.tooth
    ends, places = np.array(ends), np.array(places)
    basis = np.stack([np.ones_like(places), places, places**2], 1)
    weight = np.ones_like(ends)
    for _ in range(6):  # least absolute deviations: columns of tongue or lower teeth must not bend the curve
        curve = np.linalg.lstsq(basis * weight[:, None], ends * weight, rcond=None)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(ends - basis @ curve), 0.004))
    curve[2] = np.clip(curve[2], -1.5, 0.2)
    light = seen[tooth].mean(1)
    return curve, np.median(seen[tooth][light >= np.percentile(light, 40)], axis=0)


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
    show_upper = smoothstep(0.018, 0.06, gap)
    show_lower = smoothstep(0.07, 0.16, gap) * 0.8
    show_tongue = smoothstep(0.05, 0.13, gap)
    seam_width = max(0.011, 0.7 * soft / unit)
    seam_share = change * (1.0 - smoothstep(0.01, 0.05, gap)) if is_parted else 0.0
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
                shadow = 0.25 + 0.75 * smoothstep(0.0, 0.05, deep)
                light = shadow * (0.30 + 0.70 * smoothstep(0.01, 0.12, local)) * (0.35 + 0.65 * corner)
                for c in range(3):
                    paint[c] = tones[3, c] * (0.55 + 0.45 * corner)
                # Tongue: low in the mouth, its back lost in the dark.
                rise = bottom - 0.45 * local + 1.2 * (x - middle) ** 2
                share = show_tongue * smoothstep(rise - 0.02, rise + 0.07, y) * corner
                groove = 1.0 - 0.12 * np.exp(-(((x - middle) / 0.018) ** 2))
                for c in range(3):
                    paint[c] += (tones[2, c] * groove * (0.45 + 0.55 * light) - paint[c]) * share * 0.85
                if show_lower > 0.0:
                    sample_linear(
                        lower_row, (x + teeth.X_REACH) * cells_x, (lower_line - y - teeth.Y_RANGE[0]) * cells_y, texel
                    )
                    share = texel[1] * show_lower
                    lip_shadow = 0.55 + 0.45 * smoothstep(0.0, 0.04, bottom - y)
                    for c in range(3):
                        tint = tones[0, c] * (1 - texel[2]) + tones[1, c] * texel[2]
                        paint[c] += (tint * texel[0] * 0.62 * lip_shadow * light - paint[c]) * share
                line = edge[0] + edge[1] * x + (edge[2] + 0.30) * x * x
                sample_linear(upper_row, (x + teeth.X_REACH) * cells_x, (y - line - teeth.Y_RANGE[0]) * cells_y, texel)
                share = texel[1] * show_upper
                for c in range(3):
                    tint = tones[0, c] * (1 - texel[2]) + tones[1, c] * texel[2]
                    paint[c] += (tint * texel[0] * light - paint[c]) * share
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
                    follow = smoothstep(0.015, 0.05, room_0)
                    if room > room_0 and room > 1e-3:
                        y_0 = own_edge + (y - own_edge) * max(room_0, 0.0) / room
                        y_0 = y + (y_0 - y) * change
                    share = 1.0 - change * (1.0 - follow) * smoothstep(0.0, 0.012, y - own_edge)
                tx = plane[0, 0] * x + plane[0, 1] * y_0 + plane[0, 2]
                ty = plane[1, 0] * x + plane[1, 1] * y_0 + plane[1, 2]
                sample_linear(own, tx, ty, cover)
                share *= cover[0] * change + (1.0 - change)
                if share > 0.0:
                    sample_cubic(inside, tx, ty, texel)
                    dim = shadow / (0.25 + 0.75 * smoothstep(0.0, 0.05, max(y - lookup(upper_0, place_0), 0.0)))
                    dim = 1.0 + change * (min(dim, 1.0) - 1.0)
                    for c in range(3):
                        paint[c] += (texel[c] * dim - paint[c]) * share
                r, g, b, a = paint[0] * opened, paint[1] * opened, paint[2] * opened, opened
            if seam_share > 0.0 and at_ends < 0.01:
                # Lips of a photo with an open mouth have no seam of their own where they meet.
                off = y - 0.5 * (top + bottom)
                dark = seam_share * (
                    0.6 * np.exp(-((off / seam_width) ** 2)) + 0.2 * np.exp(-((off / (3 * seam_width)) ** 2))
                )
                dark *= 1.0 - smoothstep(-0.03, 0.01, at_ends)
                r = r * (1 - dark) + tones[4, 0] * dark
                g = g * (1 - dark) + tones[4, 1] * dark
                b = b * (1 - dark) + tones[4, 2] * dark
                a = a * (1 - dark) + dark
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
