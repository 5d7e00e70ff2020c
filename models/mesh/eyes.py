"""Eyes: a rigid eyeball with a turning iris behind lids that open and close.

An eye is drawn in its own frame: u runs along the axis between the eye corners (-0.5 at the outer corner, 0.5 at
the inner one), v downwards in model units. Lids are curves v(u). The frame sticks to the corners, so the eyeball
follows the head while the lids slide over it.

From the photo, once: the eye as it is; the eyeball without iris; the iris as a layer of its own, completed behind
the lids; the bare skin without eye and lashes; the lashes' darkness along the upper lid.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from models.facespace import topology as topo
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

COLUMNS = 65  # samples of a lid curve
U_REACH = 0.66  # how far from the middle of the eye the lid's skin is drawn, in u
CURVE_AXIS = np.linspace(-U_REACH, U_REACH, COLUMNS)
LID_MATRIX = subdivide(9, COLUMNS)
CREASE_MATRIX = subdivide(7, COLUMNS)
IRIS_LEVER = 0.115  # distance of the iris from the eyeball's centre of rotation, model units
LASH_ROWS = 28
LASH_RANGE = (-0.085, 0.025)  # of the lash table around the upper lid's edge, in v
SHUT = 0.16  # lids this close (share of the photo's opening) are taken as shut

# (upper lid, lower lid, crease above the upper lid, first iris point), right eye first.
EYES = (
    (topo.RIGHT_EYE_UPPER, topo.RIGHT_EYE_LOWER, topo.RIGHT_CREASE, 0),
    (topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER, topo.LEFT_CREASE, 5),
)


@dataclass(frozen=True)
class Lids:
    """The lids of one eye in one frame, in the eye's own frame.

    Args:
        origin: pixel of the middle between the corners, shape (2,).
        axes: pixels per u and per v as columns, shape (2, 2).
        upper, lower, crease: v over `CURVE_AXIS`, each of shape (COLUMNS,).
        opening: mean distance of the lids in model units.
    """

    origin: np.ndarray
    axes: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    crease: np.ndarray
    opening: float


@dataclass(frozen=True)
class Eye:
    """One eye of a photo.

    Args:
        lids: as in the photo.
        corner: pixel of the textures' first pixel, (x, y).
        ball: photo, then eyeball without iris, colours 0 to 255, float32, shape (h, w, 6).
        iris: premultiplied colour and coverage of the iris, shape (h, w, 4).
        skin: lid skin without eye and lashes, shape (h, w, 3).
        cover: coverage of what lies in front of the eye (hair, glasses), shape (h, w, 1).
        lash: darkness of the lashes over (v, u), shape (LASH_ROWS, COLUMNS, 1).
        lash_colour: shape (3,).
        lash_strength: how dark the line of the closed lid is drawn, 0..1.
        softness_px: width of the photo's edges.
        across: pixels per model unit along canonical x, shape (2,).
        gaze: of the photo, (yaw, pitch) in radians.
    """

    lids: Lids
    corner: np.ndarray
    ball: np.ndarray
    iris: np.ndarray
    skin: np.ndarray
    cover: np.ndarray
    lash: np.ndarray
    lash_colour: np.ndarray
    lash_strength: float
    softness_px: float
    across: np.ndarray
    gaze: np.ndarray


@dataclass(frozen=True)
class EyesAssets:
    """What `patches` needs of a photo: its eyes, the person's right one first; an eye too small to draw is None."""

    eyes: tuple[Eye | None, Eye | None]


def prepare(head: Head) -> EyesAssets:
    """All of the eyes that depends on the photo only."""
    right, left = (_prepare_eye(head, *names) for names in EYES)
    return EyesAssets((right, left))


def patches(assets: EyesAssets, posed: Posed) -> list[Patch]:
    """The eyes of one frame, to lay over the warped face; empty where they look as in the photo."""
    drawn = (_draw_eye(eye, posed, names) for eye, names in zip(assets.eyes, EYES) if eye is not None)
    return [patch for patch in drawn if patch is not None]


