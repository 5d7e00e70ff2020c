"""Meshes that start at the photo and follow the coefficients.

python -m pytest tests/models/mesh/test_geometry.py
"""

from dataclasses import replace

import numpy as np
import pytest

from models.facespace import camera
from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.interfaces import Motion, Portrait
from models.mesh import surround
from models.mesh.geometry import LIMITS, Head, looking_away, soften
from tests.models.mesh.drawn_face import draw_face


def turned(head: Head, pitch: float = 0, yaw: float = 0, roll: float = 0, shift=(0.0, 0.0)) -> np.ndarray:
    """A pose relative to the photo's, degrees and model units."""
    change = np.array([*np.radians([pitch, yaw, roll]), *shift, 0.0])
    return head.face.pose + change


def test_the_photo_s_own_coefficients_land_on_the_detected_points():
    head = draw_face().head
    assert head.source.xy[:468] == pytest.approx(head.face.landmarks[:468, :2], abs=0.01)


def test_a_positive_yaw_turns_the_nose_to_the_left_and_a_positive_pitch_lowers_it():
    head = draw_face().head
    nose = head.source.xy[topo.NOSE_TIP]
    for pose, axis, sign in ((turned(head, yaw=10), 0, -1), (turned(head, pitch=10), 1, 1)):
        moved = head.pose(head.face.expression, pose, head.face.gaze).xy[topo.NOSE_TIP] - nose
        assert sign * moved[axis] > 3


def test_a_shift_moves_the_face_rigidly_and_leaves_the_distance_alone():
    head = draw_face().head
    posed = head.pose(head.face.expression, turned(head, shift=(0.2, -0.1)), head.face.gaze)
    step = posed.xy[:468] - head.source.xy[:468]
    assert step == pytest.approx(np.tile([20.0, -10.0], (468, 1)), abs=0.01)


def test_the_plane_of_a_depth_is_where_points_of_that_depth_are_drawn():
    head = draw_face().head
    posed = head.pose(head.face.expression, turned(head, 5, -10, 8, (0.1, 0.0)), head.face.gaze)
    x, y, z = posed.canonical[topo.CHIN]
    a, b = posed.plane(float(z))
    assert a @ (x, y) + b == pytest.approx(posed.xy[topo.CHIN], abs=0.01)


def test_hair_follows_the_head_and_far_surroundings_stay():
    head = draw_face().head
    posed = head.pose(head.face.expression, turned(head, shift=(0.1, 0.0)), head.face.gaze)
    rings = (posed.xy - head.source.xy)[468:].reshape(-1, surround.RAYS, 2)
    assert rings[4, 0, 0] > 9.5  # above the forehead, one of ten pixels at most is lost
    assert np.abs(rings[-1]).max() < 0.01


