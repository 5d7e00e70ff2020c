"""Which pixels of a portrait belong to the person: a soft matte by mediapipe's selfie segmentation."""

import functools
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pipeline.face import Face

NETWORK_SIZE = 256  # pixels: the network's picture and matte
PERSON_WIDTH = 5.5  # side of the close look at head and shoulders, in sizes of the face
SURE = 0.5  # matte from which a pixel is taken for a person when connecting what belongs together
GUIDE_RADIUS = 0.016  # of the longer side: how far edges of the picture attract the matte's edge
GUIDE_SIZE = 1024  # pixels of the longer side, of the picture that the edges are looked for in
GUIDE_STRENGTH = 4e-4  # squared contrast (0..1) that counts as an edge

_lock = threading.Lock()


def segment_person(image: np.ndarray, face: "Face | None" = None) -> np.ndarray:
    """Matte of the people in an RGB picture uint8 (H, W, 3), float32 in [0, 1], shape (H, W).

    With a face, head and shoulders are looked at closely and people elsewhere in the picture are left out.
    """
    coarse = _matte(image)
    if face is None:
        return refine(image, coarse)
    x0, y0, x1, y1 = face.box
    reach = PERSON_WIDTH * max(face.size_px, (y1 - y0) / 2) / 2
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2 + 0.3 * reach
    height, width = image.shape[:2]
    left, right = max(0, int(middle_x - reach)), min(width, int(middle_x + reach) + 1)
    above, below = max(0, int(middle_y - reach)), min(height, int(middle_y + reach) + 1)
    if (right - left) * (below - above) < 0.7 * width * height:
        close = _matte(image[above:below, left:right])
        weight = border_ramp(close.shape, (above > 0, below < height, left > 0, right < width))
        part = coarse[above:below, left:right]
        part += (close - part) * weight
    return refine(image, only_person(coarse, (middle_x, (y0 + y1) / 2)))


def border_ramp(shape: tuple[int, ...], fades: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """1 inside, falling to 0 within a tenth towards those of the top, bottom, left and right borders that fade."""
    height, width = shape
    down = np.minimum(1, np.arange(height, dtype=np.float32) / (0.1 * height))
    across = np.minimum(1, np.arange(width, dtype=np.float32) / (0.1 * width))
    ramp = np.ones((height, width), np.float32)
    top, bottom, left, right = fades
    for fade, values in ((top, down[:, None]), (bottom, down[::-1, None]), (left, across), (right, across[::-1])):
        if fade:
            ramp = np.minimum(ramp, values)
    return ramp


def only_person(matte: np.ndarray, inside: tuple[float, float]) -> np.ndarray:
    """The matte of the one who covers the pixel `inside` (x, y); those who touch them stay too."""
    scale = min(1.0, NETWORK_SIZE / max(matte.shape))
    size = (max(1, round(matte.shape[1] * scale)), max(1, round(matte.shape[0] * scale)))
    small = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)
    _, labels = cv2.connectedComponents((small > SURE).astype(np.uint8))
    x, y = (int(np.clip(v * scale, 0, n - 1)) for v, n in zip(inside, size))
    if labels[y, x] == 0:
        return matte
    # Soft edges belong to the nearest person.
    others = ((labels > 0) & (labels != labels[y, x])).astype(np.uint8)
    if not others.any():
        return matte
    to_us = cv2.distanceTransform((labels != labels[y, x]).astype(np.uint8), cv2.DIST_L2, 3)
    to_others = cv2.distanceTransform(1 - others, cv2.DIST_L2, 3)
    keep = cv2.resize(np.clip((to_others - to_us) / 2 + 0.5, 0, 1), matte.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return matte * keep


def refine(image: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """A matte whose edges follow the picture's (guided filter of He, Sun and Tang, by luma).

    The filter's local lines, matte = slope * luma + offset, are found in a reduced picture: they vary slowly.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, GUIDE_SIZE / max(matte.shape))
    size = (max(1, round(matte.shape[1] * scale)), max(1, round(matte.shape[0] * scale)))
    guide = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    target = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)
    radius = 2 * max(2, round(GUIDE_RADIUS * max(size))) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (radius, radius))

    guide_mean, target_mean = mean(guide), mean(target)
    slope = (mean(guide * target) - guide_mean * target_mean) / (mean(guide**2) - guide_mean**2 + GUIDE_STRENGTH)
    offset = mean(target_mean - slope * guide_mean)
    full = luma.shape[::-1]
    slope, offset = (cv2.resize(v, full, interpolation=cv2.INTER_LINEAR) for v in (mean(slope), offset))
    return np.clip(slope * (luma * np.float32(1 / 255)) + offset, 0, 1)


def _matte(image: np.ndarray) -> np.ndarray:
    """What the network says, enlarged to the picture's size."""
    small = cv2.resize(image, (NETWORK_SIZE, NETWORK_SIZE), interpolation=cv2.INTER_AREA)
    with _lock:
        mask = _segmentation().process(small).segmentation_mask
    return np.clip(cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC), 0, 1)


@functools.cache
def _segmentation():
    from pipeline.mediapipe_faces import quiet

    with quiet():
        import mediapipe

        network = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        network.process(np.zeros((NETWORK_SIZE, NETWORK_SIZE, 3), np.uint8))
    return network