def place_lids(posed: Posed, upper: tuple[int, ...], lower: tuple[int, ...], crease: tuple[int, ...]) -> Lids:
    """The lids of a posed mesh in the eye's own frame."""
    xy = posed.xy.astype(np.float64)
    outer, inner = xy[upper[0]], xy[upper[-1]]
    down = posed.plane(0.0)[0][:, 1]
    origin = (outer + inner) / 2
    axes = np.column_stack([inner - outer, down])
    into = np.linalg.inv(axes)
    above, below, fold = ((xy[list(line)] - origin) @ into.T for line in (upper, lower, crease))
    inside = np.clip(CURVE_AXIS, -0.5, 0.5)
    top = curve_over(inside, above, LID_MATRIX)
    bottom = curve_over(inside, below, LID_MATRIX)
    return Lids(
        origin=origin,
        axes=axes,
        upper=top,
        lower=bottom,
        crease=curve_over(CURVE_AXIS, fold, CREASE_MATRIX),
        opening=float(np.mean(below[2:7, 1] - above[2:7, 1])),
    )


def _prepare_eye(head, upper, lower, crease, iris_start) -> Eye | None:
    lids = place_lids(head.source, upper, lower, crease)
    unit = float(np.linalg.norm(lids.axes[:, 1]))
    corners = [lids.origin + lids.axes @ (u, v) for u in (-0.85, 0.85) for v in (-0.24, 0.24)]
    box = clip_box(np.array(corners), 2.0, head.image.shape)
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 6 or np.linalg.norm(lids.axes[:, 0]) < 5:
        return None
    x0, y0, x1, y1 = box
    photo = head.image[y0:y1, x0:x1].astype(np.float32)
    u, v = _eye_coordinates(lids, photo.shape, (x0, y0))
    top, bottom, fold = (
        np.interp(u, CURVE_AXIS, line).astype(np.float32) for line in (lids.upper, lids.lower, lids.crease)
    )
    pixel = 1 / unit
    open_eye = np.minimum(_ramp(v - top, pixel), _ramp(bottom - v, pixel)) * (np.abs(u) < 0.5)

    softness = max(0.8, 0.012 * unit)
    skin, trusted = _bare_skin(head, photo, u, v, top, bottom, box, unit)
    lash, lash_colour, strength = _lashes(photo, skin, lids, (x0, y0))
    cover = _cover(photo, skin, u, v, top, bottom, unit)
    ball, iris = _eyeball(
        photo, open_eye, u, v, top, bottom, head.iris_px[iris_start : iris_start + 5] - (x0, y0), unit
    )
    return Eye(
        lids=lids,
        corner=np.array([x0, y0], np.float64),
        ball=np.ascontiguousarray(np.dstack([photo, ball]), np.float32),
        iris=np.ascontiguousarray(iris, np.float32),
        skin=np.ascontiguousarray(skin, np.float32),
        cover=np.ascontiguousarray(cover[..., None], np.float32),
        lash=lash,
        lash_colour=lash_colour,
        lash_strength=strength,
        softness_px=softness,
        across=head.source.plane(0.0)[0][:, 0],
        gaze=np.asarray(head.face.gaze, np.float64),
    )