def test_the_neck_moves_less_the_lower_it_is():
    head = draw_face().head
    posed = head.pose(head.face.expression, turned(head, shift=(0.2, 0.0)), head.face.gaze)
    below_chin = (posed.xy - head.source.xy)[468:].reshape(-1, surround.RAYS, 2)[:, surround.RAYS // 2, 0]
    assert (np.diff(below_chin) <= 0.01).all()
    assert below_chin[0] > 5 > below_chin[-2]


def head_within_the_picture() -> Head:
    """The drawn face without a person at the picture's edges, where nothing has to be held."""
    drawn = draw_face()
    portrait = Portrait(drawn.portrait.image, drawn.portrait.view, np.zeros_like(drawn.portrait.matte))
    return Head.build(portrait, drawn.face, OpenSpace.load())


def shoulder_steps(head: Head, pose: np.ndarray) -> np.ndarray:
    """How far the points that belong to the torso alone move, pixels (a model unit is 100), shape (k, 2)."""
    around = head.surround
    shoulders = around.torso > 0.999
    assert shoulders.sum() > 3
    posed = head.pose(head.face.expression, pose, head.face.gaze)
    return posed.xy[468 + surround.RAYS :][shoulders] - around.start[shoulders]


def test_shoulders_stay_when_the_head_turns_about_its_neck():
    head = head_within_the_picture()
    for angles in ((10, 0, 0), (0, 15, 0), (0, 0, -8)):
        pose = turned(head, *angles)
        turn = camera.rotation(head.face.pose[:3]) - camera.rotation(pose[:3])
        pose[3:5] += (turn @ surround.SKULL_BASE)[:2]
        assert np.abs(shoulder_steps(head, pose)).max() < 0.1


def test_shoulders_follow_a_wide_sway_and_hardly_a_small_one():
    head = head_within_the_picture()
    for side in (-1, 1):
        wide = side * shoulder_steps(head, turned(head, shift=(side * 0.4, 0.0)))
        small = side * shoulder_steps(head, turned(head, shift=(side * 0.05, 0.0)))
        assert (wide[:, 0] > 0.9 * 40).all()
        assert (small[:, 0] > 0).all()
        assert (small[:, 0] < 0.4 * 5).all()


def test_shoulders_take_a_small_part_in_a_fall():
    head = head_within_the_picture()
    step = shoulder_steps(head, turned(head, shift=(0.0, 0.2)))
    assert step == pytest.approx(np.tile([0.0, surround.LIFT * 20], (len(step), 1)), abs=0.05)


def test_no_triangle_turns_over_within_fifteen_degrees():
    head = draw_face().head
    rings = head.triangles[: len(surround.triangles())]

    def areas(xy: np.ndarray) -> np.ndarray:
        a, b, c = (xy[rings[:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    start = areas(head.source.xy)
    for pose in (
        turned(head, pitch=10),
        turned(head, pitch=-10),
        turned(head, roll=12),
        turned(head, shift=(0.3, 0.2)),
    ):
        posed = areas(head.pose(head.face.expression, pose, head.face.gaze).xy)
        assert (posed * start > 0).all()


def test_a_person_cut_off_by_the_picture_is_not_pulled_away_from_the_edge():
    drawn = draw_face()
    height, width = drawn.portrait.matte.shape

    def top_of_head(matte: np.ndarray) -> float:
        portrait = Portrait(drawn.portrait.image, drawn.portrait.view, matte)
        head = Head.build(portrait, drawn.face, OpenSpace.load())
        step = head.pose(drawn.face.expression, turned(head, shift=(0.0, 0.2)), drawn.face.gaze).xy - head.source.xy
        ring = np.abs(head.source.xy[468::72, 1]).argmin()
        return float(step[468 + 72 * ring, 1])

    assert top_of_head(np.ones((height, width), np.float32)) < 6
    assert top_of_head(np.zeros((height, width), np.float32)) > 15


def test_small_poses_pass_the_limit_and_large_ones_stop_at_it():
    assert soften(np.array([0.1]), np.array([1.0])) == pytest.approx([0.1], rel=1e-6)
    assert np.abs(soften(np.array([-9.0, 9.0]), np.array([1.0, 1.0]))) == pytest.approx([1, 1], abs=1e-3)
    head = draw_face().head
    motion = Motion("open", np.zeros((1, 64)), turned(head, yaw=50)[None], np.zeros((1, 2)))
    assert head.limit(motion).pose[0, 1] == pytest.approx(LIMITS[1], abs=0.01)


def test_the_hidden_side_of_a_half_profile_is_known():
    space = OpenSpace.load()
    face = replace(draw_face().face, pose=np.array([0, np.radians(40), 0, 0, 0, 0], np.float32))
    points = space.project_points(face)[:468]
    away = looking_away(points, space.mean[:468], space.triangles)
    outer = space.mean[space.triangles, 0].mean(1)
    assert away.any()
    assert (outer[away] < 0).mean() > 0.9  # the nose points left: the left cheek is hidden
