"""What part of a picture a clip shows, at which size, and how frames get back into the picture.

Knows nothing of renderers: it hands out a portrait at the size that frames shall have, and finishes frames of the
portrait's view. Pixels: pixel i covers [i, i + 1), boxes are (x0, y0, x1, y1) and may be fractional.

    crop     a square around head and shoulders, `size` pixels
    extcrop  the same with a fifth more around it
    resize   the whole picture, its longer side `size` pixels
    full     the whole picture at its own resolution; only a box around the head is rendered and pasted back
    extfull  the same with a larger box

Renderers that know faces as tight squares get those of the alignment of FFHQ (Karras et al., 2019), not turned, in the
modes that cut a box out: from there the published networks of SadTalker expect them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from models.facespace.open import OpenSpace
from models.facespace.topology import OVAL
from models.interfaces import FaceFit, Portrait
from models.pasting import Pasting, scaled

Mode = Literal["crop", "extcrop", "resize", "full", "extfull"]
Box = tuple[float, float, float, float]

SIDE = 2.1  # of a crop, in lengths of the face's outline
LIFT = 0.063  # of the crop's centre above the face's, in lengths of the outline: shoulders matter less than hair
MARGIN = 0.2  # of the crop's side: picture beyond the view that a moving head may pull in
LONGEST_FULL = 1920  # pixels, longer side of a clip in mode full
REACH = 2.75  # how far around the outline a head's motion is felt, in distances of the outer eye corners
EXTENSION = 1.2  # of a box in the modes extcrop and extfull: a tenth of its side on either side

# ---- a tight square: half its side in distances of the eyes, or of eyes and mouth, and where its centre lies between
HALF_EYES, HALF_MOUTH, DOWN = 2.0, 1.8, 0.1
IBUG_RIGHT_EYE, IBUG_LEFT_EYE, IBUG_MOUTH = slice(36, 42), slice(42, 48), (48, 54)  # rims, corners
# ---- the outline of a face of which 68 landmarks are known: jaw, brows, and a forehead that is guessed
IBUG_OUTLINE, IBUG_CHIN, IBUG_BROWS = slice(0, 27), 8, slice(17, 27)
FOREHEAD = 0.26  # height above the brows, in distances of brows and chin; of the open space's mean face


@dataclass(frozen=True)
class Framing:
    """One way to show one picture.

    Args:
        mode: see above.
        box: part of the picture that the portrait's image shows, pixels of the picture.
        scale: pixels of the portrait per pixel of the picture.
        image_size: width, height of the portrait's image.
        view: x, y, width, height in the portrait's image: what the renderer's frames show; even sizes.
        size: width, height of finished frames; even.
    """

    mode: Mode
    box: Box
    scale: float
    image_size: tuple[int, int]
    view: tuple[int, int, int, int]
    size: tuple[int, int]

    def portrait(self, image: np.ndarray, matte: np.ndarray) -> Portrait:
        """The portrait for the renderer.

        Args:
            image: the whole picture, uint8, shape (H, W, 3).
            matte: of the whole picture, float32 in [0, 1], shape (H, W).
        """
        shown = resample(image, self.box, self.image_size)
        return Portrait(shown, self.view, np.clip(resample(matte, self.box, self.image_size), 0, 1))

    def move(self, face: FaceFit) -> FaceFit:
        """The face in the portrait's pixels."""
        return face.moved(self.scale, self.box[:2])

    def backdrop(self, image: np.ndarray) -> Pasting | None:
        """What finished frames show around the view, ready to take it in; None if the view is all."""
        if self.mode not in ("full", "extfull"):
            return None
        width, height = self.size
        shown = resample(image, (0.0, 0.0, width / self.scale, height / self.scale), self.size)
        return Pasting(shown, (round(self.box[0] * self.scale), round(self.box[1] * self.scale), *self.view[2:]))

    def finish(self, frames: np.ndarray, backdrop: Pasting | None) -> np.ndarray:
        """Frames as they go into the video.

        Args:
            frames: of the view, uint8, shape (n, h, w, 3); another size than the view's is scaled to it.
            backdrop: from `backdrop`.
        Returns:
            uint8, shape (n, height, width, 3).
        """
        if backdrop is not None:
            return np.stack([backdrop.paste(frame) for frame in frames])
        _, _, width, height = self.view
        if frames.shape[1:3] != (height, width):
            frames = np.stack([scaled(frame, (width, height)) for frame in frames])
        return frames


def plan(shape: tuple[int, int], face: FaceFit, mode: Mode, size: int, tight: bool = False) -> Framing:
    """Choose the framing of one face in one picture.

    Args:
        shape: height, width of the picture.
        face: in pixels of the picture; its landmarks are those of the face mesh or of iBUG.
        mode: one of `Mode`.
        size: longer side of the frames in pixels, modes crop, extcrop and resize.
        tight: cut boxes as tight squares.
    Raises:
        ValueError: if the mode is unknown.
    """
    extension = EXTENSION if mode in ("extcrop", "extfull") else 1.0
    if mode in ("crop", "extcrop"):
        return _plan_crop(shape, mode, *_square(face, tight, extension), size)
    if mode == "resize":
        return _plan_whole(shape, "resize", size / max(shape))
    if mode in ("full", "extfull"):
        return _plan_full(shape, mode, face, tight, extension)
    raise ValueError(f"framing {mode!r} is unknown; use crop, extcrop, resize, full or extfull")


