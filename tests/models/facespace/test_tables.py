"""The shipped tables: a symmetric, orthonormal model whose movements do what they are called."""

import hashlib

import numpy as np
import pytest

from models.facespace import topology as top
from models.facespace.open import TABLES, OpenSpace

SPACE = OpenSpace.load()
NEUTRAL = np.zeros(80)


def moved(name: str, strength: float = 1.0) -> np.ndarray:
    return SPACE.vertices(NEUTRAL, strength * SPACE.direction(name)) - SPACE.mean[:468]


def gap(points: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    return (points[list(lower)] - points[list(upper)])[1:-1, 1]


def test_units_and_symmetry():
    assert np.linalg.norm(SPACE.mean[33] - SPACE.mean[263]) == pytest.approx(1, abs=1e-5)
    assert np.abs(SPACE.mean[SPACE.mirror] * (-1, 1, 1) - SPACE.mean).max() < 1e-6
    assert (SPACE.mirror[SPACE.mirror] == np.arange(478)).all()
    assert SPACE.mean[33, 0] < 0 < SPACE.mean[263, 0]  # the person's right is on the picture's left
    assert SPACE.mean[top.NOSE_TIP, 2] == SPACE.mean[:468, 2].min()  # z runs away from the viewer


@pytest.mark.parametrize("basis", [SPACE.identity, SPACE.expression], ids=["identity", "expression"])
def test_bases_are_orthonormal(basis):
    flat = basis.reshape(len(basis), -1).astype(np.float64)
    assert np.abs(flat @ flat.T - np.eye(len(flat))).max() < 1e-5


def test_sizes():
    assert SPACE.identity.shape == (80, 468, 3)
    assert SPACE.expression.shape == (64, 468, 3)
    assert len(set(SPACE.expression_names)) == 64


def test_triangles_cover_the_skin_and_face_the_viewer():
    corners = SPACE.mean[SPACE.triangles]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert SPACE.triangles.shape == (852, 3)
    assert (area > 0).mean() > 0.97  # below the nose a few look down
    assert set(SPACE.triangles.ravel()) == set(range(468))


def test_holes_are_what_the_skin_leaves_open():
    skin = {frozenset(e) for t in SPACE.triangles for e in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    for upper, lower in (
        (top.UPPER_LIP_INNER, top.LOWER_LIP_INNER),
        (top.RIGHT_EYE_UPPER, top.RIGHT_EYE_LOWER),
        (top.LEFT_EYE_UPPER, top.LEFT_EYE_LOWER),
    ):
        rim = [*upper, *lower[-2:0:-1]]
        assert all(frozenset((a, b)) in skin for a, b in zip(rim, rim[1:] + rim[:1]))
        assert not any(frozenset((a, b)) in skin for a, b in zip(upper[2:-2], lower[2:-2]))
    assert [len(t) for t in top.hole_triangles().values()] == [18, 14, 14]


@pytest.mark.parametrize("name", [n for n in SPACE.direction_names if n.endswith("_R")])
def test_left_movements_mirror_right_ones(name):
    right, left = moved(name), moved(name[:-1] + "L")
    assert np.abs(right[SPACE.mirror[:468]] * (-1, 1, 1) - left).max() < 2e-3
    assert np.abs(right[SPACE.mean[:468, 0] < 0]).max() > np.abs(right[SPACE.mean[:468, 0] > 0.1]).max()


def test_the_neutral_mouth_is_shut():
    assert np.abs(gap(SPACE.mean, top.UPPER_LIP_INNER, top.LOWER_LIP_INNER)).max() < 1e-5


def test_jaw_opens_downwards_about_the_ears():
    field = moved("jaw_open")
    assert field[top.CHIN, 1] > 0.15
    assert field[top.CHIN, 2] > 0
    assert np.abs(field[[top.RIGHT_EAR, top.LEFT_EAR, 33, 263, top.NOSE_TIP]]).max() < 0.01
    opened = gap(SPACE.mean[:468] + field, top.UPPER_LIP_INNER, top.LOWER_LIP_INNER)
    assert opened.argmax() == 4
    assert opened.min() > 0.02


def test_rounding_narrows_and_protrudes():
    for name in ("pucker", "funnel"):
        field = moved(name)
        assert field[61, 0] > 0.08
        assert field[291, 0] < -0.08
        assert field[[0, 17, 61, 291], 2].max() < -0.04
    assert np.abs(gap(SPACE.mean[:468] + moved("pucker"), top.UPPER_LIP_INNER, top.LOWER_LIP_INNER)).max() < 0.01
    assert gap(SPACE.mean[:468] + moved("funnel"), top.UPPER_LIP_INNER, top.LOWER_LIP_INNER).max() > 0.08


def test_pressing_thins_the_lips_and_keeps_them_shut():
    pressed = SPACE.mean[:468] + moved("press")
    thickness = [p[17, 1] - p[0, 1] for p in (SPACE.mean, pressed)]
    assert thickness[1] < 0.8 * thickness[0]
    assert gap(pressed, top.UPPER_LIP_INNER, top.LOWER_LIP_INNER).max() < 0.005


def test_eyes_blink_one_by_one():
    closed = SPACE.mean[:468] + moved("blink_R")
    assert np.abs(gap(closed, top.RIGHT_EYE_UPPER, top.RIGHT_EYE_LOWER)).max() < 0.01
    assert gap(closed, top.LEFT_EYE_UPPER, top.LEFT_EYE_LOWER).max() > 0.08
    upper, lower = moved("blink_R")[159, 1], moved("blink_R")[145, 1]
    assert upper > 3 * -lower > 0


def test_68_landmarks_follow_the_face():
    points = SPACE.ibug(SPACE.mean)
    order = np.array(
        [
            *range(16, -1, -1),
            *range(26, 16, -1),
            27,
            28,
            29,
            30,
            *range(35, 30, -1),
            45,
            44,
            43,
            42,
            47,
            46,
            39,
            38,
            37,
            36,
            41,
            40,
            *range(54, 47, -1),
            *range(59, 54, -1),
            *range(64, 59, -1),
            67,
            66,
            65,
        ]
    )
    assert np.abs(points[order] * (-1, 1, 1) - points).max() < 1e-5
    assert (np.diff(points[:17, 0]) > 0).all()
    assert points[8, 1] == points[:, 1].max()
    steps = np.linalg.norm(np.diff(points[:17], axis=0), axis=1)
    assert steps.max() < 1.3 * steps.min()
    assert (np.diff(points[27:31, 1]) > 0).all()  # down the nose
    assert points[17:27, 1].max() < points[36:48, 1].min()  # brows above eyes
    assert points[51, 1] < points[62, 1] <= points[66, 1] < points[57, 1]


def test_the_card_describes_this_file():
    assert hashlib.sha256(TABLES.read_bytes()).hexdigest() in TABLES.with_suffix(".card.md").read_text()
    assert TABLES.stat().st_size < 3_000_000


def test_unknown_movement_names_the_known_ones():
    with pytest.raises(KeyError, match="jaw_open"):
        SPACE.direction("jaw_opne")
