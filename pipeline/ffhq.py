"""The crop that SadTalker and its kin cut around a face: the square of FFHQ (Karras et al., 2019), without its turn.

The square is spanned by the eyes and the mouth; of a tilted face it is tilted, and its upright bounds are cut out with
a border. Pixels: the first pixel's centre is 0; boxes are (x0, y0, x1, y1).
"""

from dataclasses import dataclass

import numpy as np

EYE_REACH = 2.0  # half the side in distances of the eyes ...
MOUTH_REACH = 1.8  # ... or in distances from the eyes to the mouth, whichever is more
LOWERED = 0.1  # of the way from the eyes to the mouth: where the square's centre is
BORDER, LEAST_BORDER_PX = 0.1, 3  # share of the side, and pixels
PORTRAIT_SIDE = 512  # pixels; a square of more than twice as much again is shrunk first


@dataclass(frozen=True)
class FaceSquare:
    """What is cut out.

    Args:
        size: width and height that the picture is shrunk to first; its own size for all but huge faces.
        crop: the square's bounds with a border, whole pixels of the shrunk picture.
        inner: the square's bounds without the border, pixels of the crop.
    """

    size: tuple[int, int]
    crop: tuple[int, int, int, int]
    inner: tuple[float, float, float, float]


def face_square(
    size: tuple[int, int], landmarks: np.ndarray, *, side: int = PORTRAIT_SIDE, official: bool = False
) -> FaceSquare:
    """The square around a face.

    Args:
        size: width and height of the picture, pixels.
        landmarks: iBUG, in its pixels, shape (68, 2).
        side: pixels that the crop is meant for.
        official: as SadTalker does it: bounds of the inner square are held inside a square as large as the whole
            picture is wide; otherwise inside the crop, which it can leave where a face touches the picture's border.
    """
    corners, length = _corners(np.asarray(landmarks, np.float64))
    shrink = int(length / side / 2)
    width, height = size
    if shrink > 1:
        width, height = round(width / shrink), round(height / shrink)
        corners, length = corners / shrink, length / shrink
    border = max(int(np.rint(BORDER * length)), LEAST_BORDER_PX)
    (x0, y0), (x1, y1) = np.floor(corners.min(0)).astype(int) - border, np.ceil(corners.max(0)).astype(int) + border
    x0, y0, x1, y1 = max(int(x0), 0), max(int(y0), 0), min(int(x1), width), min(int(y1), height)
    low, high = corners.min(0) - (x0, y0) + 0.5, corners.max(0) - (x0, y0) + 0.5
    limits = (width, width) if official else (x1 - x0, y1 - y0)
    low, high = np.maximum(low, 0), np.minimum(high, limits)
    return FaceSquare((width, height), (x0, y0, x1, y1), (float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def _corners(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Corners of the square, shape (4, 2), and the length of its sides."""
    left, right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    eyes, mouth = (left + right) / 2, (landmarks[48] + landmarks[54]) / 2
    across, down = right - left, mouth - eyes
    # Half a side's direction: what the eyes and, a quarter turn on, the mouth say of it.
    half = np.array([across[0] + down[1], across[1] - down[0]])
    half *= max(EYE_REACH * np.linalg.norm(across), MOUTH_REACH * np.linalg.norm(down)) / np.linalg.norm(half)
    turned = np.array([-half[1], half[0]])
    centre = eyes + LOWERED * down
    corners = [centre + a * half + b * turned for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    return np.stack(corners), 2 * float(np.linalg.norm(half))
