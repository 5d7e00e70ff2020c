"""Which part of a picture a clip shows, and how frames get back into it.

python -m pytest tests/pipeline/test_framing.py
"""

import numpy as np
import pytest

from models.facespace.topology import OVAL
from models.interfaces import FaceFit
from pipeline.framing import LONGEST_FULL, plan


def face_at(x: float, y: float, size: float) -> FaceFit:
    """A face whose outline is an ellipse of `size` pixels height around (x, y)."""
    points = np.zeros((478, 3), np.float32)
    angle = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    points[list(OVAL), :2] = np.column_stack([x + 0.38 * size * np.sin(angle), y - 0.5 * size * np.cos(angle)])
    zeros = np.zeros(80, np.float32)
    return FaceFit(
        "open", points, zeros, zeros[:64], zeros[:6], zeros[:2], size / 1.9, np.array([x, y], np.float32), 0.0
    )


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:height, :width]
    return np.ascontiguousarray(image), np.ones((height, width), np.float32)


@pytest.mark.parametrize("shape", [(1000, 800), (300, 1400), (1400, 300), (251, 257), (90, 110)])
@pytest.mark.parametrize("mode", ["crop", "resize", "full"])
def test_sizes_are_even_and_views_lie_inside_their_image(shape: tuple[int, int], mode: str):
    face = face_at(shape[1] * 0.5, shape[0] * 0.4, min(shape) * 0.5)
    framing = plan(shape, face, mode, 256)
    image, matte = picture(*shape)
    portrait = framing.portrait(image, matte)
    x, y, width, height = portrait.view
    assert not any(n % 2 for n in (width, height, *framing.size))
    assert 0 <= x <= x + width <= portrait.image.shape[1]
    assert 0 <= y <= y + height <= portrait.image.shape[0]
    assert portrait.matte.shape == portrait.image.shape[:2]
    assert portrait.matte.dtype == np.float32
    x0, y0, x1, y1 = framing.box
    assert -1e-6 <= x0 < x1 <= shape[1] + 1e-6
    assert -1e-6 <= y0 < y1 <= shape[0] + 1e-6


def test_a_crop_shows_head_and_shoulders_in_a_square():
    framing = plan((2000, 2000), face_at(900, 800, 400), "crop", 512)
    assert framing.size == (512, 512)
    moved = framing.move(face_at(900, 800, 400))
    outline = moved.landmarks[list(OVAL), :2] - framing.view[:2]
    height = np.ptp(outline[:, 1])
    assert 0.4 < height / 512 < 0.55
    assert outline[:, 1].min() > 0.2 * 512
    assert np.mean([outline[:, 0].min(), outline[:, 0].max()]) == pytest.approx(256, abs=2)


def test_a_crop_never_leaves_the_picture():
    framing = plan((400, 300), face_at(60, 80, 200), "crop", 256)
    x0, y0, x1, _y1 = framing.box
    assert (x0, y0) == (0, 0)
    assert (x1 - x0) <= 300 + 1e-6
    assert framing.size == (256, 256)


def test_a_crop_keeps_a_margin_where_the_picture_goes_on():
    framing = plan((2000, 2000), face_at(1000, 900, 300), "crop", 256)
    x, _y, width, _height = framing.view
    assert x > 30
    assert framing.image_size[0] - x - width > 30


def test_points_move_with_their_pixels():
    image, matte = picture(600, 500)
    image[:] = 0
    image[300:304, 200:204] = 255  # centre at 202, 302
    face = face_at(230, 280, 200)
    face.landmarks[0, :2] = (202, 302)
    for mode in ("crop", "resize", "full"):
        framing = plan((600, 500), face, mode, 256)
        shown = framing.portrait(image, matte).image.astype(float).sum(2)
        rows, columns = np.indices(shown.shape) + 0.5
        centre = (shown * columns).sum() / shown.sum(), (shown * rows).sum() / shown.sum()
        assert framing.move(face).landmarks[0, :2] == pytest.approx(centre, abs=0.15)


def test_resize_keeps_the_whole_picture_and_its_proportions():
    framing = plan((600, 1000), face_at(500, 300, 200), "resize", 512)
    assert framing.size == (512, 306) or framing.size == (512, 308)
    assert framing.scale == pytest.approx(0.512)


def test_full_keeps_pixels_outside_the_head_box():
    shape = (1000, 1500)
    framing = plan(shape, face_at(500, 400, 180), "full", 256)
    image, matte = picture(*shape)
    portrait = framing.portrait(image, matte)
    backdrop = framing.backdrop(image)
    assert backdrop is not None
    assert (backdrop.picture == image).all()
    frames = np.stack([portrait.image, np.zeros_like(portrait.image)])
    finished = framing.finish(frames, backdrop)
    assert finished.shape == (2, 1000, 1500, 3)
    assert (finished[0] == image).all()
    x0, y0, x1, y1 = (int(v) for v in framing.box)
    outside = np.ones(shape, bool)
    outside[y0:y1, x0:x1] = False
    assert outside.sum() > 0.3 * outside.size
    assert (finished[1][outside] == image[outside]).all()
    assert (finished[1][400, 500] == 0).all()


def test_full_bounds_huge_pictures():
    framing = plan((4000, 6001), face_at(3000, 2000, 900), "full", 256)
    assert max(framing.size) == LONGEST_FULL
    assert not framing.size[0] % 2 and not framing.size[1] % 2


def test_frames_of_another_size_are_scaled_into_the_view():
    framing = plan((800, 800), face_at(400, 350, 200), "full", 256)
    backdrop = framing.backdrop(np.zeros((800, 800, 3), np.uint8))
    finished = framing.finish(np.full((1, 256, 256, 3), 200, np.uint8), backdrop)
    assert (finished[0, 350, 400] == 200).all()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="crop, extcrop, resize, full or extfull"):
        plan((100, 100), face_at(50, 50, 40), "zoom", 256)  # type: ignore[arg-type]
