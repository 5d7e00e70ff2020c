"""Faces turned upright and scaled to where a network expects their eyes, nose and mouth.

Points and templates are in OpenCV's convention here: the centre of the first pixel is 0, not the 0.5 that it is
elsewhere in the project.
"""

import cv2
import numpy as np

from models.facespace import topology as top

CENTRE = 0.5  # of a pixel, in the convention of detected landmarks
NOSE_BASE = 2  # of the mesh: where the nose meets the lip

# Landmarks that each point is the mean of, in the order of the picture from left to right.
ARCFACE_POINTS = {
    68: ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47), (30,), (48,), (54,)),
    478: (top.RIGHT_EYE, top.LEFT_EYE, (top.NOSE_TIP,), (top.UPPER_LIP_OUTER[0],), (top.UPPER_LIP_OUTER[-1],)),
}
DLIB_POINTS = {
    68: ((45,), (42,), (36,), (39,), (33,)),
    478: ((top.LEFT_EYE_OUTER,), (top.LEFT_EYE_INNER,), (top.RIGHT_EYE_OUTER,), (top.RIGHT_EYE_INNER,), (NOSE_BASE,)),
}


def pick_points(landmarks: np.ndarray, groups: dict[int, tuple[tuple[int, ...], ...]]) -> np.ndarray:
    """The few points that an alignment rests on.

    Args:
        landmarks: of one face in pixels, pixel centres at whole numbers + 0.5, shape (68, 2 or more) in iBUG order or
            (478, 2 or more) of the face mesh.
        groups: for either number of landmarks, which of them each point is the mean of.
    Returns:
        In OpenCV's convention, shape (points, 2).
    Raises:
        ValueError: another number of landmarks.
    """
    if len(landmarks) not in groups:
        raise ValueError(f"{len(landmarks)} landmarks; faces are aligned by {' or '.join(map(str, groups))} of them")
    xy = np.asarray(landmarks, np.float64)[:, :2] - CENTRE
    return np.stack([xy[list(group)].mean(0) for group in groups[len(landmarks)]])


def fit_similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rotation, scale and shift that bring points closest to their targets, in the sum of squares.

    Args:
        points, targets: shape (n, 2), n >= 2, points not all the same.
    Returns:
        Matrix of shape (2, 3), for `cv2.warpAffine`. It never mirrors.
    """
    z, w = (np.asarray(xy, np.float64) @ (1, 1j) for xy in (points, targets))
    moved = z - z.mean()
    turn = np.vdot(moved, w - w.mean()) / np.vdot(moved, moved).real
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(image: np.ndarray, points: np.ndarray, targets: np.ndarray, size: int) -> np.ndarray:
    """A square of a picture in which the points lie on their targets, black beyond its borders.

    Args:
        image: uint8, shape (H, W, 3).
        points, targets: shape (n, 2), in pixels of the picture and of the square.
        size: pixels of its side.
    Returns:
        uint8, shape (size, size, 3), sampled linearly as the published scripts do.
    """
    return cv2.warpAffine(image, fit_similarity(points, targets), (size, size), flags=cv2.INTER_LINEAR)
