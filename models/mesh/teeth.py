"""Two rows of teeth as small tables in model units (1 = distance of the outer eye corners, about 90 mm)."""

from functools import cache

import numpy as np

from models.mesh.geometry import smoothstep

WIDTH, HEIGHT = 321, 97  # samples of a table
X_REACH = 0.40  # a table spans x in [-X_REACH, X_REACH]
Y_RANGE = (-0.20, 0.04)  # and y in this range from the row's biting edge, towards the gums negative

# Where neighbours touch, from the middle outwards; then each tooth's height and how far its edge stands back.
UPPER = (
    (0.0, 0.094, 0.166, 0.234, 0.286, 0.330, 0.370),
    (0.117, 0.100, 0.112, 0.090, 0.080, 0.070),
    (0.000, 0.008, 0.003, 0.010, 0.014, 0.018),
)
LOWER = (
    (0.0, 0.058, 0.121, 0.190, 0.246, 0.295, 0.340),
    (0.085, 0.085, 0.095, 0.080, 0.070, 0.060),
    (0.000, 0.002, 0.000, 0.006, 0.010, 0.014),
)
UPPER_ARC, LOWER_ARC = 0.30, 0.22  # how the row bends towards the gums at the sides, per unit squared


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower row, each float32 of shape (HEIGHT, WIDTH, 3): light, coverage, share of gum, all 0..1."""
    return _row(*UPPER, UPPER_ARC), _row(*LOWER, LOWER_ARC)


def _row(contacts, heights, setback, arc) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-X_REACH, X_REACH, WIDTH), np.linspace(*Y_RANGE, HEIGHT))
    contacts, heights, setback = (np.asarray(values) for values in (contacts, heights, setback))
    side = np.round(np.abs(x), 9)  # so that left and right agree on whose tooth a contact is
    k = np.clip(np.searchsorted(contacts, side, side="right") - 1, 0, len(heights) - 1)
    u = np.clip((side - contacts[k]) / (contacts[k + 1] - contacts[k]) * 2 - 1, -1, 1)  # across one tooth
    touch = np.minimum(side - contacts[k], contacts[k + 1] - side)  # distance to the neighbour

    # Height above the tooth's own edge, whose corners are rounded, more so on the outer side.
    bend = np.interp(side, contacts, np.r_[0, np.maximum(setback, np.r_[0, setback[:-1]])])
    edge = -arc * x**2 - 0.5 * (setback[k] + bend) - 0.007 * np.abs(u) ** 3 - 0.003 * np.clip(u, 0, 1) ** 2
    above = edge - y
    coverage = smoothstep(-0.004, 0.006, above) * (1 - smoothstep(contacts[-1] - 0.03, contacts[-1], side))
    gum = smoothstep(-0.012, 0.012, above - heights[k] + 0.022 * u**2)

    body = 0.90 + 0.10 * np.sqrt(1 - 0.9 * u**2)
    gap = 1 - 0.10 * np.exp(-((touch / 0.006) ** 2)) * smoothstep(0.0, 0.02, above)
    embrasure = 1 - 0.16 * np.exp(-((touch / 0.008) ** 2)) * np.exp(-np.maximum(above, 0) / 0.02)
    tip = 0.90 + 0.10 * smoothstep(0.0, 0.03, above)
    root = 1 - 0.10 * smoothstep(0.5, 1.0, above / heights[k])
    depth = 0.25 + 0.75 * np.exp(-((x / 0.27) ** 4))
    light = np.where(gum > 0.5, 0.92, 1.0) * body * gap * embrasure * tip * root * depth
    return np.ascontiguousarray(np.dstack([light, coverage, gum]), np.float32)
