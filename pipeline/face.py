"""The face of a portrait: found, checked, chosen among several, turned upright, followed through a video.

Backends: `mediapipe` (its networks come with it) and `face_alignment` (68 landmarks; the user brings its weights).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from models.controls import FaceChoice
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit
from pipeline.errors import FaceError, SetupError
from pipeline.person import segment_person

__all__ = ["Face", "FaceFinder", "segment_person", "upright"]

SMALLEST_PX = 16.0  # between the outer eye corners: with less, the mouth is a few pixels
TILTED_DEG = 60  # a head tilted further is a picture lying on its side
PROFILE_DEG = 35  # beyond, one eye and half of the mouth are guesses
UNSURE = 2.0  # doubt from which a face is reported as uncertain
SEARCHES = ((0, (1, 2)), (0, (4,)), (2, (1, 2)), (1, (1, 2)), (3, (1, 2)))  # (quarter turns, tiles), until one finds

NO_FACE_HINT = "use a picture of one person looking at the camera, the face at least 64 px wide and not covered"


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Args:
        fit: the open space fitted to the face's points; they are in pixels of the picture.
        score: the detector's confidence, 0..1.
        doubt: of the face being a human one, seen well: about 1 is usual, from 2 on something is odd.
        picture_px: width and height of the picture.
        turns: quarter turns counter-clockwise that bring the head upright.
        detected68: iBUG landmarks, pixels, shape (68, 2), of a backend that detects these; else None.
    """

    fit: FaceFit
    score: float
    doubt: float
    picture_px: tuple[int, int]
    turns: int = 0
    detected68: np.ndarray | None = None

    @property
    def landmarks(self) -> np.ndarray:
        """Points in pixels, shape (478, 3); depth in the same scale, negative towards the viewer."""
        return self.fit.landmarks

    @property
    def landmarks68(self) -> np.ndarray:
        """iBUG landmarks in pixels, shape (68, 2) as detected, or (68, 3) out of `landmarks`."""
        return OpenSpace.load().ibug(self.landmarks) if self.detected68 is None else self.detected68

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) around the landmarks, pixels."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def size_px(self) -> float:
        """Distance of the outer eye corners, as if seen from the front."""
        return self.fit.scale_px

    @property
    def roll_deg(self) -> float:
        """Tilt of the head in the picture, clockwise, -180..180."""
        return float(np.degrees(self.fit.pose[2]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Any of "profile view", "uncertain face"."""
        profile = abs(np.degrees(self.fit.pose[1])) > PROFILE_DEG
        return ("profile view",) * profile + ("uncertain face",) * (self.doubt > UNSURE)


class Backend(Protocol):
    """What finds faces in RGB pictures."""

    def find(self, image: np.ndarray, tiles: tuple[int, ...]) -> list[Face]:
        """Faces, looking at n x n overlapping tiles for each n of `tiles`."""
        ...

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """Points (478, 3) of the largest face for each frame."""
        ...


class FaceFinder:
    """Finds the faces of portraits.

    Args:
        backend: "mediapipe" or "face_alignment".
        weights: folder with the files of the `face_alignment` backend.
        min_size_px: smallest usable distance between the outer eye corners.
    Raises:
        SetupError: the backend's weights are missing.
    """

    def __init__(self, backend: str = "mediapipe", weights: str | None = None, min_size_px: float = SMALLEST_PX):
        self.min_size_px = min_size_px
        self._backend = load_backend(backend, weights)

    def find(self, image: np.ndarray) -> list[Face]:
        """All faces of an RGB picture uint8 (H, W, 3), from left to right; none is an empty list.

        A picture that seems empty, or whose faces are odd, is searched again in smaller tiles, then upside down and
        lying on its sides.

        Raises:
            FaceError: there are faces, but each is too small.
        """
        faces: list[Face] = []
        for turns, tiles in SEARCHES:
            found = [turned(f, -turns) for f in self._backend.find(rotated(image, turns), tiles)]
            # Upside down, a mouth and a chin can pass for eyes and a forehead, but not without doubt.
            if least_doubt(found) < least_doubt(faces):
                faces = found
            if least_doubt(faces) < UNSURE:
                break
        faces = [self._seen_upright(image, f) for f in faces]
        if faces:
            self._check_size(max(faces, key=lambda f: f.size_px))
        return sorted(faces, key=place)

    def choose(self, faces: list[Face], choice: FaceChoice) -> Face:
        """The face that a rule or a number (from the left, starting at 0) asks for.

        Raises:
            FaceError: there is no such face, or it is too small.
        """
        if not faces:
            raise FaceError("there is no face in the picture", NO_FACE_HINT)
        ordered, pick = sorted(faces, key=place), choice.pick
        if isinstance(pick, int):
            if pick >= len(ordered):
                there = "there is one face" if len(ordered) == 1 else f"there are {len(ordered)} faces"
                last = len(ordered) - 1
                raise FaceError(f"{there} in the picture, but face.pick is {pick}", f"use a number from 0 to {last}")
            face = ordered[pick]
        elif pick == "largest":
            face = max(ordered, key=lambda f: f.size_px)
        elif pick == "centre":
            face = min(ordered, key=lambda f: abs(place(f) - f.picture_px[0] / 2))
        else:
            face = ordered[0 if pick == "leftmost" else -1]
        self._check_size(face)
        return face

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """Points (478, 3) in pixels of the largest face for each RGB frame of a video; None where it isn't seen."""
        return self._backend.track(frames)

    def _seen_upright(self, image: np.ndarray, face: Face) -> Face:
        """The same face, looked at the right way up if it lies on its side: landmarks are better then."""
        turns = round(face.roll_deg / 90) % 4 if abs(face.roll_deg) > TILTED_DEG else 0
        if turns == 0:
            return face
        here = turned(face, turns)
        again = self._backend.find(rotated(image, turns), (1, 2))
        near = [f for f in again if np.linalg.norm((f.landmarks - here.landmarks).mean(0)[:2]) < here.size_px]
        best = max(near, key=lambda f: f.score, default=here)
        back = turned(best, -turns)
        return replace(back, turns=turns)

    def _check_size(self, face: Face) -> None:
        if face.size_px < self.min_size_px:
            raise FaceError(
                f"the face is too small: {face.size_px:.0f} px between the outer eye corners, "
                f"{self.min_size_px:g} px are needed",
                "use a larger picture or one taken from nearer",
            )


def load_backend(name: str, weights: str | None) -> Backend:
    """A backend by name. Raises SetupError for an unknown name or missing weights."""
    if name == "mediapipe":
        from pipeline.mediapipe_faces import MediapipeFaces

        return MediapipeFaces()
    if name == "face_alignment":
        from pipeline.fan_faces import FanFaces

        return FanFaces(weights)
    raise SetupError([f"face.backend: unknown backend {name!r}; there are mediapipe and face_alignment"])


def upright(image: np.ndarray, face: Face) -> tuple[np.ndarray, Face]:
    """A picture and its face, both turned by the face's quarter turns; most are returned as they are."""
    return (rotated(image, face.turns), turned(face, face.turns)) if face.turns else (image, face)


def rotated(image: np.ndarray, turns: int) -> np.ndarray:
    """A picture after quarter turns counter-clockwise."""
    return np.ascontiguousarray(np.rot90(image, turns)) if turns % 4 else image


def turned(face: Face, turns: int) -> Face:
    """A face after quarter turns of its picture counter-clockwise; `turns` keeps what the picture got."""
    if turns % 4 == 0:
        return face
    points, sparse, (width, height) = face.landmarks, face.detected68, face.picture_px
    for _ in range(turns % 4):
        x, y, z = points.T
        points = np.stack([y, width - x, z], 1)
        if sparse is not None:
            sparse = np.stack([sparse[:, 1], width - sparse[:, 0]], 1)
        width, height = height, width
    return replace(face, fit=OpenSpace.load().fit(points), picture_px=(width, height), detected68=sparse)


def least_doubt(faces: list[Face]) -> float:
    return min((f.doubt for f in faces), default=float("inf"))


def place(face: Face) -> float:
    """Middle of the face along the picture's width, pixels."""
    return (face.box[0] + face.box[2]) / 2
