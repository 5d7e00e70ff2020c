"""Eyes that blink and look around."""

import numpy as np
import pytest

from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.interfaces import Motion
from models.mesh import eyes
from models.mesh.renderer import MeshRenderer
from tests.models.mesh.drawn_face import IRIS, SKIN, WHITE, draw_face


def render(expression=0.0, gaze=(0.0, 0.0), is_grey=False):
    """One frame of the drawn face, and its mesh."""
    drawn = draw_face(is_grey=is_grey)
    face = drawn.face
    gaze = np.asarray(gaze, np.float32)
    expression = (face.expression + expression).astype(np.float32)
    motion = Motion("open", expression[None], face.pose[None], gaze[None])
    renderer = MeshRenderer()
    frames = next(iter(renderer.frames(renderer.prepare(drawn.portrait, face), motion, 0, 1)))
    return frames[0], drawn.head.pose(expression, face.pose, gaze)


def amount_of(image, colour, tolerance=45):
    """Number of pixels near a colour."""
    return int((np.abs(image.astype(int) - colour).max(-1) < tolerance).sum())


def iris_columns(image):
    """Mean column of iris-coloured pixels in the left and in the right half of the picture."""
    blue = (image[..., 2].astype(int) - image[..., 0]) > 40
    columns = np.nonzero(blue)[1]
    return columns[columns < 128].mean(), columns[columns >= 128].mean()


def test_the_photo_s_own_expression_draws_nothing():
    drawn = draw_face()
    posed = drawn.head.pose(drawn.face.expression, drawn.face.pose, drawn.face.gaze)
    assert eyes.patches(eyes.prepare(drawn.head), posed) == []


def test_a_hardly_changed_eye_hardly_changes_the_photo():
    image, _ = render(gaze=(0.001, 0.0))
    assert np.abs(image.astype(int) - draw_face().portrait.image).mean() < 0.1


def test_a_blink_hides_iris_and_white_of_both_eyes():
    blink = OpenSpace.load().blink(draw_face().face)
    photo = draw_face().portrait.image
    image, _ = render(blink.sum(0))
    assert amount_of(image, IRIS) < 0.02 * amount_of(photo, IRIS)
    assert amount_of(image, WHITE, 20) < 0.1 * amount_of(photo, WHITE, 20)


def test_shut_lids_are_skin_with_a_dark_line_along_the_edge():
    image, posed = render(OpenSpace.load().blink(draw_face().face).sum(0))
    top = draw_face().head.source.xy[159]
    edge = posed.xy[159]
    lid = image[int((top[1] + edge[1]) / 2), int(edge[0])]
    assert np.abs(lid.astype(int) - SKIN).max() < 25
    column = image[int(edge[1]) - 3 : int(edge[1]) + 4, int(edge[0])].mean(-1)
    assert column.min() < 0.7 * np.mean(SKIN)


def test_a_wink_leaves_the_other_eye_alone():
    wink = OpenSpace.load().blink(draw_face().face)[0]
    image, _ = render(wink)
    photo = draw_face().portrait.image
    right, left = iris_columns(photo)
    assert amount_of(image[:, :128], IRIS) < 0.02 * amount_of(photo[:, :128], IRIS)
    assert amount_of(image[:, 128:], IRIS) > 0.8 * amount_of(photo[:, 128:], IRIS)
    assert right < 128 < left


@pytest.mark.parametrize("closure", [0.3, 0.5, 0.7])
def test_half_closed_eyes_show_part_of_the_iris(closure):
    image, _ = render(closure * OpenSpace.load().blink(draw_face().face).sum(0))
    shown = amount_of(image, IRIS) / amount_of(draw_face().portrait.image, IRIS)
    assert 0.05 < shown < 0.95


def test_gaze_has_the_signs_of_the_head_rotation():
    straight = iris_columns(draw_face().portrait.image)
    turned = iris_columns(render(gaze=(np.radians(15), 0.0))[0])
    assert all(after < before - 1.5 for before, after in zip(straight, turned))


def test_a_lowered_gaze_shows_white_above_the_iris_and_a_raised_one_below():
    def white_above(angle):
        image, posed = render(gaze=(0.0, np.radians(angle)))
        columns = slice(int(posed.xy[159, 0]) - 2, int(posed.xy[159, 0]) + 3)
        rows = slice(int(posed.xy[159, 1]) + 1, int(posed.xy[145, 1]))
        red = image[rows, columns, 0].astype(float).mean(1)  # the iris is blue
        return red[: len(red) // 2].mean() - red[(len(red) + 1) // 2 :].mean()

    assert white_above(15) > white_above(0.1) + 10 > white_above(-15) + 20


def test_a_turned_iris_leaves_white_behind():
    image, posed = render(gaze=(np.radians(-20), 0.0))
    for upper, lower, iris in zip((159, 386), (145, 374), (topo.RIGHT_IRIS[0], topo.LEFT_IRIS[0])):
        middle = draw_face().face.landmarks[iris, :2]
        radius = 0.5 * np.linalg.norm(posed.xy[upper] - posed.xy[lower])
        behind = image[int(middle[1]), int(middle[0] - 0.9 * radius)]
        assert behind[0] > 1.4 * IRIS[0], "the old place of the iris must be filled with white"


def test_patches_stay_in_step_with_the_head():
    pose = np.array([0.0, 0.0, 0.0, 0.1, 0.0, 0.0], np.float32)  # 10 px to the right
    drawn = draw_face()
    blink = OpenSpace.load().blink(drawn.face).sum(0)
    assets = eyes.prepare(drawn.head)
    still = eyes.patches(assets, drawn.head.pose(drawn.face.expression + blink, drawn.face.pose, drawn.face.gaze))
    moved = eyes.patches(
        assets, drawn.head.pose(drawn.face.expression + blink, drawn.face.pose + pose, drawn.face.gaze)
    )
    for before, after in zip(still, moved):
        assert (after.x - before.x, after.y - before.y) == (10, 0)
        np.testing.assert_allclose(before.rgba, after.rgba, atol=0.5)


def test_grey_photos_stay_grey():
    image, _ = render(OpenSpace.load().blink(draw_face().face).sum(0), gaze=(0.2, 0.0), is_grey=True)
    assert np.ptp(image.astype(int), axis=-1).max() <= 2


def test_patches_are_premultiplied_and_bounded():
    drawn = draw_face()
    posed = drawn.head.pose(drawn.face.expression, drawn.face.pose, np.array([0.3, 0.2]))
    for patch in eyes.patches(eyes.prepare(drawn.head), posed):
        alpha = patch.rgba[..., 3]
        assert patch.rgba.dtype == np.float32
        assert alpha.min() >= 0 and alpha.max() <= 1 + 1e-5
        assert (patch.rgba[..., :3].max(-1) <= 300 * alpha + 1e-3).all()
