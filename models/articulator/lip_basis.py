"""Lip coordinates: what mouths do, in a basis of lip shapes in which the squared error is that of the vertices."""

from functools import cache

import numpy as np

from models.facespace import topology as top
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION

UNIT = 0.04  # model units: the usual size of lip coordinates, which the network tells in these
COORDINATES = 16  # 97 % of what mouths do in talking videos
LIP_MOVEMENTS = ("jaw", "pucker", "funnel", "stretch", "smile", "frown", "press", "roll", "upper", "lower")
LIP_MOVEMENTS += ("mouth", "lips", "dimple", "chin")  # beginnings of the names of movements
CHIN = (152, 148, 377, 176, 400, 199, 200)  # vertices of its middle


class LipBasis:
    """Lip coordinates and expressions.

    The principal displacements of mouth and chin under the authored lip movements, of unit length: a coordinate of 1
    moves these vertices by one model unit, root mean square.

    Attributes:
        movements: expression per coordinate, shape (K, 64).
    """

    def __init__(self, space: OpenSpace):
        names = [name for name in space.direction_names if name.startswith(LIP_MOVEMENTS)]
        directions = np.stack([space.direction(name) for name in names])
        vertices = [*top.LIPS, *CHIN]
        moved = space.expression[:, vertices].reshape(EXPRESSION, -1) / np.sqrt(len(vertices))
        left, sizes, right = np.linalg.svd(directions @ moved, full_matrices=False)
        self.movements = (left[:, :COORDINATES] / sizes[:COORDINATES]).T @ directions
        self._projection = moved @ right[:COORDINATES].T

    @classmethod
    @cache
    def load(cls) -> "LipBasis":
        """Of the shipped face space."""
        return cls(OpenSpace.load())

    def coordinates(self, expression: np.ndarray) -> np.ndarray:
        """The nearest lips: expression (..., 64) -> (..., K)."""
        return expression @ self._projection

    def expression(self, coordinates: np.ndarray) -> np.ndarray:
        """Lip coordinates (..., K) -> expression (..., 64)."""
        return coordinates @ self.movements
