"""Two numbers that say most of what lips do: how far they part, and how wide the mouth is."""

from functools import cache

import numpy as np

from models.facespace import topology as top
from models.facespace.open import OpenSpace

MIDDLE = len(top.UPPER_LIP_INNER) // 2


@cache
def opening_direction() -> np.ndarray:
    """Gap between the middles of the lips of the mean face, model units per expression coefficient, shape (64,)."""
    movement = OpenSpace.load().expression
    return movement[:, top.LOWER_LIP_INNER[MIDDLE], 1] - movement[:, top.UPPER_LIP_INNER[MIDDLE], 1]


@cache
def width_direction() -> np.ndarray:
    """Distance between the corners of the mouth, sideways, the same way."""
    movement = OpenSpace.load().expression
    return movement[:, top.UPPER_LIP_INNER[-1], 0] - movement[:, top.UPPER_LIP_INNER[0], 0]
