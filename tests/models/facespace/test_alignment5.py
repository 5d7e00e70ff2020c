"""The aligned picture of the face regressor, and its poses."""

import numpy as np
import pytest

from models.facespace import alignment5, camera, deep3d
from models.facespace.alignment5 import Alignment, align, fit_camera, flip


def landmarks_of(points: np.ndarray) -> np.ndarray:
    """iBUG landmarks that give five points, shape (68, 2)."""
    landmarks = np.zeros((68, 2))
    for group, point in zip(alignment5.GROUPS, points):
        landmarks[list(group)] = point
    return landmarks


def seen(scale_px: float, centre: tuple[float, float], height: int) -> np.ndarray:
    """Landmarks of the standard face, looked at straight ahead, y down."""
    return flip(landmarks_of(alignment5.STANDARD_FACE[:, :2] * scale_px + centre), height)


def test_camera_is_found_again():
    points = alignment5.STANDARD_FACE @ np.array([[50.0, 5, 3], [-5, 50, 2]]).T + [120, 80]
    centre, scale = fit_camera(points, alignment5.STANDARD_FACE)
    assert np.allclose(centre, [120, 80])
    assert scale == pytest.approx((np.hypot(np.hypot(50, 5), 3) + np.hypot(np.hypot(5, 50), 2)) / 2)


def test_face_comes_to_the_middle_at_the_standard_scale():
    alignment = align((640, 480), seen(40.0, (300, 250), 480))
    assert alignment.scale == pytest.approx(102 / 40)
    moved = alignment.move(seen(40.0, (300, 250), 480))
    assert np.allclose(
        moved[30], alignment5.STANDARD_FACE[2, :2] * 102 + 112, atol=0.6
    )  # sizes are cut to whole pixels


def test_picture_follows_its_landmarks():
    image = np.zeros((480, 640, 3), np.uint8)
    landmarks = seen(40.0, (300, 250), 480)
    x, y = np.round(landmarks[30]).astype(int)
    image[y - 1 : y + 2, x - 1 : x + 2] = 255
    alignment = align((640, 480), landmarks)
    brightest = np.argwhere(alignment.cut(image)[..., 0] > 200).mean(0)[::-1]
    expected = alignment.move(landmarks)[30]
    assert np.abs(brightest - [expected[0], 223 - expected[1]]).max() < 2.5


@pytest.mark.parametrize("centre", [(10, 470), (635, 5), (300, 250)])
def test_black_beyond_the_borders(centre):
    aligned = align((640, 480), seen(40.0, centre, 480)).cut(np.full((480, 640, 3), 200, np.uint8))
    assert aligned.shape == (224, 224, 3) and set(np.unique(aligned)) <= {0, 200}
    assert (aligned == 0).any() == (centre != (300, 250))


def test_small_face_in_a_large_picture_is_not_made_huge(monkeypatch):
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    alignment = Alignment((400, 300), 3.3, np.array([150.0, 120.0]), 224)
    whole = alignment.cut(image).astype(int)
    monkeypatch.setattr(alignment5, "LARGEST", 1000)
    assert np.abs(alignment.cut(image) - whole).max() <= 2


def test_poses_of_the_regressor_there_and_back():
    pose = np.random.default_rng(0).normal(size=(5, 6)) * 0.3
    assert np.allclose(deep3d.to_deep3d(deep3d.from_deep3d(pose)), pose)


def test_both_cameras_see_the_same():
    rng = np.random.default_rng(0)
    points, raw = rng.normal(size=(9, 3)) * [1, 1, 0.001], np.array([0.2, -0.3, 0.1, 0.05, -0.02, 0.4])
    flipped = np.array([1, -1, -1])  # the regressor's world: y up, z towards the viewer
    turned = (points * flipped) @ camera.rotation(raw[:3]).T + raw[3:]
    pixels = turned[:, :2] * 1015 / (10 - raw[5]) * flipped[:2]  # all points at the distance of the origin
    own = camera.project(points[None], deep3d.from_deep3d(raw)[None], 101.5, np.zeros(2))[0, :, :2]
    assert np.abs(own - pixels).max() < 1e-6
