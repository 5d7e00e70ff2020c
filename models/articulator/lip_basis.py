"""Lip coordinates: what mouths do, in a basis of lip shapes in which the squared error is that of the vertices."""

from functools import cache

import numpy as np

from models.facespace import topology as top
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION
from models.lips import opening_direction, width_direction
from models.rest import both_sides

UNIT = 0.04  # model units: the usual size of lip coordinates, which the network tells in these
COORDINATES = 16  # 97 % of what mouths do in talking videos
LIP_MOVEMENTS = ("jaw", "pucker", "funnel", "stretch", "smile", "frown", "press", "roll", "upper", "lower")
LIP_MOVEMENTS += ("mouth", "lips", "dimple", "chin")  # beginnings of the names of movements
CHIN = (152, 148, 377, 176, 400, 199, 200)  # vertices of its middle

# What goes along with opening and with width when people speak: shares of movements in one model unit of either, as
# the regression of their lips on both has them. The chin follows the opening less than a yawn's.
SPOKEN_OPENING = {"jaw_open": 0.24, "lower_depress": 0.53, "upper_raise": 0.23}
SPOKEN_WIDTH = {"smile": 0.45, "mouth_narrow": 0.55}


class LipBasis:
    """Lip coordinates and expressions.

    The principal displacements of mouth and chin under the authored lip movements, of unit length: a coordinate of 1
    moves these vertices by one model unit, root mean square.

    Attributes:
        movements: expression per coordinate, shape (K, 64).
        saying: lip coordinates that part the lips by one model unit and leave their width, and those that widen the
            mouth by one and leave it as open as it is, as people do when they speak; shape (2, K).
    """

    def __init__(self, space: OpenSpace):
        names = [name for name in space.direction_names if name.startswith(LIP_MOVEMENTS)]
        directions = np.stack([space.direction(name) for name in names])
        vertices = [*top.LIPS, *CHIN]
        moved = space.expression[:, vertices].reshape(EXPRESSION, -1) / np.sqrt(len(vertices))
        left, sizes, right = np.linalg.svd(directions @ moved, full_matrices=False)
        self.movements = (left[:, :COORDINATES] / sizes[:COORDINATES]).T @ directions
        self._projection = moved @ right[:COORDINATES].T
        ways = np.stack([opening_direction(space), width_direction(space)], axis=1)
        self._says = self.movements @ ways
        spoken = np.stack([_shared(space, SPOKEN_OPENING, ways[:, 0]), _shared(space, SPOKEN_WIDTH, ways[:, 1])])
        coordinates = self.coordinates(spoken)
        self.saying = np.linalg.inv(coordinates @ self._says) @ coordinates

    @classmethod
    @cache
    def load(cls) -> "LipBasis":
        """Of the shipped face space."""
        return cls(OpenSpace.load())

    def coordinates(self, expression: np.ndarray) -> np.ndarray:
        """The nearest lips: expression (..., 64) -> (..., K)."""
        return expression @ self._projection

    def said(self, coordinates: np.ndarray) -> np.ndarray:
        """Opening and width, model units: lip coordinates (..., K) -> (..., 2)."""
        return coordinates @ self._says

    def expression(self, coordinates: np.ndarray) -> np.ndarray:
        """Lip coordinates (..., K) -> expression (..., 64)."""
        return coordinates @ self.movements


def _shared(space: OpenSpace, shares: dict[str, float], way: np.ndarray) -> np.ndarray:
    """Movements that share in going one model unit along `way`, shape (64,)."""
    movements = ((share, both_sides(space, name)) for name, share in shares.items())
    return np.sum([share / (movement @ way) * movement for share, movement in movements], axis=0)
