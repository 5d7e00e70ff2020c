"""ExpNet's lips on a portrait of the open space: calibrated, and the face around them at rest.

Learned from the real faces that a sound may come with, ExpNet tells their mean: a mouth that hangs half open and moves
too little. The articulator's calibration makes of it the lips of somebody who shuts his mouth.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.articulator.lip_basis import LipBasis
from models.articulator.motion import calibrate
from models.facespace import topology as top
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit
from models.rest import add_up, face_at_rest

MOST_BLINK = 1.5  # of the signal that shuts usual eyes
SMOOTHING = 1.0  # standard deviation, frames: every frame is told for itself


def blink_strength(lids: np.ndarray, source: FaceFit) -> float:
    """The blink signal at which a portrait's own eyes just shut: narrow eyes need less of it, wide ones more.

    Args:
        lids: what a signal of 1 adds to the expression, shape (64,).
        source: the portrait's face in the open space.
    Returns:
        0 to `MOST_BLINK`.
    """
    space = OpenSpace.load()
    upper = [*top.RIGHT_EYE_UPPER[1:-1], *top.LEFT_EYE_UPPER[1:-1]]
    lower = [*top.RIGHT_EYE_LOWER[1:-1], *top.LEFT_EYE_LOWER[1:-1]]
    points = space.canonical(source)
    gap = np.maximum(0, points[lower, 1] - points[upper, 1]).mean()
    shut_by = (space.expression[:, upper, 1] - space.expression[:, lower, 1]).mean(1) @ lids
    return float(np.clip(gap / max(shut_by, 1e-6), 0, MOST_BLINK))


def settle(
    expression: np.ndarray,
    shown: np.ndarray,
    source: FaceFit,
    voice: np.ndarray,
    speaking: np.ndarray,
    scale: float,
) -> np.ndarray:
    """What ExpNet tells -> the portrait speaking, shape (T, 64), float32.

    Lips are calibrated and set upon the portrait's closed mouth, whose smile relaxes; lids, and all else that isn't
    lips, stay as they are told.

    Args:
        expression: of ExpNet, shape (T, 64).
        shown: the reference expression that it was given, shape (T, 64).
        source: the portrait's face in the open space.
        voice: 0 in silence, 1 while speaking, shape (T,).
        speaking: frames with speech (`models.articulator.pauses`), bool, shape (T,).
        scale: strength of the lips' movement.
    """
    space, basis = OpenSpace.load(), LipBasis.load()
    told = basis.coordinates(expression)
    said = told - basis.coordinates(shown)
    calm, relaxing = face_at_rest(space, source, voice)
    lips = calibrate(gaussian_filter1d(said, SMOOTHING, axis=0, mode="nearest"), speaking, basis)
    closed = calm - source.expression + basis.expression(basis.coordinates(source.expression))
    moves = [*zip((scale * lips - told).T, basis.movements), *relaxing]
    return expression + add_up(closed, moves)
