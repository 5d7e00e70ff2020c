"""The face square of SadTalker's crop."""

import numpy as np

from pipeline.ffhq import face_square


def landmarks(eyes: float, mouth: float, centre: tuple[float, float]) -> np.ndarray:
    """Eyes `eyes` pixels apart, the mouth `mouth` below them; the point between the eyes at `centre`."""
    points = np.tile(np.asarray(centre, float), (68, 1))
    points[36:42] -= [eyes / 2, 0]
    points[42:48] += [eyes / 2, 0]
    points[48:68] += [0, mouth]
    return points


def test_square_is_spanned_by_eyes_and_mouth():
    square = face_square((1000, 800), landmarks(100, 120, (500, 300)))
    # half the side: the larger of 2 * 100 and 1.8 * 120 = 216; the centre 12 below the eyes; the border 43
    assert square.size == (1000, 800)
    assert square.crop == (284 - 43, 96 - 43, 716 + 43, 528 + 43)
    assert np.allclose(square.inner, (43.5, 43.5, 475.5, 475.5))


def test_square_of_a_face_at_the_border_stays_inside_its_crop():
    points = landmarks(100, 120, (60, 700))
    right, official = face_square((1000, 800), points), face_square((1000, 800), points, official=True)
    x0, y0, x1, y1 = right.crop
    assert (x0, y1) == (0, 800) and right.crop == official.crop
    assert right.inner[0] == 0 and right.inner[3] == y1 - y0
    assert official.inner[3] > right.inner[3]  # the reference measures against the picture's width
    assert right.inner[2] <= x1 - x0


def test_a_huge_face_is_shrunk_first():
    square = face_square((6000, 5000), landmarks(1000, 1200, (3000, 2000)))
    assert square.size == (1500, 1250)  # side 4320: by 4
    assert square.crop[2] - square.crop[0] <= 1080 + 2 * 108 + 2
