"""What a portrait's light and medium do to colours: skin, lips, whites, greyness and sharpness of one face.

Parts of a face that the photo doesn't show are painted in these tones, so that a grey photo stays grey, a painting
keeps its palette and a soft picture gets no hard edges.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.facespace import topology as topo
from models.mesh.geometry import Head
from models.mesh.patches import clip_box

CHEEKS = (50, 280, 101, 330, 205, 425, 117, 346, 151, 9)
TYPICAL_CHROMA = 0.30  # (max - min) / max of well-lit skin in a colour photo


@dataclass(frozen=True)
class Tone:
    """Colours are RGB, 0 to 255, shape (3,).

    Args:
        skin: of cheeks and forehead.
        lips: of the lips.
        tooth, gum, tongue, cavity: what the inside of this face's mouth would look like in this picture, fully lit.
        softness_px: how wide the picture's sharpest edges are (1 = as sharp as pixels allow).
    """

    skin: np.ndarray
    lips: np.ndarray
    tooth: np.ndarray
    gum: np.ndarray
    tongue: np.ndarray
    cavity: np.ndarray
    softness_px: float


def measure(head: Head) -> Tone:
    """The tones of a portrait."""
    xy = head.source.xy[: topo.VERTICES]
    blurred = cv2.GaussianBlur(head.image, (0, 0), max(0.6, 0.02 * head.eye_distance_px)).astype(np.float32)
    skin = np.median(_at(blurred, xy[list(CHEEKS)]), axis=0)
    middles = [(xy[list(outer)] + xy[list(inner)]) / 2 for outer, inner in _LIP_BANDS]
    lips = np.median(_at(blurred, np.concatenate([band[3:8] for band in middles])), axis=0)
    white = _eye_white(head, skin)

    chroma = (skin.max() - skin.min()) / max(skin.max(), 1.0)
    colourful = float(np.clip(chroma / TYPICAL_CHROMA, 0, 1))
    light, lit_skin, lit_lips = (float(c.mean()) for c in (white, skin, lips))
    # Teeth are a little darker and warmer than the white of the eye, itself lit like the skin around it.
    level = float(np.clip(light, 1.1 * lit_skin, 1.8 * lit_skin))
    level = min(level, 228.0)
    hue = 0.3 * white / max(light, 1.0) + 0.25 * skin / max(lit_skin, 1.0) + 0.45 * np.array([1.05, 1.0, 0.93])
    tooth = level * _faded(hue, colourful)
    flesh = 0.5 * lips / max(lit_lips, 1.0) + 0.5 * _faded(np.array([1.55, 0.73, 0.72]), colourful)
    return Tone(
        skin=skin,
        lips=lips,
        tooth=tooth,
        gum=0.68 * lit_skin * flesh,
        tongue=0.74 * lit_skin * flesh,
        cavity=0.17 * lit_skin * flesh * _faded(np.array([1.1, 0.95, 0.95]), colourful),
        softness_px=softness(head.image, xy),
    )


def softness(image: np.ndarray, xy: np.ndarray) -> float:
    """Width in pixels of the sharpest edges inside a face, 0.6 to 2.5, from the detail at two neighbouring scales."""
    box = clip_box(xy, 0.0, image.shape)
    if box is None:
        return 1.0
    x0, y0, x1, y1 = box
    grey = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY).astype(np.float32)
    near, far = cv2.GaussianBlur(grey, (0, 0), 1), cv2.GaussianBlur(grey, (0, 0), 2)
    fine, coarse = np.percentile(np.abs(grey - near), 97), np.percentile(np.abs(near - far), 97)
    return float(np.clip(1.1 * coarse / max(fine, 0.1) - 0.5, 0.6, 2.5))


_LIP_BANDS = (
    (topo.UPPER_LIP_OUTER, topo.UPPER_LIP_INNER),
    (topo.LOWER_LIP_OUTER, topo.LOWER_LIP_INNER),
)


def _at(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Colours under points, clamped to the picture, shape (K, 3)."""
    height, width = image.shape[:2]
    x = np.clip(xy[:, 0].astype(int), 0, width - 1)
    y = np.clip(xy[:, 1].astype(int), 0, height - 1)
    return image[y, x]


def _faded(hue: np.ndarray, colourful: float) -> np.ndarray:
    """A colour of mean 1 with its chroma scaled."""
    hue = hue / hue.mean()
    return 1 + (hue - 1) * colourful


def _eye_white(head: Head, skin: np.ndarray) -> np.ndarray:
    """Colour of the eyes' whites; the skin's, paler, where none can be seen."""
    samples = []
    for upper, lower, start in (
        (topo.RIGHT_EYE_UPPER, topo.RIGHT_EYE_LOWER, 0),
        (topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER, 5),
    ):
        line = head.source.xy[[*upper, *lower[::-1]]]
        box = clip_box(line, 1.0, head.image.shape)
        if box is None:
            continue
        x0, y0, x1, y1 = box
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [np.round((line - (x0 + 0.5, y0 + 0.5)) * 16).astype(np.int32)], (1,), shift=4)
        iris = head.iris_px[start : start + 5] - (x0, y0)
        radius = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
        rows, columns = np.nonzero(mask)
        clear = np.hypot(columns + 0.5 - iris[0, 0], rows + 0.5 - iris[0, 1]) > 1.1 * radius
        samples.append(head.image[y0:y1, x0:x1][rows[clear], columns[clear]].astype(np.float32))
    seen = np.concatenate(samples) if samples else np.zeros((0, 3), np.float32)
    if len(seen) < 8:
        return 0.5 * skin + 0.5 * skin.mean()
    light = seen.mean(1)
    return np.median(seen[(light >= np.percentile(light, 70)) & (light <= np.percentile(light, 95))], axis=0)
