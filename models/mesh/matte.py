"""Split a photo into the person and what is behind them, so that a moving head doesn't drag the wall along.

Colours are float32 in 0..255, mattes float32 in 0..1.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.mesh.fill import fill
from models.mesh.surround import smoothstep

FAINT, SURE = 0.2, 0.8  # of a given matte: taken as nothing and as all
HALF = 0.5  # of a given matte: more person than background
REACH = (0.03, 0.12)  # of the eye distance: how far from there on a fainter matte is still believed
TOUCHED = 0.02  # matte above which a pixel may show some of the person
INNER = 0.95  # of the outline: surely the face, whatever the matte says
DETAIL = 0.45  # share of the mirrored picture in the fill: it is sharp, but only by luck what is really there
DISTINCT = 25.0  # grey levels between person and background that make their colours a witness
MARGIN = 0.03  # of the eye distance: how far from the matte the person's colour still spills over


@dataclass(frozen=True)
class Layers:
    """A photo taken apart; image = person + (1 - matte) * background + remnant, to rounding.

    Args:
        person: colours times matte, then the matte in 0..255; float32, shape (H, W, 4).
        background: the picture without the person; shape (H, W, 4), last channel unused (it keeps rows aligned).
        remnant: what the other two don't explain; shape (H, W, 4), last channel 1 where there is any.
    """

    person: np.ndarray
    background: np.ndarray
    remnant: np.ndarray


def separate(image: np.ndarray, matte: np.ndarray, outline: np.ndarray, unit: float) -> Layers:
    """Take a photo apart.

    Args:
        image: uint8, shape (H, W, 3).
        matte: float32 in [0, 1], shape (H, W).
        outline: polygon around the face in pixels, shape (k, 2); inside it everything is person.
        unit: distance of the outer eye corners, pixels.
    """
    matte = np.maximum(tighten(matte, unit), face_mask(outline, matte.shape))
    colours = image.astype(np.float32)
    background = fill_behind(colours, matte, unit)
    inside = fill(colours, smoothstep(0.85, 1.0, matte).astype(np.float32))
    matte = doubt_matte(colours, matte, inside, background)
    foreground = clean_edges(colours, matte, inside, background)
    person = np.dstack([foreground * matte[..., None], matte * 255])
    remnant = colours - person[..., :3] - (1 - matte[..., None]) * background
    some = (np.abs(remnant).max(2) > 0.5).astype(np.float32)
    unused = np.zeros_like(matte)
    return Layers(
        person=np.ascontiguousarray(person, np.float32),
        background=np.dstack([background, unused]),
        remnant=np.dstack([remnant, some]),
    )


def tighten(matte: np.ndarray, unit: float) -> np.ndarray:
    """A matte without its faint far-reaching parts, which would drag texture of the background along; shape (H, W)."""
    distance = cv2.distanceTransform((matte <= HALF).astype(np.uint8), cv2.DIST_L2, 5) / unit
    near = 1 - smoothstep(REACH[0], REACH[1], distance)
    return (np.clip((matte - FAINT) / (SURE - FAINT), 0, 1) * near).astype(np.float32)


def face_mask(outline: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """1 well inside the polygon (k, 2), 0 outside, antialiased; float32 of the given shape."""
    mask = np.zeros(shape, np.uint8)
    centre = outline.mean(0)
    inner = centre + (outline - centre) * INNER - 0.5
    cv2.fillPoly(mask, [np.round(inner * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def fill_behind(colours: np.ndarray, matte: np.ndarray, unit: float) -> np.ndarray:
    """The picture without the person, as far as a moving head may uncover it; shape (H, W, 3).

    Near the silhouette the picture is continued by its mirror image, which keeps texture, grain and sharpness;
    where the mirror shows the person again, by a smooth fill.
    """
    reach = max(1, round(MARGIN * unit))
    hidden = (matte > TOUCHED).astype(np.uint8)
    grown = cv2.dilate(hidden, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    if grown.all():
        return colours.copy()
    smooth = fill(colours, 1 - grown.astype(np.float32))

    height, width = matte.shape
    _, labels = cv2.distanceTransformWithLabels(grown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    known = grown == 0
    nearest = np.zeros((int(labels.max()) + 1, 2), np.float32)
    rows, columns = np.nonzero(known)
    nearest[labels[known]] = np.column_stack([columns, rows])
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    towards = cv2.GaussianBlur(nearest[labels.astype(np.int64)] - grid, (0, 0), max(1.0, 0.06 * unit))
    at_x, at_y = cv2.split(grid + 2 * towards)
    mirrored = cv2.remap(colours, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    shown = cv2.remap(known.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    trust = cv2.erode(shown, np.ones((3, 3)))
    trust = cv2.GaussianBlur(trust, (0, 0), max(1.0, 0.03 * unit)) * shown
    trust = smoothstep(0.5, 0.95, trust)[..., None]
    filled = smooth + DETAIL * trust * (mirrored - smooth)
    # the fill takes over within the spill margin, not at once: no outline stays behind when the head moves away
    share = cv2.GaussianBlur(grown.astype(np.float32), (0, 0), max(0.6, 0.25 * reach))
    share = np.where(matte > TOUCHED, 1.0, smoothstep(0.2, 0.8, share)).astype(np.float32)[..., None]
    return share * filled + (1 - share) * colours


def doubt_matte(colours: np.ndarray, matte: np.ndarray, inside: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A matte whose soft edge believes the colours: lower where a pixel looks like the background; shape (H, W).

    Args:
        colours, inside, background: the photo, the person's and the background's colours spread over it, (H, W, 3).
        matte: shape (H, W).
    """
    contrast = inside - background
    power = (contrast**2).sum(2)
    likely = ((colours - background) * contrast).sum(2) / np.maximum(power, 1.0)
    change = np.clip(likely, 0, 1) - matte
    trust = power / (power + DISTINCT**2) * (1 - smoothstep(0.9, 1.0, matte))
    # a faint matte may be taken back but not raised: texture of the background would come along
    trust *= np.where(change > 0, smoothstep(0.05, 0.3, matte), 1.0)
    return (matte + trust * change).astype(np.float32)


def clean_edges(colours: np.ndarray, matte: np.ndarray, inside: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The person's own colours where the matte is partial, without the background that shines through.

    Arguments as in `doubt_matte`; returns shape (H, W, 3).
    """
    share = matte[..., None]
    solved = np.clip((colours - (1 - share) * background) / np.maximum(share, 0.05), 0, 255)
    trust = smoothstep(0.25, 0.9, share)
    return np.where(share >= 1, colours, trust * solved + (1 - trust) * inside).astype(np.float32)
