"""Faces by mediapipe: detectors that propose, a landmark network that answers, and checks that doubt both.

The short-range detector looks at 128 x 128 pixels, the full-range one at 192 x 192, so small faces are searched in
tiles. Every proposal is cut out, enlarged and looked at again, straight and mirrored: what the networks don't agree
upon is no face. mediapipe is imported when the first object is made.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from models.facespace import topology as top
from models.facespace.open import OpenSpace
from pipeline.face import Face

PROPOSAL_SCORE = 0.4  # of a detector, to be looked at again
WHOLE_SIZE = 1280  # pixels: what detectors see of a picture; they shrink it further anyway
TILED_FROM = 480  # pixels of the longer side: below, tiles show nothing new
SMALLEST_TILE = 64  # pixels
CROP_MARGIN = 2.0  # side of the cut-out over the longer side of the proposal
CROP_SIZES = (256, 512)  # pixels: cut-outs are enlarged, or shrunk, to between these
WINDOW_MARGIN, WINDOW_SLACK = 2.6, 0.15  # of a tracking window: side over the face's, drift before it is moved
# Doubts about a face add up: straight and mirrored landmarks apart, a shape that the face space can't make (both in
# model units), a low score. People reach 2.7 in bad pictures; cats, dogs and patterns start above 3.
LEAST_SCORE = 0.6
USUAL_APART, USUAL_RESIDUAL, MOST_DOUBT = 0.05, 0.0125, 2.9
BLURRY_PX = 14.0  # between the eyes: landmarks of smaller faces are pixels apart by nature
NOISE = ("absl::InitializeLog", "inference_feedback_manager", "landmark_projection_calculator", "XNNPACK delegate")

BLANK = np.zeros((64, 64, 3), np.uint8)  # networks are loaded, and chatter, at the first picture
_stderr_lock = threading.Lock()


class MediapipeFaces:
    """Finds faces of any size and place; one object per process, usable from several threads, one at a time."""

    def __init__(self):
        self._space = OpenSpace.load()
        with quiet():
            import mediapipe

            solutions = mediapipe.solutions
            self._detectors = [
                solutions.face_detection.FaceDetection(model_selection=k, min_detection_confidence=PROPOSAL_SCORE)
                for k in (0, 1)
            ]
            self._mesh = solutions.face_mesh.FaceMesh(
                static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
            )
            for graph in (*self._detectors, self._mesh):
                graph.process(BLANK)
        self._lock = threading.Lock()
        self._warned = False

    def find(self, image: np.ndarray, tiles: tuple[int, ...]) -> list[Face]:
        """Human faces of an RGB picture, looking at n x n overlapping tiles for each n of `tiles`."""
        faces: list[Face] = []
        for box in self._propose(image, tiles):
            if any(inside(box, f.landmarks) for f in faces):
                continue
            face = self._look(image, box)
            if face is not None and not any(overlap(face.landmarks, f.landmarks) for f in faces):
                faces.append(face)
        return faces

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """Points (478, 3) of the largest face for each RGB frame; None where it isn't seen."""
        track = MediapipeTrack(self)
        try:
            for frame in frames:
                yield track.follow(frame)
        finally:
            track.close()

    def _look(self, image: np.ndarray, box: np.ndarray) -> Face | None:
        """The human face within a box (x, y, side), or None."""
        cut, (scale, x, y) = cut_out(image, box)
        score = max((s for d in self._detectors for s, _ in self._detect(d, cut)), default=0.0)
        straight, mirrored = self._landmarks(cut), self._landmarks(np.ascontiguousarray(cut[:, ::-1]))
        if score < LEAST_SCORE or straight is None or mirrored is None:
            return None
        mirrored = mirrored[self._space.mirror] * (-1, 1, 1) + (cut.shape[1], 0, 0)
        fit = self._space.fit((straight + mirrored) / 2 * scale + (x, y, 0))
        apart = np.linalg.norm((straight - mirrored)[: top.VERTICES, :2], axis=1).mean() * scale / fit.scale_px
        doubt = (fit.residual / USUAL_RESIDUAL) ** 2 + max(0.0, 0.9 - score) / 0.3
        if fit.scale_px > BLURRY_PX:
            doubt += float(apart) / USUAL_APART
        return Face(fit, score, doubt, (image.shape[1], image.shape[0])) if doubt < MOST_DOUBT else None

    def _propose(self, image: np.ndarray, tiles: tuple[int, ...]) -> list[np.ndarray]:
        """Boxes (x, y, side), the surest first."""
        found = []
        for count in tiles:
            for x, y, width, height in tile_grid(image.shape[1], image.shape[0], count):
                tile = image[y : y + height, x : x + width]
                scale = min(1.0, WHOLE_SIZE / max(tile.shape[:2]))
                if scale < 1:
                    tile = cv2.resize(tile, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                for detector in self._detectors:
                    for score, box in self._detect(detector, np.ascontiguousarray(tile)):
                        found.append((score, box / scale + (x, y, 0)))
        return [box for _, box in sorted(found, key=lambda f: -f[0])]

    def _detect(self, detector, image: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """Scores and boxes (x, y, side)."""
        height, width = image.shape[:2]
        with self._lock:
            found = detector.process(image).detections or []
        boxes = []
        for detection in found:
            box = detection.location_data.relative_bounding_box
            side = max(box.width * width, box.height * height)
            middle_x, middle_y = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
            boxes.append((detection.score[0], np.array([middle_x - side / 2, middle_y - side / 2, side])))
        return boxes

    def _landmarks(self, image: np.ndarray) -> np.ndarray | None:
        """Points (478, 3) in pixels of the one face, or None."""
        with self._lock:
            if self._warned:
                return first_face(self._mesh, image)
            # The graph warns once, about the first face it sees.
            with quiet():
                points = first_face(self._mesh, image)
            self._warned = points is not None
            return points


class MediapipeTrack:
    """Landmarks of one face through a video, each frame starting from the last.

    Frames are cut to a window around the face, so that a small face fills what the network sees.
    """

    def __init__(self, faces: MediapipeFaces):
        self._faces = faces
        with quiet():
            import mediapipe

            self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=False, refine_landmarks=True, min_detection_confidence=0.3
            )
            self._mesh.process(BLANK)
        self._window: np.ndarray | None = None

    def close(self) -> None:
        """Free the network; a run over many videos would pile them up."""
        self._mesh.close()

    def follow(self, image: np.ndarray) -> np.ndarray | None:
        """Points (478, 3) of the next RGB frame, or None where no face is seen."""
        if self._window is None:
            found = self._faces.find(image, (1, 2))
            if not found:
                return None
            self._window = window_around(max(found, key=lambda f: f.size_px).landmarks)
        cut, (scale, x, y) = cut_out(image, self._window, margin=1.0)
        points = first_face(self._mesh, cut)
        if points is None:
            self._window = None
            return None
        points = points * scale + (x, y, 0)
        middle = (points[:, :2].min(0) + points[:, :2].max(0)) / 2
        side = self._window[2]
        if np.abs(middle - (self._window[:2] + side / 2)).max() > WINDOW_SLACK * side:
            self._window = window_around(points)
        return points


def first_face(mesh, image: np.ndarray) -> np.ndarray | None:
    """Points (478, 3) in pixels of a landmark graph's one face, or None."""
    height, width = image.shape[:2]
    faces = mesh.process(image).multi_face_landmarks
    if not faces:
        return None
    return np.array([(p.x * width, p.y * height, p.z * width) for p in faces[0].landmark])


def cut_out(image: np.ndarray, box: np.ndarray, margin: float = CROP_MARGIN) -> tuple[np.ndarray, np.ndarray]:
    """A square around a box (x, y, side), resized to within `CROP_SIZES`; outside the picture it is grey.

    Returns:
        The cut-out, and (scale, x, y): a place p in it is scale * p + (x, y) in the picture, pixel centres at 0.5.
    """
    x, y, side = box
    reach = side * margin
    x, y = x + (side - reach) / 2, y + (side - reach) / 2
    size = int(np.clip(reach, *CROP_SIZES))
    scale = reach / size
    x0, y0 = (int(np.clip(v, 0, n - 1)) for v, n in ((x, image.shape[1]), (y, image.shape[0])))
    part = image[y0 : max(y0 + 1, int(y + reach) + 2), x0 : max(x0 + 1, int(x + reach) + 2)]
    shrunk = np.ones(2)
    if scale > 1:  # a shrinking warp would skip pixels
        height, width = part.shape[:2]
        part = cv2.resize(part, (max(1, int(width / scale)), max(1, int(height / scale))), interpolation=cv2.INTER_AREA)
        shrunk = np.array([width / part.shape[1], height / part.shape[0]])
    steps = scale / shrunk
    starts = (scale / 2 + np.array([x - x0, y - y0])) / shrunk - 0.5
    matrix = np.array([[steps[0], 0, starts[0]], [0, steps[1], starts[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(np.ascontiguousarray(part), matrix, (size, size), flags=flags, borderValue=(128, 128, 128))
    return cut, np.array([scale, x, y])


def window_around(points: np.ndarray) -> np.ndarray:
    """A box (x, y, side) about three faces wide."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    side = WINDOW_MARGIN * float((high - low).max())
    return np.array([*((low + high - side) / 2), side])


def tile_grid(width: int, height: int, count: int) -> list[tuple[int, int, int, int]]:
    """Boxes (x, y, width, height): about `count` square tiles along the shorter side, each half over the next."""
    if count == 1:
        return [(0, 0, width, height)]
    side = min(-(-2 * min(width, height) // (count + 1)), width, height)
    if max(width, height) < TILED_FROM or side < SMALLEST_TILE:
        return []
    xs = np.linspace(0, width - side, max(1, -(-2 * (width - side) // side) + 1)).astype(int)
    ys = np.linspace(0, height - side, max(1, -(-2 * (height - side) // side) + 1)).astype(int)
    return [(int(x), int(y), side, side) for y in ys for x in xs]


def inside(box: np.ndarray, points: np.ndarray) -> bool:
    """Whether a proposal (x, y, side) is the face that these points belong to."""
    middle = box[:2] + box[2] / 2
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    return bool((middle > low).all() and (middle < high).all() and box[2] > 0.3 * (high - low).max())


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two sets of points belong to one face: their middles are closer than half the smaller one's size."""
    distance = np.linalg.norm((a - b).mean(0)[:2])
    return bool(distance < 0.5 * min(np.ptp(a[:, :2], 0).max(), np.ptp(b[:, :2], 0).max()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep mediapipe's start-up chatter, which its C++ writes to the process's stderr, from the user.

    Lines that aren't known chatter are written after all.
    """
    with _stderr_lock, tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                if not any(noise in line for noise in NOISE):
                    print(line, file=sys.stderr)
