"""Where the eyes look, from the iris points."""

from typing import TYPE_CHECKING

import numpy as np

from models.facespace import camera
from models.facespace import topology as top
from models.facespace.temporal import blur, take_medians
from models.interfaces import FaceFit

if TYPE_CHECKING:
    from models.facespace.open import OpenSpace

PUPIL_RADIUS = 0.115  # model units, of the iris's path around the eyeball's centre: 10.5 mm
LARGEST = np.radians(45)  # eyes turn no further
SHUT = 0.5  # of the usual lid opening: below, the lid hides the iris
EYES = (
    (top.RIGHT_IRIS[0], top.RIGHT_EYE_OUTER, top.RIGHT_EYE_INNER, top.RIGHT_EYE_UPPER, top.RIGHT_EYE_LOWER),
    (top.LEFT_IRIS[0], top.LEFT_EYE_OUTER, top.LEFT_EYE_INNER, top.LEFT_EYE_UPPER, top.LEFT_EYE_LOWER),
)


def estimate_gaze(
    space: "OpenSpace", face: FaceFit, landmarks: np.ndarray, expression: np.ndarray, pose: np.ndarray
) -> np.ndarray:
    """Yaw and pitch of the eyes relative to the head, mean of both eyes, in radians, shape (T, 2).

    The irises of the mean face look straight ahead; an eye turned by yaw carries its iris along a sphere.

    Args:
        landmarks: points (T, 478, 3) in pixels.
        expression: fitted to them, shape (T, 64).
        pose: fitted to them, shape (T, 6).
    """
    vertices = space.vertices(face.identity, expression)
    turns = camera.rotation(pose[:, :3])[:, :2, :2]
    size = face.scale_px * np.exp(-pose[:, 5])[:, None]
    angles = []
    for iris, outer, inner, *_ in EYES:
        ahead = space.mean[iris] - (space.mean[outer] + space.mean[inner]) / 2
        straight = (vertices[:, [outer]] + vertices[:, [inner]]) / 2 + ahead
        expected = camera.project(straight, pose, face.scale_px, face.origin_px)[:, 0, :2]
        offset = np.linalg.solve(turns, ((landmarks[:, iris, :2] - expected) / size)[..., None])[..., 0]
        angles.append(np.arcsin(np.clip(offset / PUPIL_RADIUS, -0.7, 0.7)))
    yaw, pitch = np.mean(angles, 0).T
    return np.stack([-yaw, pitch], 1).clip(-LARGEST, LARGEST)


def lid_opening(landmarks: np.ndarray) -> np.ndarray:
    """Height of the eyes over their width, the wider open one, shape (T,) of points (T, 478, 3)."""
    openings = []
    for _, outer, inner, upper, lower in EYES:
        height = np.linalg.norm(landmarks[:, lower[3:6], :2] - landmarks[:, upper[3:6], :2], axis=2).mean(1)
        openings.append(height / np.linalg.norm(landmarks[:, outer, :2] - landmarks[:, inner, :2], axis=1))
    return np.max(openings, 0)


def hold_through_blinks(gaze: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Gaze (T, 2) with closed eyes bridged and noise taken out; saccades stay steps.

    Args:
        opening: of the lids, shape (T,), in any unit.
    """
    seen = np.flatnonzero(opening > SHUT * np.median(opening))
    if len(seen) == 0:
        return gaze
    frames = np.arange(len(gaze))
    bridged = np.stack([np.interp(frames, seen, gaze[seen, k]) for k in range(2)], 1)
    return blur(take_medians(bridged, 5), 0.7)
