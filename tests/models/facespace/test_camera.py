"""Signs and formula of the camera, as `models.interfaces` promises them."""

import numpy as np
import pytest

from models.facespace import camera
from models.facespace import topology as top
from models.facespace.open import OpenSpace

NOSE = np.array([[0, 0, -1.0]])
CROWN = np.array([[0, -1.0, 0]])


@pytest.mark.parametrize(
    ("angles", "point", "axis", "sign"),
    [
        ((0.3, 0, 0), NOSE, 1, 1),  # a positive pitch lowers the nose
        ((0, 0.3, 0), NOSE, 0, -1),  # a positive yaw turns it to the left of the picture
        ((0, 0, 0.3), CROWN, 0, 1),  # a positive roll tilts the head clockwise
    ],
)
def test_signs(angles, point, axis, sign):
    assert np.sign((point @ camera.rotation(np.array(angles)).T)[0, axis]) == sign


def test_order_is_pitch_then_yaw_then_roll():
    one = [camera.rotation(np.eye(3)[k] * a) for k, a in enumerate((0.2, -0.4, 0.6))]
    assert np.allclose(camera.rotation(np.array([0.2, -0.4, 0.6])), one[2] @ one[1] @ one[0])


def test_angles_invert_rotation():
    angles = np.random.default_rng(0).uniform(-1.2, 1.2, (50, 3))
    assert np.allclose(camera.angles(camera.rotation(angles)), angles)


def test_projection_is_the_documented_one_and_inverts():
    rng = np.random.default_rng(1)
    points, pose, origin = rng.normal(size=(7, 3)), rng.uniform(-0.3, 0.3, 6), np.array([120.0, 80.0])
    pixels = camera.project(points, pose, 90.0, origin)
    turned = points @ camera.rotation(pose[:3]).T
    assert np.allclose(pixels[:, :2], origin + 90 * (np.exp(-pose[5]) * turned[:, :2] + pose[3:5]))
    assert np.allclose(camera.unproject(pixels, pose, 90.0, origin), points)


def test_golden_projection():
    space = OpenSpace.load()
    points = camera.project(space.mean[[33, 263]], np.array([0, 0, 0, 0, 0, np.log(2)]), 100.0, np.array([10.0, 20.0]))
    assert points[1, 0] - points[0, 0] == pytest.approx(50, abs=1e-3)  # twice as far away, half as large
    assert points[:, 0].mean() == pytest.approx(10, abs=1e-3)


def test_landmarks68_are_posed_in_model_units():
    space = OpenSpace.load()
    pose = np.array([[0, 0, 0, 0.5, 0, 0], [0, 0.5, 0, 0, 0, 0]])
    points = space.landmarks68(np.zeros(80), np.zeros((2, 64)), pose)
    assert points.shape == (2, 68, 3)
    assert np.allclose(points[0] - space.ibug(space.mean), (0.5, 0, 0), atol=1e-6)
    assert points[1, 30, 0] < points[1, 27, 0]  # the nose's tip went left
    assert space.ibug(space.mean)[30, 1] == pytest.approx(space.mean[top.NOSE_TIP, 1])
