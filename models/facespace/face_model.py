"""The Basel face model in Deep3DFaceRecon's form: 80 ways faces differ, 64 ways they move (Deng et al., 2019).

It may not be shipped: `read_face_model` takes the vertices that are needed, landmarks and the mouth, out of the user's
own files. Model units are the model's (about a decimetre).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.io import loadmat

from models.facespace import camera
from models.facespace.mouth_mesh import MouthMesh, cut_mouth
from models.interfaces import EXPRESSION, IDENTITY

FLIPPED = np.array([1, -1, -1], np.float32)  # the model's axes: y up, z to the viewer
READY = "BFM_model_front.mat"
BASEL = "01_MorphableModel.mat"
RECIPE_SOURCE = "folder BFM of github.com/sicxu/Deep3DFaceRecon_pytorch"
SOURCES = {
    READY: f"made from the files below by {RECIPE_SOURCE.removeprefix('folder BFM of ')}; enough by itself",
    BASEL: "Basel Face Model 2009, on request at https://faces.dmi.unibas.ch/bfm/ (research only)",
    "Exp_Pca.bin": "CoarseData of github.com/Juyong/3DFace",
    "std_exp.txt": RECIPE_SOURCE,
    "BFM_front_idx.mat": RECIPE_SOURCE,
    "BFM_exp_idx.mat": RECIPE_SOURCE,
    "facemodel_info.mat": RECIPE_SOURCE,
}
UNUSED_FILES = ("similarity_Lm3D_all.mat", "select_vertex_id.mat")  # belong to the same folder; nothing here needs them
EXPRESSION_VERTICES = 53_215  # of the head that the expressions of Exp_Pca.bin belong to
MICROMETRES = 1e5  # per model unit
EYE_CORNERS = (36, 45)  # iBUG, the outer ones
INNER_LIPS = ((60, 61, 62, 63, 64), (60, 67, 66, 65, 64))  # iBUG, upper and lower one
MESH = "mouth."  # beginning of the mesh's names in a file
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green, blue


class FaceModelError(ValueError):
    """The user's files of the face model are missing or not what they should be. The message says which, and where
    they come from."""


@dataclass(frozen=True)
class FaceModel:
    """What is needed of the model, in model units.

    Args:
        mean: its landmarks around the middle of the whole mean face, y up and z to the viewer, shape (68, 3).
        identity: of the landmarks, shape (80, 68, 3), for one standard deviation each.
        expression: of the landmarks, shape (64, 68, 3), likewise.
        source: file it is from.
        mouth: the mesh around the mouth, in the project's axes; None if the files have no triangles or colours.
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    source: str
    mouth: MouthMesh | None = None

    def landmarks68(self, identity: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """iBUG landmarks in the project's axes: identity (80,), expression (T, 64), pose (T, 6) -> (T, 68, 3)."""
        neutral = self.mean + np.tensordot(identity, self.identity, 1)
        points = (neutral + np.tensordot(expression, self.expression, 1)) * FLIPPED
        return camera.pose_points(points, pose).astype(np.float32)

    def save(self, path: Path) -> None:
        """As safetensors."""
        arrays = {"mean": self.mean, "identity": self.identity, "expression": self.expression}
        kept = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        if self.mouth:
            kept |= {MESH + name: np.asarray(value) for name, value in vars(self.mouth).items()}
        save_file(kept, path, metadata={"source": self.source})

    @classmethod
    def load(cls, path: Path) -> "FaceModel":
        """The inverse of `save`. Raises FaceModelError for another file."""
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                source = (file.metadata() or {}).get("source", "")
            own = {name: arrays[name] for name in ("mean", "identity", "expression")}
            mesh: dict[str, Any] = {name.removeprefix(MESH): a for name, a in arrays.items() if name.startswith(MESH)}
            if mesh:
                mesh["side"] = float(mesh["side"])
            mouth = MouthMesh(**mesh) if mesh else None
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise FaceModelError(f"{path} is no face model that jobs.weights has imported: {error}") from error
        return cls(**own, source=source, mouth=mouth)


@dataclass(frozen=True)
class _WholeFace:
    """The cropped face as the files have it: y up, z to the viewer, vertices in the middle axis.

    Args:
        mean: shape (V, 3), in any place.
        identity: shape (V, 3, 80).
        expression: shape (V, 3, 64).
        points: vertices of the landmarks, shape (68,).
        triangles: shape (F, 3), without any in files that lack them.
        colours: red, green, blue, 0 to 255, shape (V, 3), likewise.
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    points: np.ndarray
    triangles: np.ndarray
    colours: np.ndarray


def is_face_model_file(path: Path) -> bool:
    """Whether a file, by its name, is one of those that the face model comes in."""
    return path.name in SOURCES or path.name in UNUSED_FILES


def read_face_model(folder: Path) -> FaceModel:
    """The face model of a folder with the user's files: BFM_model_front.mat, or what that is made from.

    Raises:
        FaceModelError: with every file that is missing and where it comes from, or what is wrong with one.
    """
    if (folder / READY).is_file():
        return _reduced(folder / READY, _ready)
    missing = [name for name in SOURCES if name != READY and not (folder / name).is_file()]
    if missing:
        wanted = "; ".join(f"{name} ({SOURCES[name]})" for name in missing)
        raise FaceModelError(
            f"the face model bfm can't be read from {folder}: neither {READY} ({SOURCES[READY]}) nor {wanted}"
        )
    return _reduced(folder / BASEL, _assembled)


def _reduced(path: Path, read) -> FaceModel:
    """Landmarks and mouth of what `read` makes of a file."""
    try:
        face = read(path)
        if len(face.points) != 68:
            raise ValueError(f"{len(face.points)} landmarks instead of 68")
        mean = face.mean - face.mean.mean(0)
        people, moves = face.identity.transpose(2, 0, 1), face.expression.transpose(2, 0, 1)
        landmarks = (array[..., face.points, :].astype(np.float32) for array in (mean, people, moves))
        return FaceModel(*landmarks, source=path.name, mouth=_mouth(face, mean, moves))
    except (IndexError, ValueError) as error:
        if isinstance(error, FaceModelError):
            raise
        raise FaceModelError(f"{path} is not the face model in Deep3DFaceRecon's form: {error}") from error


def _mouth(face: _WholeFace, mean: np.ndarray, moves: np.ndarray) -> MouthMesh | None:
    if not len(face.triangles) or not len(face.colours):
        return None
    upper, lower = (tuple(face.points[list(lip)].tolist()) for lip in INNER_LIPS)
    eyes = mean[face.points[list(EYE_CORNERS)]]
    return cut_mouth(
        mean * FLIPPED,
        moves * FLIPPED,
        face.triangles,
        face.colours @ LUMA / 255,
        (upper, lower),
        float(np.linalg.norm(eyes[1] - eyes[0])),
    )


def _ready(path: Path) -> _WholeFace:
    """The cropped model, whose arrays are one row of x, y, z per vertex and mode."""
    data = _matlab(path, ("meanshape", "idBase", "exBase", "keypoints"), ("tri", "meantex"))
    mean = np.asarray(data["meanshape"], np.float64).reshape(-1, 3)
    return _WholeFace(
        mean=mean,
        identity=np.asarray(data["idBase"]).reshape(len(mean), 3, IDENTITY),
        expression=np.asarray(data["exBase"]).reshape(len(mean), 3, EXPRESSION),
        points=_numbers(data["keypoints"]),
        triangles=_numbers(data["tri"]).reshape(-1, 3),
        colours=np.asarray(data["meantex"], np.float64).reshape(-1, 3),
    )


def _assembled(path: Path) -> _WholeFace:
    """The model put together from what its makers publish.

    The Basel model's head has other vertices than the head of the expressions; both are cropped to the same face.
    """
    folder = path.parent
    basel = _matlab(path, ("shapeMU", "shapePC", "shapeEV"), ("texMU",))
    crop = _numbers(_matlab(folder / "BFM_front_idx.mat", ("idx",))["idx"])
    trimmed = _numbers(_matlab(folder / "BFM_exp_idx.mat", ("trimIndex",))["trimIndex"])
    info = _matlab(folder / "facemodel_info.mat", ("keypoints",), ("tri",))
    modes, sizes = _expressions(folder)
    face = trimmed[crop]  # vertices of the Basel head
    try:
        people = (basel["shapePC"][:, :IDENTITY] * basel["shapeEV"].reshape(-1)[:IDENTITY]).reshape(-1, 3, IDENTITY)
        moves = (modes[:EXPRESSION] * sizes[:EXPRESSION, None]).T.reshape(-1, 3, EXPRESSION)
        colours = np.asarray(basel["texMU"], np.float64).reshape(-1, 3)
        return _WholeFace(
            mean=np.asarray(basel["shapeMU"], np.float64).reshape(-1, 3)[face] / MICROMETRES,
            identity=people[face] / MICROMETRES,
            expression=moves[crop] / MICROMETRES,
            points=_numbers(info["keypoints"]),
            triangles=_numbers(info["tri"]).reshape(-1, 3),
            colours=colours[face] if len(colours) else colours,
        )
    except (IndexError, ValueError) as error:
        raise FaceModelError(f"the files of the face model in {folder} don't fit together: {error}") from error


def _expressions(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Modes (n, 3 V) and their sizes (n,). The file: a count, a mean, then mode after mode; float32."""
    path = folder / "Exp_Pca.bin"
    data = path.read_bytes()
    count = int.from_bytes(data[:4], "little")
    values = np.frombuffer(data, "<f4", offset=4) if len(data) % 4 == 0 else np.zeros(0, np.float32)
    length = 3 * EXPRESSION_VERTICES
    if count < EXPRESSION or len(values) < length * (1 + count):
        raise FaceModelError(f"{path} is damaged: {count} modes announced, {len(data)} bytes; get it again")
    try:
        sizes = np.loadtxt(folder / "std_exp.txt").reshape(-1)
    except ValueError as error:
        raise FaceModelError(f"{folder / 'std_exp.txt'} is not a list of numbers: {error}") from error
    if len(sizes) < EXPRESSION:
        raise FaceModelError(f"{folder / 'std_exp.txt'} has {len(sizes)} numbers, {EXPRESSION} are needed")
    return values[length : length * (1 + count)].reshape(count, length), sizes


def _matlab(path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Arrays of a file by name; empty ones for optional names that it lacks."""
    try:
        data = loadmat(path, variable_names=[*names, *optional])
    except Exception as error:  # scipy's reader has no common base for what damaged files make it raise
        raise FaceModelError(f"{path} is no MATLAB file: {error}") from error
    missing = [name for name in names if name not in data]
    if missing:
        raise FaceModelError(f"{path} has no {', '.join(missing)}; it is another file of that name")
    return {name: data.get(name, np.zeros(0)) for name in (*names, *optional)}


def _numbers(counted: np.ndarray) -> np.ndarray:
    """Vertices of a MATLAB file, which counts from 1, as one row."""
    return np.asarray(counted).reshape(-1).astype(int) - 1