def _square(face: FaceFit, tight: bool, extension: float) -> tuple[np.ndarray, float]:
    """Centre and side of the square around a head, pixels of the picture."""
    if tight:
        points = face.landmarks if len(face.landmarks) == 68 else OpenSpace.load().ibug(face.landmarks)
        centre, side = tight_square(points[:, :2])
        return centre, side * extension
    outline = outline_of(face)
    low, high = outline.min(0), outline.max(0)
    length = float((high - low).max())
    return (low + high) / 2 - [0, LIFT * length], SIDE * extension * length


def tight_square(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and side of the tight square around a face.

    Args:
        landmarks: iBUG, pixels, shape (68, 2).
    """
    right, left = landmarks[IBUG_RIGHT_EYE].mean(0), landmarks[IBUG_LEFT_EYE].mean(0)
    eyes, down = (right + left) / 2, landmarks[list(IBUG_MOUTH)].mean(0) - (right + left) / 2
    half = max(HALF_EYES * np.linalg.norm(left - right), HALF_MOUTH * np.linalg.norm(down))
    return eyes + DOWN * down, float(2 * half)


def outline_of(face: FaceFit) -> np.ndarray:
    """Points around a face, from the forehead to the chin, pixels, shape (n, 2)."""
    points = face.landmarks[:, :2]
    if len(points) != 68:
        return points[list(OVAL)]
    brows = points[IBUG_BROWS].mean(0)
    return np.concatenate([points[IBUG_OUTLINE], [brows + FOREHEAD * (brows - points[IBUG_CHIN])]])


def _plan_crop(shape: tuple[int, int], mode: Mode, centre: np.ndarray, side: float, size: int) -> Framing:
    height, width = shape
    side = min(side, width, height)
    x0 = float(np.clip(centre[0] - side / 2, 0, width - side))
    y0 = float(np.clip(centre[1] - side / 2, 0, height - side))
    scale = size / side

    def margin(room: float) -> int:
        """Whole portrait pixels of margin where the picture goes on for `room` picture pixels."""
        return int(min(MARGIN * size, room * scale))

    left, top = margin(x0), margin(y0)
    right, bottom = margin(width - x0 - side), margin(height - y0 - side)
    box = (x0 - left / scale, y0 - top / scale, x0 + side + right / scale, y0 + side + bottom / scale)
    return Framing(mode, box, scale, (left + size + right, top + size + bottom), (left, top, size, size), (size, size))


def _plan_whole(shape: tuple[int, int], mode: Mode, scale: float) -> Framing:
    """The whole picture, less the fraction of a pixel row that even sizes cost."""
    height, width = shape
    columns, rows = (max(2, int(round(n * scale, 6)) // 2 * 2) for n in (width, height))
    return Framing(
        mode, (0.0, 0.0, columns / scale, rows / scale), scale, (columns, rows), (0, 0, columns, rows), (columns, rows)
    )


def _plan_full(shape: tuple[int, int], mode: Mode, face: FaceFit, tight: bool, extension: float) -> Framing:
    scale = min(1.0, LONGEST_FULL / max(shape))
    whole = _plan_whole(shape, mode, scale)
    width, height = whole.size
    if tight:
        centre, side = _square(face, tight, extension)
        low, high = (centre - side / 2) * scale, (centre + side / 2) * scale
    else:
        outline = outline_of(face) * scale
        reach = REACH * extension * face.scale_px * scale * float(np.exp(-face.pose[5]))
        low, high = outline.min(0) - reach, outline.max(0) + reach
    x0, y0 = (max(0, int(v)) for v in low)
    x1, y1 = (min(n, int(v) + 1) for v, n in zip(high, (width, height)))
    # even sizes: grow towards the side where there is room
    x0, x1 = _even(x0, x1, width)
    y0, y1 = _even(y0, y1, height)
    box = (x0 / scale, y0 / scale, x1 / scale, y1 / scale)
    return Framing(mode, box, scale, (x1 - x0, y1 - y0), (0, 0, x1 - x0, y1 - y0), whole.size)


def _even(start: int, stop: int, limit: int) -> tuple[int, int]:
    """An even stretch of [0, limit), limit even, that contains [start, stop)."""
    if (stop - start) % 2 == 0:
        return start, stop
    return (start, stop + 1) if stop < limit else (start - 1, stop)


def resample(image: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Part of a picture at another size, by a windowed sinc whose support grows when the picture shrinks.

    Args:
        image: uint8 (H, W, 3) or float32 (H, W).
        box: inside the picture; fractions of a pixel count.
        size: width, height.
    """
    x0, y0, x1, y1 = (round(v) for v in box)
    if np.allclose(box, (x0, y0, x1, y1), atol=1e-6) and (x1 - x0, y1 - y0) == tuple(size):
        return np.ascontiguousarray(image[y0:y1, x0:x1])
    height, width = image.shape[:2]
    box = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    mode = "F" if image.dtype == np.float32 else None
    picture = Image.fromarray(image, mode) if mode else Image.fromarray(image)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=box)).copy()
