"""What one photo shows of its eyes, taken apart: eyeball, iris, lid skin and lashes.

An eye has a frame of its own: u runs along the axis between the eye corners (-0.5 at the outer corner, 0.5 at the
inner one), v downwards in model units. Lids are curves v(u). The frame sticks to the corners, so the eyeball follows
the head while the lids slide over it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.facespace import topology as topo
from models.mesh.fill import fill, grain
from models.mesh.geometry import Head, Posed
from models.mesh.patches import clip_box, curve_over, subdivide

COLUMNS = 65  # samples of a lid curve
U_REACH = 0.66  # how far from the middle of the eye the lid's skin is drawn, in u
CURVE_AXIS = np.linspace(-U_REACH, U_REACH, COLUMNS)
LID_MATRIX = subdivide(9, COLUMNS)
CREASE_MATRIX = subdivide(7, COLUMNS)
LASH_ROWS = 28
LASH_RANGE = (-0.085, 0.025)  # of the lash table around the upper lid's edge, in v

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
        skin: lid skin without eye and lashes, and where it hides what is left of the eye below a shut lid;
            shape (h, w, 4).
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
    lash: np.ndarray
    lash_colour: np.ndarray
    lash_strength: float
    softness_px: float
    across: np.ndarray
    gaze: np.ndarray


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


def take_apart(
    head: Head,
    upper: tuple[int, ...],
    lower: tuple[int, ...],
    crease: tuple[int, ...],
    iris_start: int,
    softness_px: float,
) -> Eye | None:
    """One eye of a photo, named as in `EYES`; None when it is too small to be drawn anew."""
    lids = place_lids(head.source, upper, lower, crease)
    unit = float(np.linalg.norm(lids.axes[:, 1]))
    corners = [lids.origin + lids.axes @ (u, v) for u in (-0.85, 0.85) for v in (-0.24, 0.24)]
    box = clip_box(np.array(corners), 2.0, head.image.shape)
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 6 or np.linalg.norm(lids.axes[:, 0]) < 5:
        return None
    x0, y0, x1, y1 = box
    photo = head.image[y0:y1, x0:x1].astype(np.float32)
    u, v = _eye_coordinates(lids, photo.shape, (x0, y0))
    top, bottom = (np.interp(u, CURVE_AXIS, line).astype(np.float32) for line in (lids.upper, lids.lower))
    pixel = 1 / unit
    open_eye = np.minimum(_ramp(v - top, pixel), _ramp(bottom - v, pixel)) * (np.abs(u) < 0.5)

    skin = _bare_skin(head, photo, u, v, top, bottom, box, unit)
    lash, lash_colour, strength = _lashes(photo, skin, lids, (x0, y0))
    leftover = _leftover(photo, skin, v, bottom)
    ball, iris = _eyeball(
        photo, open_eye, u, v, top, bottom, head.iris_px[iris_start : iris_start + 5] - (x0, y0), unit
    )
    return Eye(
        lids=lids,
        corner=np.array([x0, y0], np.float64),
        ball=np.ascontiguousarray(np.dstack([photo, ball]), np.float32),
        iris=np.ascontiguousarray(iris, np.float32),
        skin=np.ascontiguousarray(np.dstack([skin, leftover]), np.float32),
        lash=lash,
        lash_colour=lash_colour,
        lash_strength=strength,
        softness_px=softness_px,
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
    """Skin of the lid without eye, lashes and brow, with the grain of the cheek."""
    reach = np.clip((0.62 - np.abs(u)) / 0.08, 0, 1)
    hidden = (v > top - 0.055) & (v < bottom + 0.055) & (reach > 0)
    brow = np.zeros(photo.shape[:2], np.uint8)
    for upper, lower in ((topo.RIGHT_BROW_UPPER, topo.RIGHT_BROW_LOWER), (topo.LEFT_BROW_UPPER, topo.LEFT_BROW_LOWER)):
        line = np.concatenate([head.source.xy[list(upper)], head.source.xy[list(lower[::-1])]]) - box[:2]
        cv2.fillPoly(brow, [np.round(line * 16).astype(np.int32)], (1,), shift=4)
    size = 2 * max(1, round(0.025 * unit)) + 1
    brow = cv2.dilate(brow, np.ones((size, size), np.uint8))
    trust = np.where(hidden | (brow > 0), 0.0, 1.0).astype(np.float32)
    # Lashes and frames are thin and darker than the skin on both sides of them; shadows are wide and stay.
    size = 2 * max(1, round(0.04 * unit)) + 1
    grey = photo.mean(-1)
    closed = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    trust *= np.clip((grey / np.maximum(closed, 1) - 0.75) / 0.15, 0.02, 1)
    # A dark line that leads far away from the eye is a spectacle frame or a strand of hair: it stays in front.
    thin = ((grey < 0.72 * closed) & ~hidden & (brow == 0)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin)
    extent = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    leads_away = np.bincount(labels.ravel(), (np.abs(u) > 0.75).ravel(), len(stats)) > 0
    in_front = np.flatnonzero((extent > 0.3 * unit) & leads_away & (np.arange(len(stats)) > 0))
    front = cv2.GaussianBlur(np.isin(labels, in_front).astype(np.float32), (0, 0), 0.8)
    brow = cv2.GaussianBlur((brow * ~hidden).astype(np.float32), (0, 0), max(0.8, 0.01 * unit))
    front = np.maximum(np.minimum(1.5 * front, 1), brow)[..., None]

    smooth = fill(photo, trust)
    smooth = cv2.GaussianBlur(smooth, (0, 0), max(0.8, 0.02 * unit))
    cheek = head.source.xy[[117, 118, 101, 50] if u[0, 0] < u[0, -1] else [346, 347, 330, 280]]
    piece = clip_box(cheek, 0.0, head.image.shape)
    if piece is not None:
        smooth = smooth + grain(head.image, piece, photo.shape[:2])[..., None]
    return smooth * (1 - front) + photo * front


def _lashes(photo, skin, lids, corner):
    """Darkness of the lashes over (v from the lid's edge, u), their colour, and how strong they are."""
    rows = np.linspace(*LASH_RANGE, LASH_ROWS)
    height = (lids.upper + rows[:, None])[..., None]
    place = lids.origin + CURVE_AXIS[:, None] * lids.axes[:, 0] + height * lids.axes[:, 1]
    x = (place[..., 0] - corner[0] - 0.5).astype(np.float32)
    y = (place[..., 1] - corner[1] - 0.5).astype(np.float32)
    seen = cv2.remap(photo, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    plain = cv2.remap(skin, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    darkness = np.clip(1 - seen.mean(-1) / np.maximum(plain.mean(-1), 1), 0, 0.95)
    edge = np.abs(rows) < 0.018
    inner = np.abs(CURVE_AXIS) < 0.4
    strength = float(np.clip(1.25 * np.median(darkness[edge][:, inner].max(0)) - 0.05, 0.25, 0.85))
    # Brows and folds higher up are no lashes; below the edge lies the eye itself.
    fade = np.clip((rows - rows[0]) / 0.035, 0, 1) * np.clip((0.012 - rows) / 0.012, 0, 1)
    lash = darkness * fade[:, None]
    weight = (darkness * edge[:, None]) ** 2 + 1e-6
    dark = (seen * weight[..., None]).sum((0, 1)) / weight.sum()
    colour = np.minimum(dark, 0.5 * plain.mean((0, 1)))
    return np.ascontiguousarray(lash[..., None], np.float32), colour.astype(np.float32), strength


def _leftover(photo, skin, v, bottom):
    """Where a stylised or wrongly marked eye reaches below its lower lid: coverage (h, w) to hide when it shuts."""
    light, plain = photo.mean(-1), np.maximum(skin.mean(-1), 1)
    strange = np.abs(photo - skin).max(-1) / plain
    share = np.clip((strange - 0.15) / 0.15, 0, 1) * np.clip((light / plain - 0.6) / 0.2, 0, 1)
    band = np.clip((bottom + 0.06 - v) / 0.02, 0, 1) * (v > bottom - 0.02)
    return cv2.GaussianBlur((share * band).astype(np.float32), (0, 0), 1.0)


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
        white = white * np.clip((grey / max(float(bright), 1.0) - 0.3) / 0.3, 0, 1)
        filled = fill(photo, white + 1e-6 * inside)
    else:  # an eye too small or too narrow to show any white
        lit = photo[open_eye > 0.5]
        filled = np.broadcast_to(np.percentile(lit, 80, axis=0) if len(lit) else photo.mean((0, 1)), photo.shape)
    # White that the photo doesn't show lies near lids and corners, in their shade.
    nearest = np.clip(np.minimum(v - top, bottom - v) / 0.035, 0, 1)
    shade = (0.7 + 0.3 * nearest) * (1 - 0.35 * np.clip((np.abs(u) - 0.28) / 0.22, 0, 1))
    filled = filled * shade[..., None]
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
