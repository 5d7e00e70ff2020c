"""Faces are found where people are, and only there; one is chosen; pictures are turned upright."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageOps

from models.controls import FaceChoice
from models.facespace.open import OpenSpace
from pipeline.errors import FaceError, SetupError
from pipeline.face import Face, FaceFinder, segment_person, turned, upright

ASTRONAUT = skimage.data.astronaut()
EYES = np.array([[195.4, 100.8], [255.7, 104.0]])  # outer corners in that picture, right eye first


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def photo(path) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def standing(x: float, size_px: float) -> Face:
    """A face of the open space, `size_px` between the eyes, at (x, 200) of a 1000 px wide picture."""
    points = OpenSpace.load().mean * size_px + (x, 200, 0)
    return Face(OpenSpace.load().fit(points), score=0.9, doubt=1.0, picture_px=(1000, 400))


def test_a_portrait_has_one_face(finder):
    faces = finder.find(ASTRONAUT)
    assert len(faces) == 1
    face = faces[0]
    assert face.landmarks.shape == (478, 3)
    assert np.abs(face.landmarks[[33, 263], :2] - EYES).max() < 6
    assert face.turns == 0
    assert face.warnings == ()
    x0, y0, x1, y1 = face.box
    assert 150 < x0 < x1 < 290
    assert 50 < y0 < y1 < 220


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_on_its_side_is_turned_upright(finder, turns):
    lying = np.ascontiguousarray(np.rot90(ASTRONAUT, turns))
    faces = finder.find(lying)
    assert len(faces) == 1
    image, face = upright(lying, faces[0])
    assert np.array_equal(image, ASTRONAUT)
    assert np.abs(face.landmarks[[33, 263], :2] - EYES).max() < 6
    assert abs(face.roll_deg) < 15


def test_small_faces_are_found_in_tiles(finder):
    canvas = np.full((1200, 1600, 3), 90, np.uint8)
    small = np.asarray(Image.fromarray(ASTRONAUT).resize((230, 230), Image.Resampling.LANCZOS))
    canvas[700:930, 1200:1430] = small
    faces = finder.find(canvas)
    assert len(faces) == 1
    assert np.abs(faces[0].landmarks[[33, 263], :2] - (EYES * 230 / 512 + (1200, 700))).max() < 4


def test_several_faces_come_from_left_to_right(finder):
    other = np.asarray(Image.fromarray(ASTRONAUT[:300]).resize((360, 210)))
    canvas = np.zeros((512, 900, 3), np.uint8)
    canvas[:, :512] = ASTRONAUT
    canvas[:210, 530:890] = other
    faces = finder.find(canvas)
    assert [f.box[0] < 512 for f in faces] == [True, False]


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_cats_and_cups_are_no_people(finder, name):
    assert finder.find(getattr(skimage.data, name)()) == []


def test_too_small_a_face_says_how_small(finder):
    tiny = np.asarray(Image.fromarray(ASTRONAUT).resize((96, 96), Image.Resampling.LANCZOS))
    with pytest.raises(FaceError, match=r"too small: 1\d px between the outer eye corners, 16 px are needed"):
        finder.find(tiny)


@pytest.mark.parametrize(
    ("pick", "x"), [("largest", 600), ("leftmost", 100), ("rightmost", 900), ("centre", 520), (0, 100), (2, 600)]
)
def test_choice(finder, pick, x):
    faces = [standing(900, 40), standing(600, 80), standing(100, 50), standing(520, 30)]
    chosen = finder.choose(faces, FaceChoice(pick=pick))
    assert chosen.landmarks[:468, 0].mean() == pytest.approx(x, abs=1)


def test_choice_of_a_face_that_is_not_there(finder):
    with pytest.raises(FaceError, match=r"there are 2 faces in the picture, but face.pick is 2.*0 to 1"):
        finder.choose([standing(100, 50), standing(500, 50)], FaceChoice(pick=2))
    with pytest.raises(FaceError, match="no face"):
        finder.choose([], FaceChoice())


def test_choice_of_too_small_a_face(finder):
    with pytest.raises(FaceError, match="10 px"):
        finder.choose([standing(100, 10), standing(500, 50)], FaceChoice(pick="leftmost"))


def test_profiles_and_oddities_are_reported():
    face = standing(100, 50)
    side = replace(face, fit=replace(face.fit, pose=np.array([0, 0.8, 0, 0, 0, 0], np.float32)), doubt=2.4)
    assert side.warnings == ("profile view", "uncertain face")


def test_video_is_followed_and_gaps_are_told(finder):
    frames = [np.roll(ASTRONAUT, 3 * k, axis=1) for k in range(6)]
    frames[3] = np.zeros_like(ASTRONAUT)
    seen = list(finder.track(frames))
    assert [s is None for s in seen] == [False, False, False, True, False, False]
    moves = [s[:468, 0].mean() for s in seen if s is not None]
    assert np.allclose(np.diff(moves), [3, 3, 6, 3], atol=1.5)


def test_matte_holds_the_person(finder):
    matte = segment_person(ASTRONAUT, finder.find(ASTRONAUT)[0])
    assert matte.shape == ASTRONAUT.shape[:2]
    assert matte.dtype == np.float32
    assert matte.min() >= 0
    assert matte.max() <= 1
    assert matte[80:170, 200:250].min() > 0.9  # the face
    assert matte[:150, 440:].max() < 0.1  # the shuttle in the corner


def test_unknown_backend():
    with pytest.raises(SetupError, match=r"face\.backend"):
        FaceFinder("dlib")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(SetupError, match=r"s3fd-619a316812.pth is not in .*\n.*2DFAN4-11f355bf06.pth.tar"):
        FaceFinder("face_alignment", str(tmp_path))


def test_damaged_weights_are_named(tmp_path):
    for name in ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar"):
        (tmp_path / name).write_bytes(b"not a network")
    with pytest.raises(SetupError, match="can't be read"):
        FaceFinder("face_alignment", str(tmp_path))


class DrawnFan:
    """Stands in for face_alignment's networks: knows where the face is."""

    def __init__(self, points: np.ndarray):
        self.points = points
        self.face_detector = self

    def detect_from_image(self, image):
        return [np.array([100, 100, 300, 300, 0.95])]

    def get_landmarks_from_image(self, image, detected_faces):
        return [self.points - 0.5]


