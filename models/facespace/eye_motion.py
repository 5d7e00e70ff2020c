"""What eyes and brows do, freed of the person and the pose: 21 numbers per frame (GoHD, Fig. 4).

The figure names the landmarks, not the pairs of lid points; those here are the vertical neighbours of the iBUG
scheme. Landmarks are those of the mean person with the head straight, so that the numbers speak of expression alone.

Legend: T frames.
"""

import numpy as np

from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, IDENTITY

EYE_MOTION = 21  # 1 blink ratio, 20 brow displacements
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))  # upper and lower points above each other, of both eyes
BROWS = tuple(range(17, 27))
STRETCH = 1000  # frames at a time: all meshes of an hour would take gigabytes


def eye_motion(space: OpenSpace, expression: np.ndarray) -> np.ndarray:
    """Blink ratio and brow displacement of expressions.

    Args:
        expression: coefficients of `space`, shape (T, 64).
    Returns:
        float32, shape (T, 21): the mean height of both eyes over that of the neutral face (1 when it looks as the
        neutral face does, near 0 when the eyes are shut), then x and y of the ten brow landmarks less the neutral
        ones, in distances of the outer eye corners, x to the right and y down.
    """
    neutral = _straight_landmarks(space, np.zeros((1, EXPRESSION)))
    rest_height = _eye_height(neutral)
    parts = [np.zeros((0, EYE_MOTION))]
    for first in range(0, len(expression), STRETCH):
        landmarks = _straight_landmarks(space, expression[first : first + STRETCH])
        brows = (landmarks - neutral)[:, BROWS].reshape(len(landmarks), -1)
        parts.append(np.column_stack([_eye_height(landmarks) / rest_height, brows]))
    return np.concatenate(parts).astype(np.float32)


def _straight_landmarks(space: OpenSpace, expression: np.ndarray) -> np.ndarray:
    """iBUG landmarks (T, 68, 2) of the mean person, head straight, in model units."""
    return space.landmarks68(np.zeros(IDENTITY), expression, np.zeros((len(expression), 6)))[..., :2]


def _eye_height(landmarks: np.ndarray) -> np.ndarray:
    """Mean distance of the lids of both eyes, shape (T,)."""
    upper, lower = np.array(LIDS).T
    return np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=-1).mean(1)