def _eye_coordinates(lids: Lids, shape: tuple[int, ...], corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of the pixel centres of a box, each float32 of shape (h, w)."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) + 0.5
    place = np.stack([x + corner[0] - lids.origin[0], y + corner[1] - lids.origin[1]], -1)
    uv = place @ np.linalg.inv(lids.axes).T.astype(np.float32)
    return uv[..., 0], uv[..., 1]


def _ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Coverage of a half-plane by pixels of a width: 0 outside, 1 inside, linear across the edge."""
    return np.clip(distance / width + 0.5, 0.0, 1.0)


def _bare_skin(head, photo, u, v, top, bottom, box, unit):
    """Skin of the lid without eye, lashes and brow, with the grain of the cheek; and where the photo was trusted."""
    reach = np.clip((0.62 - np.abs(u)) / 0.08, 0, 1)
    hidden = (v > top - 0.055) & (v < bottom + 0.03) & (reach > 0)
    brow = np.zeros(photo.shape[:2], np.uint8)
    for upper, lower in ((topo.RIGHT_BROW_UPPER, topo.RIGHT_BROW_LOWER), (topo.LEFT_BROW_UPPER, topo.LEFT_BROW_LOWER)):
        line = np.concatenate([head.source.xy[list(upper)], head.source.xy[list(lower[::-1])]]) - box[:2]
        cv2.fillPoly(brow, [np.round(line * 16).astype(np.int32)], 1, shift=4)
    size = 2 * max(1, round(0.025 * unit)) + 1
    brow = cv2.dilate(brow, np.ones((size, size), np.uint8))
    trust = np.where(hidden | (brow > 0), 0.0, 1.0).astype(np.float32)
    # Lashes and frames are thin and darker than the skin on both sides of them; shadows are wide and stay.
    size = 2 * max(1, round(0.04 * unit)) + 1
    grey = photo.mean(-1)
    closed = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    trust *= np.clip((grey / np.maximum(closed, 1) - 0.75) / 0.15, 0.02, 1)
    smooth = fill(photo, trust)
    smooth = cv2.GaussianBlur(smooth, (0, 0), max(0.8, 0.02 * unit))
    cheek = head.source.xy[[117, 118, 101, 50] if u[0, 0] < u[0, -1] else [346, 347, 330, 280]]
    piece = clip_box(cheek, 0.0, head.image.shape)
    if piece is not None:
        smooth = smooth + grain(head.image, piece, photo.shape[:2])[..., None]
    return smooth, trust


def _lashes(photo, skin, lids, corner):
    """Darkness of the lashes over (v from the lid's edge, u), their colour, and how strong they are."""
    rows = np.linspace(*LASH_RANGE, LASH_ROWS)
    place = (
        lids.origin
        + np.stack(
            [
                CURVE_AXIS[None, :, None] * lids.axes[:, 0]
                + (lids.upper[None, :] + rows[:, None])[..., None] * lids.axes[:, 1]
            ]
        )[0]
    )
    x = (place[..., 0] - corner[0] - 0.5).astype(np.float32)
    y = (place[..., 1] - corner[1] - 0.5).astype(np.float32)
    seen = cv2.remap(photo, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).mean(-1)
    plain = cv2.remap(skin, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    darkness = np.clip(1 - seen / np.maximum(plain.mean(-1), 1), 0, 0.95)
    edge = np.abs(rows) < 0.018
    inner = np.abs(CURVE_AXIS) < 0.4
    strength = float(np.clip(1.25 * np.median(darkness[edge][:, inner].max(0)), 0.35, 0.85))
    # Brows and folds higher up are no lashes; below the edge lies the eye itself.
    fade = np.clip((rows - rows[0]) / 0.035, 0, 1) * np.clip((0.012 - rows) / 0.012, 0, 1)
    lash = darkness * fade[:, None]
    weight = (darkness * edge[:, None]) ** 2 + 1e-6
    samples = cv2.remap(photo, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    dark = (samples * weight[..., None]).sum((0, 1)) / weight.sum()
    colour = np.minimum(dark, 0.45 * plain.mean((0, 1)))
    return np.ascontiguousarray(lash[..., None], np.float32), colour.astype(np.float32), strength


def _cover(photo, skin, u, v, top, bottom, unit):
    """Coverage of what hangs in front of the eye; none for now."""
    return np.zeros(photo.shape[:2], np.float32)


def _eyeball(photo, open_eye, u, v, top, bottom, iris_px, unit):
    """The eyeball without iris (h, w, 3), and the iris premultiplied (h, w, 4), completed behind the lids."""
    height, width = open_eye.shape
    centre = iris_px[0]
    radius = max(1.0, float(np.linalg.norm(iris_px[1:] - centre, axis=1).mean()))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    dx, dy = x - centre[0], y - centre[1]
    r = np.hypot(dx, dy) / radius
    disc = 1 - np.clip((r - 0.93) / max(0.18, 1.2 / radius), 0, 1)
    disc = disc * disc * (3 - 2 * disc)

    rim = max(1.0 / unit, 0.012)
    inside = np.clip(np.minimum(v - top - 0.4 * rim, bottom - v - 0.4 * rim) / rim, 0, 1) * (np.abs(u) < 0.5)
    white = (inside * (disc <= 0)).astype(np.float32)
    grey = photo.mean(-1)
    if white.sum() > 4:
        # Lashes and corners in the opening are no eyeball: the bright half of the white says how dark it may be.
        bright = np.percentile(grey[white > 0.5], 75) if (white > 0.5).any() else grey.max()
        white = white * np.clip((grey / max(float(bright), 1.0) - 0.5) / 0.25, 0, 1)
        filled = fill(photo, white + 1e-6 * inside)
    else:  # an eye too small or too narrow to show any white
        lit = photo[open_eye > 0.5]
        filled = np.broadcast_to(np.percentile(lit, 80, axis=0) if len(lit) else photo.mean((0, 1)), photo.shape)
    keep = white[..., None]
    ball = photo * keep + filled * (1 - keep)

    # Behind the lids the iris is its own mirror image where that is visible, else the mean of its ring.
    total, mass = photo * inside[..., None], inside.copy()
    mirrored = np.zeros_like(photo)
    share = np.zeros_like(inside)
    for sx, sy in ((-1, 1), (1, -1), (-1, -1)):
        mx = (centre[0] + sx * dx - 0.5).astype(np.float32)
        my = (centre[1] + sy * dy - 0.5).astype(np.float32)
        seen = cv2.remap(inside.astype(np.float32), mx, my, cv2.INTER_LINEAR)
        mirrored += cv2.remap(photo, mx, my, cv2.INTER_LINEAR) * seen[..., None]
        share += seen
    ring = np.clip((r * 6).astype(int), 0, 8)
    weights = np.bincount(ring.ravel(), inside.ravel(), 9) + 1e-3
    mean = np.stack([np.bincount(ring.ravel(), (photo[..., c] * inside).ravel(), 9) / weights for c in range(3)], -1)
    for k in range(1, 9):  # rings that aren't seen at all repeat their inner neighbour
        if weights[k] < 0.5:
            mean[k] = mean[k - 1]
    guess = (mirrored + 0.2 * mean[ring]) / (share + 0.2)[..., None]
    full = total + guess * (1 - mass[..., None])
    # The layer is exactly what the photo adds to the bare eyeball: at the photo's own gaze it gives the photo back.
    colour = np.clip(full - ball * (1 - disc[..., None]), 0, 255) * (disc > 0)[..., None]
    return ball, np.dstack([colour, disc])


def _draw_eye(eye: Eye, posed: Posed, names) -> Patch | None:
    lids = place_lids(posed, *names[:3])
    opening = max(eye.lids.opening, 0.02)
    closure = float(np.clip((eye.lids.opening - lids.opening) / opening, -1.0, 1.0))
    shift = IRIS_LEVER * np.array(
        [
            np.sin(eye.gaze[0]) - np.sin(posed.gaze[0]),
            np.sin(posed.gaze[1]) - np.sin(eye.gaze[1]),
        ]
    )
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
):
    """Paint one eye. `into` maps pixels from `start` on to (u, v); `source_*` map (u, v) to texture indices.

    `upper`, `lower`, `crease` are the frame's curves, `upper_0` is the photo's.
    """
    columns = (COLUMNS - 1) / (2 * U_REACH)
    lash_rows = (LASH_ROWS - 1) / (LASH_RANGE[1] - LASH_RANGE[0])
    lid_share = smoothstep(0.02, 0.3, closure)
    line_width = max(0.013, 0.8 / unit)
    both = np.empty(6, np.float32)
    layer = np.empty(4, np.float32)
    tone = np.empty(3, np.float32)
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
            slope = (lookup(upper, position + 1) - lookup(upper, position - 1)) * columns * 0.5 / 0.33
            across = unit / np.sqrt(1 + slope * slope)
            above = min(max((top - v) * across + 0.5, 0.0), 1.0)  # share of the pixel above the upper lid's edge
            below = min(max((v - bottom) * across + 0.5, 0.0), 1.0)
            opened = max(1.0 - above - below, 0.0)
            if abs(u) >= 0.5:
                opened = 0.0
            ends = 1.0 - smoothstep(0.52, U_REACH, abs(u))

            r, g, b, a = 0.0, 0.0, 0.0, 0.0
            lid = lid_share * ends * above * smoothstep(fold - 0.075, fold - 0.01, v)
            if lid > 0.0:
                sample_linear(skin, sx, sy, tone)
                depth = (v - fold) / max(top - fold, 0.02)
                bulge = 1.0 + 0.05 * lid_share * (1.0 - (2.0 * min(max(depth, 0.0), 1.0) - 1.0) ** 2) - 0.03
                r, g, b, a = tone[0] * bulge * lid, tone[1] * bulge * lid, tone[2] * bulge * lid, lid
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
            dark = lid_share * lash_strength * taper * max(line, fringe)
            if dark > 0.003:
                r = r * (1 - dark) + lash_colour[0] * dark
                g = g * (1 - dark) + lash_colour[1] * dark
                b = b * (1 - dark) + lash_colour[2] * dark
                a = a * (1 - dark) + dark
            rgba[row, column, 0] = r
            rgba[row, column, 1] = g
            rgba[row, column, 2] = b
            rgba[row, column, 3] = a