def test_68_landmarks_give_a_whole_face(tmp_path, monkeypatch):
    space = OpenSpace.load()
    points = space.mean * 60 + (200, 210, 0)
    for name in ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar"):
        (tmp_path / name).touch()
    monkeypatch.setattr("pipeline.fan_faces.load_network", lambda *_: DrawnFan(space.ibug(points)[:, :2]))
    finder = FaceFinder("face_alignment", str(tmp_path))
    image = np.zeros((400, 400, 3), np.uint8)
    face = finder.choose(finder.find(image), FaceChoice())
    assert np.abs((face.landmarks - points)[:468, :2]).mean() < 2
    assert np.allclose(face.landmarks68, space.ibug(points)[:, :2]), "these are kept as they were detected"
    aside = turned(face, 1)
    assert np.abs(aside.landmarks68 - space.ibug(aside.landmarks)[:, :2]).mean() < 2
    assert next(finder.track([image])) is not None


def test_nearly_all_portraits_have_a_face(finder, shared_data):
    paths = sorted((shared_data / "portraits").glob("*"))[::6]
    assert all(len(finder.find(photo(p))) >= 1 for p in paths)


@pytest.mark.parametrize(
    "name", ["img_noface_dogs.jpg", "img_dog_face.jpg", "img_noface_landscape.jpg", "img_noise.jpg", "img_flat.png"]
)
def test_pictures_without_people(finder, shared_data, name):
    assert finder.find(photo(shared_data / "hostile" / name)) == []


@pytest.mark.parametrize(
    ("name", "count"), [("img_many_faces_group.jpg", 6), ("img_two_faces_couple.jpg", 2), ("img_profile_left.jpeg", 1)]
)
def test_pictures_with_people(finder, shared_data, name, count):
    assert len(finder.find(photo(shared_data / "hostile" / name))) == count
