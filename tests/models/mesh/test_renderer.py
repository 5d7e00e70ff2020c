"""Frames of the mesh renderer.

python -m pytest tests/models/mesh/test_renderer.py
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from models.interfaces import Motion, Portrait
from models.mesh import warp
from models.mesh.matte import separate
from models.mesh.renderer import MeshRenderer
from tests.models.mesh.drawn_face import DrawnFace, draw_face


def textured(drawn: DrawnFace, seed: int = 0) -> Portrait:
    """The drawn face before a busy wall, with a matte around it."""
    rng = np.random.default_rng(seed)
    image = drawn.portrait.image.astype(np.float32)
    noise = cv2.GaussianBlur(rng.normal(0, 60, image.shape).astype(np.float32), (0, 0), 1.5)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    grid = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    radius = np.hypot((grid[1] - 128) / 100, (grid[0] - 128) / 118)
    return Portrait(image, drawn.portrait.view, np.clip((1 - radius) * 20 + 0.5, 0, 1).astype(np.float32))


def motion_of(drawn: DrawnFace, changes: list[tuple[float, float, float]]) -> Motion:
    """Frames with pitch, yaw, roll in degrees relative to the photo."""
    pose = np.tile(drawn.face.pose, (len(changes), 1))
    pose[:, :3] += np.radians(np.array(changes))
    rows = len(changes)
    return Motion("open", np.tile(drawn.face.expression, (rows, 1)), pose, np.tile(drawn.face.gaze, (rows, 1)))


def render(portrait: Portrait, drawn: DrawnFace, motion: Motion, device: str = "cpu") -> np.ndarray:
    renderer = MeshRenderer(device)
    prepared = renderer.prepare(portrait, drawn.face)
    return np.concatenate(list(renderer.frames(prepared, motion, 0, len(motion))))


def decibel(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.mark.parametrize("jaw", [0.0, 0.6])
def test_the_photo_s_own_coefficients_return_the_photo(jaw: float):
    drawn = draw_face(jaw)
    portrait = textured(drawn)
    frame = render(portrait, drawn, motion_of(drawn, [(0, 0, 0)]))[0]
    assert np.abs(frame.astype(int) - portrait.image).max() <= 1


def test_a_view_shows_its_part_of_the_picture():
    drawn = draw_face()
    whole = textured(drawn)
    part = replace(whole, view=(40, 20, 160, 200))
    motion = motion_of(drawn, [(0, 0, 0), (6, 12, -5)])
    frames = render(whole, drawn, motion)[:, 20:220, 40:200]
    shown = render(part, drawn, motion)
    assert shown.shape == (2, 200, 160, 3)
    assert np.abs(frames.astype(int) - shown).max() <= 1


def test_what_is_far_from_the_head_does_not_change():
    drawn = draw_face()
    canvas = np.pad(textured(drawn).image, ((200, 200), (200, 200), (0, 0)), mode="reflect")
    matte = np.pad(textured(drawn).matte, 200)
    portrait = Portrait(canvas, (0, 0, 656, 656), matte)
    face = drawn.face.moved(1.0, (-200.0, -200.0))
    renderer = MeshRenderer()
    motion = motion_of(drawn, [(8, 15, 10)])
    frame = np.concatenate(list(renderer.frames(renderer.prepare(portrait, face), motion, 0, 1)))[0]
    border = np.ones((656, 656), bool)
    border[8:-8, 8:-8] = False
    assert (frame[border] == canvas[border]).all()
    assert (frame != canvas).mean() > 0.05


def test_frames_do_not_depend_on_where_a_stretch_starts():
    drawn = draw_face()
    portrait = textured(drawn)
    renderer = MeshRenderer()
    prepared = renderer.prepare(portrait, drawn.face)
    motion = motion_of(drawn, [(i, -i, i / 2) for i in range(11)])
    whole = np.concatenate(list(renderer.frames(prepared, motion, 0, 11)))
    parts = [np.concatenate(list(renderer.frames(prepared, motion, a, b))) for a, b in ((0, 3), (3, 10), (10, 11))]
    assert (np.concatenate(parts) == whole).all()


def test_frames_come_in_batches_that_do_not_grow_with_the_clip():
    drawn = draw_face()
    renderer = MeshRenderer()
    prepared = renderer.prepare(textured(drawn), drawn.face)
    sizes = [len(batch) for batch in renderer.frames(prepared, motion_of(drawn, [(0, 1, 0)] * 20), 0, 20)]
    assert sum(sizes) == 20
    assert max(sizes) <= 8


def test_places_that_cannot_meet_the_person_are_known_exactly():
    person = np.zeros((12, 10, 4), np.float32)
    person[0, 0] = person[5, 4] = person[11, 9] = (90, 60, 30, 120)
    near = warp.near_person(person)
    for row, column in np.ndindex(12, 10):
        read = warp.sample(person, np.float32(column + 0.5), np.float32(row + 0.5))
        assert any(value != 0 for value in read) == bool(near[row, column])


def test_torch_draws_the_same_frames():
    pytest.importorskip("torch")
    drawn = draw_face(0.4)
    portrait = textured(drawn)
    motion = motion_of(drawn, [(0, 0, 0), (5, 14, -6), (-9, -15, 8)])
    for compiled, batched in zip(render(portrait, drawn, motion), render(portrait, drawn, motion, "cpu:0")):
        assert decibel(compiled, batched) > 45


def test_the_wall_behind_stays_when_the_head_moves():
    drawn = draw_face()
    portrait = textured(drawn)
    frame = render(portrait, drawn, motion_of(drawn, [(0, 14, 0)]))[0]
    wall = cv2.erode((portrait.matte == 0).astype(np.uint8), np.ones((61, 61))) > 0
    assert wall.sum() > 100
    assert (frame[wall] == portrait.image[wall]).all()


def test_layers_add_up_to_the_photo():
    drawn = draw_face()
    portrait = textured(drawn)
    outline = drawn.head.source.xy[468:540]
    layers = separate(portrait.image, portrait.matte, outline, 100.0)
    share = layers.person[..., 3:] / 255
    total = layers.person[..., :3] + (1 - share) * layers.background[..., :3] + layers.remnant[..., :3]
    assert total == pytest.approx(portrait.image.astype(np.float32), abs=0.01)


def test_a_soft_matte_over_plain_wall_does_not_carry_the_wall_along():
    image = np.full((200, 200, 3), 230, np.uint8)
    cv2.circle(image, (100, 100), 50, (120, 70, 50), -1)
    matte = np.zeros((200, 200), np.float32)
    cv2.circle(matte, (100, 100), 50, (1.0,), -1)
    matte[60:140, 150:180] = 0.5  # the segmentation took a piece of wall for a half of someone
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = np.column_stack([100 + 40 * np.cos(angle), 100 + 40 * np.sin(angle)])
    layers = separate(image, matte, outline, 60.0)
    assert layers.person[80:120, 160:175, 3].max() < 40
    assert layers.person[100, 100, 3] == 255


def test_a_sharp_picture_stays_sharp_when_it_moves():
    drawn = draw_face()
    portrait = textured(drawn)
    frame = render(portrait, drawn, motion_of(drawn, [(0, 4, 3)]))[0]
    inner = np.s_[90:170, 90:170]

    def detail(image: np.ndarray) -> float:
        return float(cv2.Laplacian(cv2.cvtColor(image[inner], cv2.COLOR_RGB2GRAY), cv2.CV_64F).std())

    assert detail(frame) > 0.8 * detail(portrait.image)
