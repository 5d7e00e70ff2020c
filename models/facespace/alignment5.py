"""The picture that Deep3DFaceRecon looks at: a face moved and scaled, not turned, to a standard place.

An affine camera is fitted to five points (eyes, nose, corners of the mouth) and a standard face in three dimensions
(Deng et al., 2019); the picture is scaled so that the camera's scale becomes a fixed number, and a square is cut out
around its shift. Landmarks in pixels of the picture, y down, the first pixel's centre at 0; the camera thinks y up.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 224  # pixels of the aligned picture
LARGEST = 16_000_000  # pixels of a scaled picture that is made as a whole
SCALE_PX = 102.0  # pixels per unit of the standard face in the aligned picture
# Left and right eye as seen in the picture, nose, left and right corner of the mouth; x right, y up, z to the viewer.
STANDARD_FACE = np.array(
    [
        (-0.311486572, 0.2903607786, 0.1337795258),
        (0.3097988665, 0.2897203565, 0.1317952573),
        (0.0032534988, -0.0461793244, 0.5524424314),
        (-0.2521692812, -0.3813391626, 0.2240573168),
        (0.2484661937, -0.3812823594, 0.2223576903),
    ]
)
GROUPS = ((36, 39), (42, 45), (30,), (48,), (54,))  # iBUG landmarks that each of the five points is the mean of


@dataclass(frozen=True)
class Alignment:
    """How a picture was aligned.

    Args:
        size: width and height of the picture, pixels.
        scale: aligned pixels per pixel of the picture.
        centre: pixel of the picture, x right and y up, that comes to the middle of the aligned one; shape (2,).
        side: pixels of the aligned picture.
    """

    size: tuple[int, int]
    scale: float
    centre: np.ndarray
    side: int

    @property
    def parameters(self) -> np.ndarray:
        """Width, height, scale and centre, shape (5,); the last three are the published alignment coefficients."""
        return np.array([*self.size, self.scale, *self.centre])

    @property
    def scaled_size(self) -> tuple[int, int]:
        """Width and height of the whole picture at the aligned scale, pixels."""
        return int(self.size[0] * self.scale), int(self.size[1] * self.scale)

    @property
    def corner(self) -> tuple[int, int]:
        """Left upper corner of the aligned square in the whole picture at its scale, pixels; may lie outside."""
        (width, height), (across, up) = self.scaled_size, self.centre
        left = width / 2 - self.side / 2 + (across - self.size[0] / 2) * self.scale
        top = height / 2 - self.side / 2 + (self.size[1] / 2 - up) * self.scale
        return int(left), int(top)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The aligned picture, black beyond the borders; uint8, shape (side, side, 3)."""
        (width, height), (left, top) = self.scaled_size, self.corner
        picture, (right, bottom) = Image.fromarray(image), (left + self.side, top + self.side)
        if width * height <= LARGEST:
            scaled = picture.resize((width, height), Image.Resampling.BICUBIC)
            return np.array(scaled.crop((left, top, right, bottom)))
        # Of a small face in a large picture, only what is seen is scaled. Pillow keeps such boxes in single precision:
        # the result is the same up to two levels.
        aligned = np.zeros((self.side, self.side, 3), np.uint8)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
        if x0 < x1 and y0 < y1:
            across, down = self.size[0] / width, self.size[1] / height
            box = (x0 * across, y0 * down, x1 * across, y1 * down)
            scaled = picture.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=box)
            aligned[y0 - top : y1 - top, x0 - left : x1 - left] = np.asarray(scaled)
        return aligned

    def move(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks of the picture, shape (n, 2), in the aligned one, y up; shape (n, 2)."""
        flipped = flip(landmarks, self.size[1])
        middle = np.array(self.size) / 2
        return (flipped - self.centre + middle) * self.scale - (np.array(self.scaled_size) / 2 - self.side / 2)


def align(
    size: tuple[int, int],
    landmarks: np.ndarray,
    *,
    standard: np.ndarray = STANDARD_FACE,
    side: int = SIDE,
    scale_px: float = SCALE_PX,
) -> Alignment:
    """Where a face shall come to lie.

    Args:
        size: width and height of the picture, pixels.
        landmarks: iBUG, in pixels of the picture, shape (68, 2).
        standard: the standard face's five points, shape (5, 3).
        side: pixels of the aligned picture.
        scale_px: pixels per unit of the standard face in the aligned picture.
    """
    centre, scale = fit_camera(five_points(flip(landmarks, size[1])), standard)
    return Alignment(size, scale_px / scale, centre, side)


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eyes, nose and corners of the mouth of iBUG landmarks (68, 2), shape (5, 2)."""
    return np.stack([landmarks[list(group)].mean(0) for group in GROUPS])


def fit_camera(points: np.ndarray, standard: np.ndarray) -> tuple[np.ndarray, float]:
    """The affine camera that shows the standard face at the points, in the sum of squares.

    Args:
        points: pixels, y up, shape (5, 2).
        standard: shape (5, 3).
    Returns:
        Where it shows the origin, shape (2,), and pixels per unit, the mean length of its two rows.
    """
    seen = np.column_stack([standard, np.ones(len(standard))])
    camera = np.linalg.lstsq(seen, np.asarray(points, np.float64), rcond=None)[0]  # (4, 2)
    return camera[3], float(np.linalg.norm(camera[:3], axis=0).mean())


def flip(landmarks: np.ndarray, height: int) -> np.ndarray:
    """Landmarks (n, 2) with y up instead of down, or the reverse, in a picture of `height` pixels."""
    flipped = np.array(landmarks, np.float64)
    flipped[:, 1] = height - 1 - flipped[:, 1]
    return flipped
