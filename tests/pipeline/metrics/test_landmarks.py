"""Distances of landmarks and gazes by hand."""

import numpy as np
import pytest

from pipeline.metrics.gaze import angular_error, direction
from pipeline.metrics.landmarks import (
    align_lengths,
    coefficient_mouth_distance,
    face_distance,
    mouth_distance,
    relative_distance,
    velocity_distance,
)

AWAY = np.array([30.0, -12.0])


@pytest.fixture
def face():
    return np.random.default_rng(1).uniform(0, 256, (5, 68, 2))


def test_equal_faces_and_moved_faces_are_perfect(face):
    for other in (face, face + AWAY):
        assert face_distance(other, face) == pytest.approx(np.zeros(5), abs=1e-12)
        assert mouth_distance(other, face) == pytest.approx(np.zeros(5), abs=1e-12)
    assert velocity_distance(face + AWAY, face) == pytest.approx(np.zeros(4), abs=1e-12)


def test_one_moved_point_by_hand(face):
    other = face.copy()
    other[:, 60] += (3, 4)
    # the point itself is off by 5 less its share of the mean, the others by their share
    assert face_distance(other, face) == pytest.approx(np.full(5, (67 * 5 / 68 + 5 * 67 / 68) / 68))
    assert mouth_distance(other, face) == pytest.approx(np.full(5, 2 * 19 * 5 / 20 / 20))
    assert mouth_distance(other, face, "l1") == pytest.approx(np.full(5, 2 * 19 * 7 / 20 / 40))
    assert coefficient_mouth_distance(other, face) == pytest.approx(np.full(5, 5 / 20))
    other = face.copy()
    other[:, 30] += (3, 4)
    assert mouth_distance(other, face) == pytest.approx(np.zeros(5), abs=1e-12)


def test_scaled_face_by_the_definition(face):
    centred = face - face.mean(1, keepdims=True)
    expected = 0.1 * np.linalg.norm(centred, axis=-1).mean(1)
    assert face_distance(face * 1.1, face) == pytest.approx(expected)
    corners = np.linalg.norm(face[:, 36] - face[:, 45], axis=-1)
    assert relative_distance(expected, face) == pytest.approx(100 * expected / corners)


def test_missing_faces_are_nan(face):
    other = face.copy()
    other[2] = np.nan
    assert np.isnan(face_distance(other, face)).tolist() == [False, False, True, False, False]


def test_unknown_norm_is_refused(face):
    with pytest.raises(ValueError, match="l3"):
        face_distance(face, face, "l3")


def test_lengths_meet_by_linear_mapping():
    a, b = align_lengths(np.arange(5), np.arange(10))
    assert a.tolist() == [0, 1, 2, 3, 4]
    assert b.tolist() == [0, 2, 4, 7, 9]


def test_gaze_angles():
    ahead = np.zeros((3, 2))
    assert angular_error(ahead, ahead) == pytest.approx(np.zeros(3))
    assert angular_error(np.array([[np.radians(30), 0.0], [0.0, np.radians(-20)]]), np.zeros(2)) == pytest.approx(
        [30, 20]
    )
    a, b = np.array([[0.3, -0.2]]), np.array([[-0.1, 0.25]])
    by_cosine = np.degrees(np.arccos((direction(a) * direction(b)).sum(-1)))
    assert angular_error(a, b) == pytest.approx(by_cosine, rel=1e-9)
