"""The inside of the mouth: what shows between moving lips."""

import numpy as np
import pytest

from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.mesh import mouth, teeth
from tests.models.mesh.drawn_face import LIPS, TEETH, draw_face, lay

JAW = OpenSpace.load().direction("jaw_open")
DARK = (50, 20, 18)


def show(change, jaw=0.0, is_grey=False):
    """Texture with the mouth of one frame laid over it, the patch, and the frame's mesh."""
    drawn = draw_face(jaw, is_grey)
    assets = mouth.prepare(drawn.head)
    posed = drawn.head.pose(drawn.face.expression + change, drawn.face.pose, drawn.face.gaze)
    patch = mouth.patch(assets, posed)
    return lay(assets.texture, *([patch] if patch else [])), patch, posed


def opening(image, posed, share):
    """Colour between the middles of the lips: share 0 at the upper lip, 1 at the lower one."""
    x, y = posed.xy[13] + share * (posed.xy[14] - posed.xy[13])
    return image[int(y), int(x)].astype(int)


def test_a_shut_photo_with_its_own_expression_draws_nothing():
    assert show(0.0 * JAW)[1] is None


def test_a_shut_photo_is_its_own_texture():
    drawn = draw_face()
    assert mouth.prepare(drawn.head).texture is drawn.head.image


def test_an_open_photo_gets_back_its_own_pixels():
    image, _, _ = show(0.0 * JAW, jaw=0.5)
    np.testing.assert_allclose(image.astype(int), draw_face(0.5).portrait.image, atol=1)


def test_the_texture_of_an_open_photo_has_lips_instead_of_teeth():
    texture, posed = mouth.prepare(draw_face(0.5).head).texture, draw_face(0.5).head.source
    for share in (0.1, 0.5, 0.9):
        assert np.abs(opening(texture, posed, share) - LIPS).max() < 30
    corner = posed.xy[topo.UPPER_LIP_INNER[0]]
    assert np.abs(texture[int(corner[1]), int(corner[0])].astype(int) - TEETH).max() > 40


def test_lips_around_a_dark_mouth_stay_as_they_are():
    changed = []
    for inside in (TEETH, DARK):
        drawn = draw_face(0.5, inside=inside)
        change = np.abs(mouth.prepare(drawn.head).texture.astype(int) - drawn.portrait.image)
        changed.append((change.max(-1) > 30).sum())
    assert changed[0] > 300
    assert changed[1] == 0


def test_a_mouth_that_is_open_and_shows_no_teeth_has_them_behind_its_lip():
    shown, hidden = (mouth.prepare(draw_face(0.3, inside=inside).head) for inside in (TEETH, DARK))
    middle = len(hidden.lips.upper) // 2
    assert hidden.edge[0] < hidden.lips.upper[middle] + 0.02
    assert shown.edge[0] > hidden.edge[0] + 0.02


def test_a_small_gap_is_dark():
    strength, gap = 0.0, 0.0
    while gap < 1.8:
        strength += 0.01
        image, _, posed = show(strength * JAW)
        gap = posed.xy[14, 1] - posed.xy[13, 1]
    assert gap < 3
    assert opening(image, posed, 0.5).mean() < 0.75 * np.mean(LIPS)


def test_a_wide_mouth_shows_teeth_above_dark_above_tongue():
    image, _, posed = show(0.8 * JAW)
    column = np.array([opening(image, posed, share) for share in np.linspace(0.05, 0.95, 30)])
    light = column.mean(-1)
    assert light[:10].max() > 1.6 * light[10:20].min()
    red = column[-8:, 0] - column[-8:, 1]
    assert red.max() > 8, "the tongue is reddish"
    assert light.max() < np.mean(TEETH) + 15


def test_own_teeth_stay_with_the_skull_when_the_jaw_moves():
    image, _, posed = show(0.4 * JAW, jaw=0.4)
    upper = opening(image, posed, 0.2)
    assert np.abs(upper - TEETH).max() < 60


def test_closing_an_open_photo_leaves_no_teeth():
    drawn = draw_face(0.5)
    _, patch, posed = show(OpenSpace.load().closing(drawn.face), jaw=0.5)
    assert patch is not None
    box = posed.xy[list(topo.UPPER_LIP_INNER)]
    rows = slice(int(box[:, 1].min()) - 2, int(box[:, 1].max()) + 3)
    columns = slice(int(box[2:-2, 0].min()), int(box[2:-2, 0].max()))
    strip = patch.rgba[rows.start - patch.y : rows.stop - patch.y, columns.start - patch.x : columns.stop - patch.x]
    covered = strip[strip[..., 3] > 0.6]
    if len(covered):
        assert (covered[:, :3].mean(-1) / covered[:, 3]).max() < 0.8 * np.mean(TEETH)


@pytest.mark.parametrize("jaw", [0.0, 0.5])
def test_grey_photos_stay_grey(jaw):
    image, _, _ = show(0.7 * JAW, jaw=jaw, is_grey=True)
    assert np.ptp(image.astype(int), axis=-1).max() <= 2


def test_the_edge_of_the_opening_is_antialiased():
    _, patch, _ = show(0.6 * JAW)
    assert patch is not None
    alpha = patch.rgba[..., 3]
    assert ((alpha > 0.1) & (alpha < 0.9)).sum() > 20
    assert alpha.max() > 0.99


def test_crossed_lips_show_nothing():
    space = OpenSpace.load()
    _, patch, _ = show(space.direction("press") - 0.2 * JAW)
    assert patch is None or patch.rgba[..., 3].max() < 0.6


def test_rows_of_teeth_are_symmetric_and_darken_sideways():
    for row in teeth.tables():
        np.testing.assert_allclose(row, row[:, ::-1], atol=1e-6)
        light = (row[..., 0] * row[..., 1]).max(0)
        assert light[teeth.WIDTH // 2 + 20] > 1.5 * light[teeth.WIDTH - 25]
