"""Two numbers that say most of what lips do: how far they part, and how wide the mouth is."""

import numpy as np

from models.facespace import topology as top
from models.facespace.open import OpenSpace

MIDDLE = len(top.UPPER_LIP_INNER) // 2
# How jaw and lips share in opening a mouth.
OPENING_SHARES = {"jaw_open": 0.74, "lower_depress": 0.16, "upper_raise": 0.10}


def opening_direction(space: OpenSpace | None = None) -> np.ndarray:
    """Gap between the middles of the lips, model units per expression coefficient, shape (64,).

    Args:
        space: default: the shipped one, as below.
    """
    movement = (space or OpenSpace.load()).expression
    return movement[:, top.LOWER_LIP_INNER[MIDDLE], 1] - movement[:, top.UPPER_LIP_INNER[MIDDLE], 1]


def width_direction(space: OpenSpace | None = None) -> np.ndarray:
    """Distance between the corners of the mouth, sideways, the same way."""
    movement = (space or OpenSpace.load()).expression
    return movement[:, top.UPPER_LIP_INNER[-1], 0] - movement[:, top.UPPER_LIP_INNER[0], 0]


def opening_movement(space: OpenSpace | None = None) -> np.ndarray:
    """The movement of jaw and lips that parts the lips by one model unit, shape (64,)."""
    space = space or OpenSpace.load()
    movements = ((share, space.direction(name)) for name, share in OPENING_SHARES.items())
    return np.sum([share / (move @ opening_direction(space)) * move for share, move in movements], axis=0)
