"""Frames put back into their picture. Run: pytest tests/models/test_pasting.py"""

import numpy as np
import pytest

from models.pasting import MOST, Pasting

HEIGHT, WIDTH = 200, 300
PLACE = 60, 40, 160, 120
INSIDE = np.s_[40:160, 60:220]


@pytest.fixture
def picture() -> np.ndarray:
    """Noise on a ramp."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 160, WIDTH)[None, :, None] + np.zeros((HEIGHT, WIDTH, 3))
    return (ramp + rng.normal(0, 6, ramp.shape)).astype(np.uint8)


def step_at_edges(made: np.ndarray, picture: np.ndarray) -> float:
    """Largest mean change of the difference to the picture across an edge, levels."""
    apart = made.astype(float) - picture
    left, top, width, height = PLACE
    rows, columns = slice(top, top + height), slice(left, left + width)
    lines = [apart[rows, left : left + 3], apart[rows, left + width - 3 : left + width]]
    lines += [apart[top : top + 3, columns], apart[top + height - 3 : top + height, columns]]
    return max(float(np.abs(line.mean((0, 1))).max()) for line in lines)


def test_the_same_frame_changes_nothing(picture):
    assert (Pasting(picture, PLACE).paste(picture[INSIDE]) == picture).all()


def test_a_tint_vanishes_and_texture_stays(picture):
    frame = (picture[INSIDE] + np.array([12.0, -8.0, 5.0])).clip(0, 255).astype(np.uint8)
    made = Pasting(picture, PLACE).paste(frame)
    assert np.abs(made.astype(int) - picture).max() <= 2


def test_a_shade_that_grows_shows_no_edge(picture):
    shade = np.linspace(-15, 15, 160)[None, :, None]
    made = Pasting(picture, PLACE).paste(np.clip(picture[INSIDE] + shade, 0, 255).astype(np.uint8))
    assert step_at_edges(made, picture) < 1.5


def test_what_is_new_inside_stays_as_it_is(picture):
    frame = picture[INSIDE].copy()
    frame[40:80, 60:100] = (250, 10, 10)
    made = Pasting(picture, PLACE).paste(frame)
    assert (made[80:120, 120:160] == (250, 10, 10)).all()
    outside = np.ones(picture.shape[:2], bool)
    outside[INSIDE] = False
    assert (made[outside] == picture[outside]).all()


def test_what_has_moved_over_an_edge_tints_little(picture):
    frame = picture[INSIDE].copy()
    frame[:, 150:] = 0
    apart = np.abs(Pasting(picture, PLACE).paste(frame)[INSIDE].astype(int) - frame)
    assert apart[:, : 160 // 2].max() <= MOST / 2


def test_at_the_picture_s_border_nothing_fades(picture):
    frame = np.full((HEIGHT, 160, 3), 250, np.uint8)
    made = Pasting(picture, (0, 0, 160, HEIGHT)).paste(frame)
    assert (made[:, 0].astype(int) > 200).all() and (made[[0, -1], 40] > 200).all()
    assert np.abs(made[:, 159].astype(int) - picture[:, 159]).max() <= 12, "but it does inside the picture"


def test_the_whole_picture_is_replaced(picture):
    frame = np.full((HEIGHT // 2, WIDTH // 2, 3), 9, np.uint8)
    assert (Pasting(picture, (0, 0, WIDTH, HEIGHT)).paste(frame) == 9).all()
