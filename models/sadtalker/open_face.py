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
from models.interfaces import EXPRESSION, FaceFit
from models.rest import add_up, face_at_rest

MOST_BLINK = 1.5  # of the signal that shuts usual eyes
UPPER_LIDS = [*top.RIGHT_EYE_UPPER[1:-1], *top.LEFT_EYE_UPPER[1:-1]]  # vertices
LOWER_LIDS = [*top.RIGHT_EYE_LOWER[1:-1], *top.LEFT_EYE_LOWER[1:-1]]
LID_MOVEMENTS = ("blink", "lid", "squint")  # beginnings of the names of movements
SMOOTHING = 1.0  # standard deviation, frames: every frame is told for itself


def blink_strength(lids: np.ndarray, source: FaceFit) -> np.ndarray:
    """The blink signal at which a portrait's own eyes just shut: narrow eyes need less of it, wide ones more.

    Args:
        lids: what a signal of 1 adds to the expression, shape (..., 64).
        source: the portrait's face in the open space.
    Returns:
        0 to `MOST_BLINK`, shape (...).
    """
    space = OpenSpace.load()
    points = space.canonical(source)
    gap = np.maximum(0, points[LOWER_LIDS, 1] - points[UPPER_LIDS, 1]).mean()
    return np.clip(gap / np.maximum(_closure(lids), 1e-6), 0, MOST_BLINK)


def follow_lids(followed: np.ndarray, source: FaceFit) -> np.ndarray:
    """What another face's lids do, for a portrait: added to its expression, its lids do the same.

    Read where that face's lids are, in movements of lids alone, so that brows and cheeks neither come along nor are
    taken for lids; and against its own open eyes, so that the portrait's stay as wide as they are until the other's
    blink. They go no further than shut.

    Args:
        followed: expression of the other face in the open space, shape (T, 64).
        source: the portrait's face in the open space.
    Returns:
        shape (T, 64).
    """
    space = OpenSpace.load()
    movements = np.stack([space.direction(name) for name in space.direction_names if name.startswith(LID_MOVEMENTS)])
    rims = space.expression[:, [*top.RIGHT_EYE, *top.LEFT_EYE]].reshape(EXPRESSION, -1)
    lids = followed @ rims @ np.linalg.pinv(movements @ rims) @ movements
    closure = _closure(lids)
    change = lids - np.median(lids[closure <= np.median(closure)], axis=0)  # the half of the time they are widest
    return change * np.minimum(1, blink_strength(change, source))[:, None]


def _closure(change: np.ndarray) -> np.ndarray:
    """How much nearer to each other changes of expression bring the lids, model units: (..., 64) -> (...)."""
    moved = OpenSpace.load().expression[:, :, 1]
    return change @ (moved[:, UPPER_LIDS] - moved[:, LOWER_LIDS]).mean(1)


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
