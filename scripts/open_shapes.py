"""The authored face movements of the open space, one small table each.

A shape says where a few vertices go at full strength, in model units (the outer eye corners are 1 apart; x to the
right of the picture, y down, z away from the viewer) and which vertices stay; `spread` fills in the rest of the skin.
Shapes of one side are authored for the person's right (x < 0) and mirrored.

Lip tables are functions of u, the vertex's place along the mouth: -1 at the right corner, 0 in the middle, 1 left.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.facespace import topology as top

Move = tuple[float, float, float]
LipTable = Callable[[float, bool], Move]  # (u, whether on the inner lip line) -> displacement

NOSE = (1, 4, 5, 195, 197, 6, 168, 2, 98, 327, 48, 278, 64, 294, 19, 94)
FOREHEAD = (10, 151, 9, 8, 338, 109, 297, 67, 332, 103, 284, 54, 251, 21, 389, 162, 356, 127)
SIDES = (454, 323, 361, 234, 93, 132)
JAW_LINE = (288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58)
MID_CHEEKS = (50, 280, 117, 346, 101, 330)
CHIN_PAD = (199, 175, 200, 18)
EYES = (*top.RIGHT_EYE, *top.LEFT_EYE)
UPPER_FACE = (*EYES, *top.BROWS, *FOREHEAD)
ALL_BUT_MOUTH = (*NOSE, *UPPER_FACE, *SIDES, *JAW_LINE, *MID_CHEEKS)
EYELID_FRAME = (113, 225, 224, 223, 222, 221, 189, 31, 228, 229, 230, 231, 232, 233)  # skin around the right eye
HAIRLINE = (10, 338, 109, 297, 67, 332, 103, 284, 54, 251, 21, 389, 162, 356, 127)
ALL_BUT_BROWS = (*EYES, *NOSE, *top.LIPS, *JAW_LINE, *SIDES, *HAIRLINE)

JAW_ANGLE = 0.30  # radians, of jaw_open at full strength
JAW_NARROWS = 0.9  # strength of mouth_narrow that a fully opened jaw brings with it
EYEBALL_RADIUS = 0.13  # 12 mm where the outer eye corners are 92 mm apart


@dataclass(frozen=True)
class Shape:
    """One movement: vertices that go somewhere, vertices that stay, and whether its mirror image is a shape too."""

    name: str
    moves: dict[int, Move]
    stay: tuple[int, ...]
    sided: bool = False


def hump(u: float) -> float:
    """1 in the middle of the mouth, 0 at its corners."""
    return 1 - min(1.0, abs(u)) ** 2


def still(u: float, inner: bool) -> Move:
    return 0.0, 0.0, 0.0


class Mouth:
    """Turns lip tables into vertex tables for one mean face (V, 3)."""

    def __init__(self, mean: np.ndarray):
        right, left = mean[61, 0], mean[291, 0]
        self.u = {v: float((2 * mean[v, 0] - right - left) / (left - right)) for v in top.LIPS}

    def lips(self, upper: LipTable, lower: LipTable) -> dict[int, Move]:
        """Both lips; the corners follow the upper one."""
        table = {v: lower(self.u[v], False) for v in top.LOWER_LIP_OUTER}
        table |= {v: lower(self.u[v], True) for v in top.LOWER_LIP_INNER}
        table |= {v: upper(self.u[v], False) for v in top.UPPER_LIP_OUTER}
        return table | {v: upper(self.u[v], True) for v in top.UPPER_LIP_INNER}

    def all(self, move: Callable[[float], Move]) -> dict[int, Move]:
        return {v: move(self.u[v]) for v in top.LIPS}

    def right_corner(self, full: Move, power: float) -> dict[int, Move]:
        """Full strength at the right corner, fading to nothing in the middle."""
        x, y, z = full
        fades = {v: max(0.0, -u) ** power for v, u in self.u.items()}
        return {v: (x * f, y * f, z * f) for v, f in fades.items()}


def author_mouth(mean: np.ndarray) -> list[Shape]:
    """Everything that lips, cheeks and chin do without the jaw."""
    mouth, stay = Mouth(mean), ALL_BUT_MOUTH

    def shape(name: str, moves: dict[int, Move], stay: tuple[int, ...] = stay, sided: bool = False) -> Shape:
        return Shape(name, moves, tuple(v for v in stay if v not in moves), sided)

    def outer(y: float, z: float = 0.0) -> LipTable:
        return lambda u, inner: (0.0, 0.0 if inner else y * hump(u), z * hump(u))

    def raised(y: float) -> LipTable:
        return lambda u, inner: (0.0, y * hump(u), 0.0)

    def near_right(y: float) -> LipTable:
        return lambda u, inner: (0.0, y * hump(u + 0.45) * (u < 0.5), 0.0)

    # Rounding pulls the corners in and forwards and everts the lips: red grows while the opening shrinks.
    def pucker(sign: float) -> LipTable:
        return lambda u, inner: (-0.15 * u, 0.0 if inner else sign * 0.03 * hump(u), -0.06 - 0.08 * hump(u))

    def funnel(sign: float) -> LipTable:
        return lambda u, inner: (-0.10 * u, sign * (0.055 if inner else 0.075) * hump(u), -0.05 - 0.09 * hump(u))

    # The lip line stays shut while the red is pressed thin and rolls in.
    def press(sign: float) -> LipTable:
        return lambda u, inner: (0.02 * u, sign * (0.006 if inner else 0.032) * hump(u), 0.025 * hump(u))

    cheek_smile = {205: (-0.02, -0.05, -0.02), 50: (0.0, -0.03, -0.01)}
    held_corner = dict.fromkeys(top.LIPS, (0.0, 0.0, 0.0))
    return [
        shape("pucker", mouth.lips(pucker(-1), pucker(1))),
        shape("funnel", mouth.lips(funnel(-1), funnel(1))),
        shape("stretch", mouth.right_corner((-0.09, 0.01, 0.04), 1.2), sided=True),
        shape("smile", mouth.right_corner((-0.08, -0.09, 0.05), 1.8) | cheek_smile, sided=True),
        shape("frown", mouth.right_corner((-0.01, 0.08, 0.02), 1.8), sided=True),
        shape("press", mouth.lips(press(1), press(-1))),
        shape("roll_upper", mouth.lips(outer(0.05, 0.04), still)),
        shape("roll_lower", mouth.lips(still, outer(-0.05, 0.04))),
        shape("upper_raise", mouth.lips(raised(-0.07), still)),
        shape("lower_depress", mouth.lips(still, raised(0.08))),
        shape("upper_raise_side", mouth.lips(near_right(-0.06), still), sided=True),
        shape("lower_depress_side", mouth.lips(still, near_right(0.06)), sided=True),
        shape("mouth_side", mouth.all(lambda u: (0.08, 0, 0))),
        shape("mouth_up", mouth.all(lambda u: (0, -0.05, 0))),
        shape("mouth_forward", mouth.all(lambda u: (0, 0, -0.07))),
        shape("mouth_narrow", mouth.all(lambda u: (-0.05 * u, 0, 0))),
        shape("mouth_skew", mouth.all(lambda u: (0, 0.05 * u, 0))),
        shape(
            "lips_part",
            mouth.lips(
                lambda u, inner: (0, -0.025 * hump(u) * inner, 0), lambda u, inner: (0, 0.025 * hump(u) * inner, 0)
            ),
        ),
        shape("upper_thick", mouth.lips(outer(-0.03, -0.02), still)),
        shape("lower_thick", mouth.lips(still, outer(0.03, -0.02))),
        shape("upper_side", mouth.lips(lambda u, inner: (0.05 * hump(u), 0, 0), still)),
        shape("lower_side", mouth.lips(still, lambda u, inner: (0.06 * hump(u), 0, 0))),
        shape("dimple", held_corner | {61: (-0.04, 0, 0.05), 78: (-0.03, 0, 0.04)}, sided=True),
        shape(
            "cheek_puff",
            {205: (-0.03, 0, -0.07), 207: (-0.05, 0, -0.06), 187: (-0.04, 0, -0.05), 50: (0, 0, -0.02)},
            (*UPPER_FACE, *NOSE, *top.LIPS, *SIDES, 152, 148, 377, 176, 400),
            sided=True,
        ),
        shape(
            "chin_raise",
            dict.fromkeys(CHIN_PAD, (0.0, -0.05, -0.03))
            | {
                v: (0, -0.04 * hump(mouth.u[v]), -0.02)
                for v in (*top.LOWER_LIP_OUTER[1:-1], *top.LOWER_LIP_INNER[1:-1])
            },
        ),
        shape(
            "sneer",
            {48: (0, -0.04, 0), 64: (0, -0.035, 0), 98: (0, -0.03, 0), 36: (0, -0.03, 0)},
            (*UPPER_FACE, 1, 4, 2, 278, 294, 327, 168, 6, *top.LIPS, *SIDES, *JAW_LINE),
            sided=True,
        ),
        shape(
            "nose_flare",
            {48: (-0.02, 0, 0), 278: (0.02, 0, 0), 64: (-0.03, 0, 0), 294: (0.03, 0, 0)},
            (*UPPER_FACE, 1, 4, 2, 168, 6, *top.LIPS, *SIDES, *JAW_LINE),
        ),
        shape(
            "cheek_raise",
            {50: (0, -0.05, -0.02), 205: (0, -0.03, -0.01)} | dict.fromkeys((117, 118, 101), (0.0, -0.04, -0.01)),
            (*UPPER_FACE, *NOSE, *top.LIPS, *SIDES, *JAW_LINE),
            sided=True,
        ),
    ]


def author_eyes(mean: np.ndarray) -> list[Shape]:
    """Lids and brows."""
    upper, lower = top.RIGHT_EYE_UPPER[1:-1], top.RIGHT_EYE_LOWER[1:-1]
    outer_x, inner_x = mean[top.RIGHT_EYE_OUTER, 0], mean[top.RIGHT_EYE_INNER, 0]
    arch = {v: hump((2 * mean[v, 0] - outer_x - inner_x) / (inner_x - outer_x)) for v in (*upper, *lower)}
    height = float(np.linalg.norm(mean[lower[3]] - mean[upper[3]]))

    def bulge(y: float) -> float:
        """Depth of the eyeball's surface at height y from its middle, relative to its foremost point."""
        return EYEBALL_RADIUS - float(np.sqrt(max(0.0, EYEBALL_RADIUS**2 - y**2)))

    # The upper lid does the closing and slides over the eyeball; the lower one comes up a little to meet it.
    blink: dict[int, Move] = {}
    for a, b in zip(upper, lower):
        x, y, z = mean[b] - mean[a]
        middle = (mean[a, 1] + mean[b, 1]) / 2
        meeting = mean[a, 1] + 0.82 * y
        forward = bulge(meeting - middle) - bulge(mean[a, 1] - middle)
        blink[a] = (0.82 * x, 0.82 * y, 0.82 * z + forward)
        blink[b] = (-0.18 * x, -0.18 * y, -0.18 * z + forward)
    crease = {v: (0.0, 0.25 * height * (1 - ((k - 3) / 4) ** 2), 0.0) for k, v in enumerate(top.RIGHT_CREASE)}
    frame = (33, 133, *top.BROWS, *NOSE, *top.LEFT_EYE, *top.LIPS, *JAW_LINE, *SIDES, 10, 151, 9, 8, *MID_CHEEKS)
    lids = (*frame, *EYELID_FRAME)

    def brow(name: str, upper: list[Move], lower: list[Move]) -> Shape:
        """Rows from outer to inner; a brow that stands still is all zeros."""
        moves = dict(zip(top.RIGHT_BROW_UPPER, upper)) | dict(zip(top.RIGHT_BROW_LOWER, lower))
        return Shape(name, moves, (*ALL_BUT_BROWS, *top.LEFT_BROW_UPPER, *top.LEFT_BROW_LOWER), sided=True)

    up, down = [-0.06, -0.07, -0.05, -0.02, 0.0], [0.01, 0.03, 0.045, 0.05, 0.05]
    inwards = [0.0, 0.0, 0.0, 0.01, 0.02]
    return [
        Shape("blink", blink | crease, lids, sided=True),
        Shape("lid_raise", {v: (0, -0.03 * arch[v], 0) for v in upper}, (*lower, *lids), sided=True),
        Shape("squint", {v: (0, -0.03 * arch[v], 0) for v in lower}, (*upper, *frame), sided=True),
        brow("brow_outer", [(0, y, 0) for y in up], [(0, 0.85 * y, 0) for y in up]),
        brow(
            "brow_inner",
            [(0, y, 0) for y in (0, 0, -0.02, -0.05, -0.08)],
            [(0, y, 0) for y in (0, 0, -0.02, -0.05, -0.08)],
        ),
        brow("brow_down", [(x, y, 0) for x, y in zip(inwards, down)], [(x, y, 0) for x, y in zip(inwards, down)]),
        brow("brow_together", [(x, 0, 0) for x in (0, 0, 0, 0.02, 0.03)], [(x, 0, 0) for x in (0, 0, 0, 0.02, 0.03)]),
    ]


