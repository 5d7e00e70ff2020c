"""What one photo shows of its mouth, taken apart: lips without the inside, the inside, the colours to paint more of it.

The inside of a mouth lives in canonical coordinates of a plane just behind the lips (see `Posed.plane`), relative to
the middle of the closed mouth. There the lips' inner edges are curves y(x).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.facespace import topology as topo
from models.mesh import teeth, tone
from models.mesh.fill import fill, grain
from models.mesh.geometry import Head, Posed, smoothstep
from models.mesh.patches import clip_box, curve_over, subdivide

COLUMNS = 65  # samples of a lip curve
LIP_MATRIX = subdivide(11, COLUMNS)
DEPTH = 0.05  # of the plane of teeth behind the lips, model units
EDGE_BELOW_LIPS = 0.030  # how far the upper teeth reach below the line of closed lips
PARTED = 0.02  # lips further apart may show teeth, which must not stay glued to them
OWN_INSIDE = (0.05, 0.09)  # from the first gap to the second the photo's own inside replaces the painted one
RIM = 0.022  # width of the lips' inner rim that may still carry the photo's teeth, model units
TEETH_OVER_LIPS = (1.1, 1.4)  # brightness, in that of lips: from the first on it may be teeth, from the second it is
BESIDE_TEETH = 0.015  # height of what belongs to teeth that are seen, model units
HIDDEN_REACH = 0.01  # how far teeth that the photo doesn't show may reach below its upper lip, in the dark
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
        texture: the photo, its teeth painted over with lip, uint8, shape (H, W, 3); to be warped.
        middle: canonical middle of the closed mouth, shape (3,).
        chin: canonical height of the chin with a neutral face.
        width: of the opening between the corners with a neutral face, model units.
        lips: as in the photo.
        plane: affine map of the teeth's plane to pixels of `inside`, shape (2, 3).
        inside: photo around the mouth, float32, shape (h, w, 3).
        own: coverage of the mouth's inside, then of the inside with its rim, float32, shape (h, w, 2).
        edge: y of the lower edge of the photo's upper teeth over x as a parabola (three coefficients).
        is_parted: whether the lips are apart in the photo.
        tones: tooth, gum, tongue, cavity colours, shape (4, 3).
        noise: the photo's grain, shape (64, 64).
        softness_px: width of the photo's edges.
        rows: upper and lower teeth (see `teeth.tables`), as sharp as the photo.
    """

    texture: np.ndarray
    middle: np.ndarray
    chin: float
    width: float
    lips: Lips
    plane: np.ndarray
    inside: np.ndarray
    own: np.ndarray
    edge: np.ndarray
    is_parted: bool
    tones: np.ndarray
    noise: np.ndarray
    softness_px: float
    rows: tuple[np.ndarray, np.ndarray]


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


def take_apart(head: Head) -> MouthAssets:
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
    rim = cv2.dilate(inner, _disc(RIM * unit, stretch=1.8))
    plane = np.column_stack([matrix, matrix @ middle[:2] + offset - (x0 + 0.5, y0 + 0.5)])

    texture, edge, tooth = head.image, np.array([EDGE_BELOW_LIPS, 0.0, -teeth.UPPER_ARC]), colours.tooth
    if is_parted:
        mouth = head.source.xy[[*topo.UPPER_LIP_OUTER, *topo.LOWER_LIP_OUTER[::-1]]] - (x0, y0)
        clean = _clean_lips(head, photo, inner, rim, mouth, unit)
        texture = head.image.copy()
        texture[y0:y1, x0:x1] = np.clip(clean + 0.5, 0, 255).astype(np.uint8)
    own_share = float(np.clip((lips.gap - OWN_INSIDE[0]) / (OWN_INSIDE[1] - OWN_INSIDE[0]), 0, 1))
    if own_share > 0:
        edge, tooth = _own_teeth(photo, plane, lips, colours, edge)
    cheek = clip_box(head.source.xy[[50, 101, 205]], 0.0, head.image.shape)
    noise = grain(head.image, cheek, (64, 64)) if cheek is not None else np.zeros((64, 64), np.float32)
    feather = max(0.8, 0.006 * unit)
    # The inside is cut a little short, the rim reaches a little over all that `texture` changes.
    inside = cv2.GaussianBlur(cv2.erode(inner, _disc(0.004 * unit)), (0, 0), feather)
    around = cv2.GaussianBlur(cv2.dilate(rim, _disc(3 * feather + 1)), (0, 0), feather)
    own = np.dstack([inside, around])
    own[..., 0] *= own_share
    return MouthAssets(
        texture=texture,
        middle=middle,
        chin=chin,
        width=float(neutral[topo.LOWER_LIP_INNER[-1], 0] - neutral[topo.LOWER_LIP_INNER[0], 0]),
        lips=lips,
        plane=plane,
        inside=np.ascontiguousarray(photo),
        own=np.ascontiguousarray(own, np.float32),
        edge=edge.astype(np.float64),
        is_parted=is_parted,
        tones=np.stack([tooth, colours.gum, colours.tongue, colours.cavity]).astype(np.float32),
        noise=noise,
        softness_px=colours.softness_px,
        rows=_soft_rows(colours.softness_px / unit),
    )


