"""What ExpNet's training has to know of faces: which part of an expression is lips or lids, and where landmarks are.

The open space names its movements; Deep3DFaceRecon's does not, and its files are the user's.

Legend: E expression.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.articulator.lip_basis import LipBasis
from models.facespace.face_model import FaceModel
from models.facespace.mouth_mesh import MouthMesh
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, IDENTITY, POSE
from models.sadtalker.landmarks import Landmarked
from models.sadtalker.losses import ExpNetWeights
from models.sadtalker.open_face import LID_MOVEMENTS
from pipeline.weights import how_to_get

FACE_MODEL = "face_model"  # in `pipeline.weights.CATALOGUE`
# With the paper's weights the lids, of which a sound says nothing, drown the lips where there is little to learn from.
# The weight of reading is a guess: there was no lip reader to try it with.
OPEN_WEIGHTS = ExpNetWeights(distill=1000.0, read=0.1, landmarks=0.2, eyes=10.0)
UPPER_LIP, LOWER_LIP, RIGHT_CORNER, LEFT_CORNER = 62, 66, 48, 54  # iBUG


@dataclass(frozen=True)
class TaughtFace:
    """A coefficient space as ExpNet's training needs it.

    Args:
        landmarks: its morphable model.
        heeded: projection (64, 64) of expressions onto what the sound is to move.
        lids: projection (64, 64) onto what the blink signal moves; nothing where that can't be told apart.
        ways: opening and width of the mouth per coefficient, shape (64, 2), in any unit.
        mouth: for pictures of it; None if the user's file lacks it.
        weights: of the losses.
    """

    landmarks: Landmarked
    heeded: np.ndarray
    lids: np.ndarray
    ways: np.ndarray
    mouth: MouthMesh | None
    weights: ExpNetWeights


def open_face(teacher: str) -> TaughtFace:
    """The open space.

    Args:
        teacher: "lips": the sound moves nothing else; "all": brows and cheeks as well, but no lids.
    """
    space, basis, everything = OpenSpace.load(), LipBasis.load(), np.eye(EXPRESSION)
    lids = _span(space, LID_MOVEMENTS)
    lips = basis.expression(basis.coordinates(everything))
    return TaughtFace(
        landmarks=space,
        heeded=(lips if teacher == "lips" else everything - lids).astype(np.float32),
        lids=lids,
        ways=basis.said(basis.coordinates(everything)).astype(np.float32),
        mouth=space.mouth(),
        weights=OPEN_WEIGHTS,
    )


def bfm_face(weights: Callable[[str], Path | None]) -> TaughtFace:
    """The space bfm, whose coefficients don't tell lips, lids and brows apart: the sound moves all of them.

    Args:
        weights: finds the user's files.
    Raises:
        ValueError: the face model is missing, or is none (FaceModelError).
    """
    path = weights(FACE_MODEL)
    if path is None:
        raise ValueError(f"in the space bfm the face model is needed: {how_to_get(FACE_MODEL)}")
    model = FaceModel.load(path)
    nobody, straight = np.zeros(IDENTITY, np.float32), np.zeros((EXPRESSION + 1, POSE), np.float32)
    points = model.landmarks68(nobody, np.eye(EXPRESSION + 1, EXPRESSION, dtype=np.float32), straight)
    moves = points[:-1] - points[-1]
    opening = moves[:, LOWER_LIP, 1] - moves[:, UPPER_LIP, 1]
    width = moves[:, LEFT_CORNER, 0] - moves[:, RIGHT_CORNER, 0]
    return TaughtFace(
        landmarks=model,
        heeded=np.eye(EXPRESSION, dtype=np.float32),
        lids=np.zeros((EXPRESSION, EXPRESSION), np.float32),
        ways=np.stack([opening, width], 1),
        mouth=model.mouth,
        weights=ExpNetWeights(),
    )


def _span(space: OpenSpace, beginnings: tuple[str, ...]) -> np.ndarray:
    """Projection (64, 64) of expressions onto the movements whose names begin so."""
    names = [name for name in space.direction_names if name.startswith(beginnings)]
    basis = np.linalg.qr(np.stack([space.direction(name) for name in names], 1))[0]
    return (basis @ basis.T).astype(np.float32)