def jaw_weights(mean: np.ndarray) -> tuple[dict[int, float], tuple[int, ...]]:
    """How far vertices go with the lower jaw, 0..1, and which stay with the skull."""
    u = Mouth(mean).u
    weights = dict.fromkeys((152, 148, 377, 176, 400, 175, 199, 200, 18), 1.0)
    weights |= {v: 1 - 0.58 * abs(u[v]) ** 2.2 for v in (*top.LOWER_LIP_OUTER, *top.LOWER_LIP_INNER)}
    weights |= {v: 0.42 * abs(u[v]) ** 4 for v in (*top.UPPER_LIP_OUTER, *top.UPPER_LIP_INNER)}
    for right, left, weight in ((58, 288, 0.4), (172, 397, 0.62), (136, 365, 0.8), (150, 379, 0.92)):
        weights |= {right: weight, left: weight}
    return weights, (*NOSE, *UPPER_FACE, 234, 454, 93, 323)


def author_jaw(mean: np.ndarray, weight: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Whole displacement fields, (468, 3), of the jaw; weight: shape (468, 1)."""
    axis = (mean[top.RIGHT_EAR] + mean[top.LEFT_EAR]) / 2
    y, z = mean[:, 1] - axis[1], mean[:, 2] - axis[2]
    cos, sin = np.cos(JAW_ANGLE), np.sin(JAW_ANGLE)
    turned = np.stack([0 * y, y * cos - z * sin - y, y * sin + z * cos - z], 1)
    return [
        ("jaw_open", turned * weight),
        ("jaw_side", np.array([0.12, 0, 0]) * weight),
        ("jaw_forward", np.array([0, 0, -0.12]) * weight),
    ]
