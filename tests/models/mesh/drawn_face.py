"""A portrait drawn with polygons on the mean face: known colours at known places, no camera and no detector."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, FaceFit, Portrait
from models.mesh.geometry import Head
from models.mesh.patches import Patch, composite

SIZE = 256
SKIN, LIPS, WHITE, IRIS, TEETH = (205, 160, 140), (170, 80, 80), (225, 222, 218), (60, 90, 150), (222, 214, 200)


@dataclass(frozen=True)
class DrawnFace:
    """A drawn portrait, its fit and its head."""

    portrait: Portrait
    face: FaceFit
    head: Head


@cache
def draw_face(jaw: float = 0.0, is_grey: bool = False, inside: tuple[int, int, int] = TEETH) -> DrawnFace:
    """The mean face with its jaw lowered (1 = as far as it goes), teeth or another colour showing when it is open."""
    space = OpenSpace.load()
    expression = (jaw * space.direction("jaw_open")).astype(np.float32)
    blank = FaceFit(
        space="open",
        landmarks=np.zeros((topo.POINTS, 3), np.float32),
        identity=np.zeros(80, np.float32),
        expression=expression if jaw else np.zeros(EXPRESSION, np.float32),
        pose=np.zeros(6, np.float32),
        gaze=np.zeros(2, np.float32),
        scale_px=100.0,
        origin_px=np.array([128.0, 128.0], np.float32),
        residual=0.0,
    )
    points = space.project_points(blank).astype(np.float32)
    face = FaceFit(**{**vars(blank), "landmarks": points})
    image = np.full((SIZE, SIZE, 3), 120, np.uint8)

    def paint(vertices: tuple[int, ...], colour: tuple[int, int, int]) -> None:
        line = np.round((points[list(vertices), :2] - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(image, [line], colour, cv2.LINE_AA, shift=4)

    paint(topo.OVAL, SKIN)
    for upper, lower, iris in (
        (topo.RIGHT_EYE_UPPER, topo.RIGHT_EYE_LOWER, topo.RIGHT_IRIS),
        (topo.LEFT_EYE_UPPER, topo.LEFT_EYE_LOWER, topo.LEFT_IRIS),
    ):
        skin = image.copy()
        paint((*upper, *lower[::-1]), WHITE)
        centre = points[iris[0], :2]
        radius = np.linalg.norm(points[list(iris[1:]), :2] - centre, axis=1).mean()
        eye = image.copy()
        at = tuple(int(v) for v in np.round((centre - 0.5) * 16))
        cv2.circle(eye, at, int(radius * 16), IRIS, -1, cv2.LINE_AA, shift=4)
        opened = (image != skin).any(-1)
        image[opened] = eye[opened]
        line = np.round((points[list(upper), :2] - 0.5) * 16).astype(np.int32)
        cv2.polylines(image, [line], False, (40, 30, 30), 2, cv2.LINE_AA, shift=4)
    paint((*topo.UPPER_LIP_OUTER, *topo.UPPER_LIP_INNER[::-1]), LIPS)
    paint((*topo.LOWER_LIP_OUTER, *topo.LOWER_LIP_INNER[::-1]), LIPS)
    if jaw:
        paint((*topo.UPPER_LIP_INNER, *topo.LOWER_LIP_INNER[::-1]), inside)
    if is_grey:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    portrait = Portrait(image, (0, 0, SIZE, SIZE), np.ones((SIZE, SIZE), np.float32))
    return DrawnFace(portrait, face, Head.build(portrait, face, space))


def lay(image: np.ndarray, *patches: Patch) -> np.ndarray:
    """A copy of a picture with patches laid over it."""
    canvas = image.copy()
    for patch in patches:
        composite(canvas, patch)
    return canvas