def _soft_rows(width: float) -> tuple[np.ndarray, np.ndarray]:
    """The tables of teeth, blurred by a width in model units."""
    across = width * (teeth.WIDTH - 1) / (2 * teeth.X_REACH)
    along = width * (teeth.HEIGHT - 1) / (teeth.Y_RANGE[1] - teeth.Y_RANGE[0])
    upper, lower = (cv2.GaussianBlur(row, (0, 0), sigmaX=0.6 * across, sigmaY=0.6 * along) for row in teeth.tables())
    return upper, lower


def _disc(radius: float, stretch: float = 1.0) -> np.ndarray:
    """An ellipse for growing masks, `stretch` times as wide as high."""
    width, height = (2 * max(1, round(r)) + 1 for r in (stretch * radius, radius))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, height))


def _opening(head: Head, corner: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Coverage of the photo's mouth opening, float32, shape (h, w)."""
    upper = LIP_MATRIX @ head.source.xy[list(topo.UPPER_LIP_INNER)]
    lower = LIP_MATRIX @ head.source.xy[list(topo.LOWER_LIP_INNER)]
    line = np.concatenate([upper, lower[::-1]]) - corner
    scale = 4
    fine = np.zeros((shape[0] * scale, shape[1] * scale), np.uint8)
    cv2.fillPoly(fine, [np.round((line * scale - 0.5) * 16).astype(np.int32)], (255,), shift=4)
    return cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _clean_lips(head, photo, inner, rim, mouth, unit) -> np.ndarray:
    """The photo with lip colours in place of the teeth inside the mouth and on the lips' rim.

    Where no teeth are near, what is dark stays: it is the lips' own shade, and where they meet again, their seam.
    """
    flesh = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillPoly(flesh, [np.round((mouth - 0.5) * 16).astype(np.int32)], (1,), shift=4)
    trust = flesh * (1 - rim)
    if trust.sum() < 12:  # lips thinner than their rim: take the skin around them too
        trust = cv2.dilate(flesh, _disc(0.05 * unit)) * (1 - rim)
    smooth = fill(photo, trust.astype(np.float32) + 1e-5 * (1 - rim))
    cheek = clip_box(head.source.xy[[50, 101, 205]], 0.0, head.image.shape)
    if cheek is not None:
        smooth = smooth + grain(head.image, cheek, photo.shape[:2])[..., None]
    seen = cv2.GaussianBlur(photo, (0, 0), max(0.6, 0.004 * unit))
    teeth_share = rim * flesh * smoothstep(*TEETH_OVER_LIPS, seen.mean(-1) / np.maximum(smooth.mean(-1), 1))
    # With them goes what is dark between and above them: gums, gaps, the lip's shadow on them.
    share = rim * cv2.dilate(teeth_share.astype(np.float32), _disc(BESIDE_TEETH * unit, stretch=2.5))
    return photo + (smooth - photo) * cv2.GaussianBlur(share, (0, 0), max(0.7, 0.006 * unit))[..., None]


def _own_teeth(photo, plane, lips, colours, default):
    """Lower edge of the photo's upper teeth (parabola over x) and their colour; the defaults where it can't be told."""
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
    if tooth.mean() < 0.04:
        # Open lips without teeth between them: these end further up, as old people's do.
        highest = float(np.median(top - default[2] * x**2)) + HIDDEN_REACH
        return np.array([min(default[0], highest), *default[1:]]), colours.tooth
    # The row ends where light turns to dark for the first time, from the upper lip downwards.
    ends, places = [], []
    for k in range(columns):
        hits = np.flatnonzero(tooth[:, k])
        # What is bright only in the lower half is tongue, lower teeth or a wet lip.
        if len(hits) < 2 or hits[0] > 0.4 * rows or y[hits[-1], k] - y[hits[0], k] < 0.008:
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
    colour = np.median(seen[tooth][light >= np.percentile(light, 50)], axis=0)
    # A thin strip of teeth is mixed with the dark around it.
    return curve, colour * max(1.0, 0.5 * (1 + colours.tooth.mean() / max(colour.mean(), 1.0)))
