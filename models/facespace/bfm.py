"""The Basel face model in Deep3DFaceRecon's form: 80 ways faces differ, 64 ways they move (Deng et al., 2019).

A face is not fitted to landmarks but read off the aligned picture by a ResNet-50, whose weights the user brings. The
model itself is needed only for landmarks of faces that no picture shows, in training losses and measures. It may not be
shipped: `read_face_model` takes the 68 vertices that are needed out of the user's own files.

Model units are the model's (about a decimetre); axes and signs are the project's (`models.interfaces`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.io import loadmat

from models.facespace import camera
from models.facespace.alignment5 import Alignment, align
from models.facespace.deep3d import SCALE_PX, from_deep3d
from models.interfaces import EXPRESSION, IDENTITY, FaceFit
from models.sadtalker.recon import Coefficients, ReconNet, split

BATCH = 16  # pictures that the network sees at once
FLIPPED = np.array([1, -1, -1])  # the model's axes: y up, z to the viewer
EXACT_CENTRE = 0.5  # pixels: landmarks count from the first pixel's corner, alignments from its centre

# ---- the user's files
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


class FaceModelError(ValueError):
    """The user's files of the face model are missing or not what they should be. The message says which, and where
    they come from."""


@dataclass(frozen=True)
class FaceModel:
    """The vertices of the model that are landmarks, in model units, y up and z to the viewer.

    Args:
        mean: around the middle of the whole mean face, shape (68, 3).
        identity: shape (80, 68, 3), for one standard deviation each.
        expression: shape (64, 68, 3), likewise.
        source: file it is from.
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    source: str

    def save(self, path: Path) -> None:
        """As safetensors."""
        arrays = {"mean": self.mean, "identity": self.identity, "expression": self.expression}
        contiguous = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        save_file(contiguous, path, metadata={"source": self.source})

    @classmethod
    def load(cls, path: Path) -> "FaceModel":
        """The inverse of `save`."""
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in ("mean", "identity", "expression")}
            return cls(**arrays, source=(file.metadata() or {}).get("source", ""))


def is_face_model_file(path: Path) -> bool:
    """Whether a file, by its name, is one of those that the face model comes in."""
    return path.name in SOURCES or path.name in UNUSED_FILES


def read_face_model(folder: Path) -> FaceModel:
    """The face model of a folder with the user's files: BFM_model_front.mat, or what that is made from.

    Raises:
        FaceModelError: with every file that is missing and where it comes from, or what is wrong with one.
    """
    if (folder / READY).is_file():
        return _ready(folder / READY)
    missing = [name for name in SOURCES if name != READY and not (folder / name).is_file()]
    if missing:
        wanted = "; ".join(f"{name} ({SOURCES[name]})" for name in missing)
        raise FaceModelError(
            f"the face model bfm can't be read from {folder}: neither {READY} ({SOURCES[READY]}) nor {wanted}"
        )
    return _assembled(folder)


def _ready(path: Path) -> FaceModel:
    """Landmarks of the cropped model, whose arrays are one row of x, y, z per vertex and mode."""
    data = _matlab(path, ("meanshape", "idBase", "exBase", "keypoints"))
    points = data["keypoints"].reshape(-1).astype(int) - 1
    return _landmarks(path, data["meanshape"], data["idBase"], data["exBase"], points)


def _assembled(folder: Path) -> FaceModel:
    """Landmarks of the model put together from what its makers publish.

    The Basel model's head has other vertices than the head of the expressions; both are cropped to the same face.
    """
    basel = _matlab(folder / BASEL, ("shapeMU", "shapePC", "shapeEV"))
    crop = _matlab(folder / "BFM_front_idx.mat", ("idx",))["idx"].reshape(-1).astype(int) - 1
    trimmed = _matlab(folder / "BFM_exp_idx.mat", ("trimIndex",))["trimIndex"].reshape(-1).astype(int) - 1
    points = _matlab(folder / "facemodel_info.mat", ("keypoints",))["keypoints"].reshape(-1).astype(int) - 1
    modes, sizes = _expressions(folder)
    face = trimmed[crop]  # vertices of the Basel head
    try:
        people = (basel["shapePC"][:, :IDENTITY] * basel["shapeEV"].reshape(-1)[:IDENTITY]).reshape(-1, 3, IDENTITY)
        moves = (modes[:EXPRESSION] * sizes[:EXPRESSION, None]).T.reshape(-1, 3, EXPRESSION)
        mean = basel["shapeMU"].reshape(-1, 3)[face] / MICROMETRES
        identity = people[face].reshape(-1, IDENTITY) / MICROMETRES
        expression = moves[crop].reshape(-1, EXPRESSION) / MICROMETRES
    except (IndexError, ValueError) as error:
        raise FaceModelError(f"the files of the face model in {folder} don't fit together: {error}") from error
    return _landmarks(folder / BASEL, mean, identity, expression, points)


def _landmarks(
    path: Path, mean: np.ndarray, identity: np.ndarray, expression: np.ndarray, points: np.ndarray
) -> FaceModel:
    """Args: mean (3 V,) in any shape, identity (3 V, 80), expression (3 V, 64), vertices of the landmarks (68,)."""
    mean = np.asarray(mean, np.float64).reshape(-1, 3)
    try:
        people = np.asarray(identity).reshape(len(mean), 3, IDENTITY)[points]
        moves = np.asarray(expression).reshape(len(mean), 3, EXPRESSION)[points]
        if len(points) != 68:
            raise ValueError(f"{len(points)} landmarks instead of 68")
        centred = mean[points] - mean.mean(0)
    except (IndexError, ValueError) as error:
        raise FaceModelError(f"{path} is not the face model in Deep3DFaceRecon's form: {error}") from error
    by_mode = (array.transpose(2, 0, 1).astype(np.float32) for array in (people, moves))
    return FaceModel(centred.astype(np.float32), *by_mode, source=path.name)


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


def _matlab(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        data = loadmat(path, variable_names=names)
    except Exception as error:  # scipy's reader has no common base for what damaged files make it raise
        raise FaceModelError(f"{path} is no MATLAB file: {error}") from error
    missing = [name for name in names if name not in data]
    if missing:
        raise FaceModelError(f"{path} has no {', '.join(missing)}; it is another file of that name")
    return {name: data[name] for name in names}


# ---- the space


class BfmSpace:
    """The face space "bfm".

    Args:
        recon: the regressor, in evaluation mode.
        model: its landmarks, for `landmarks68`.
    """

    name = "bfm"

    def __init__(self, recon: ReconNet, model: FaceModel | None = None):
        self._recon, self._model = recon, model

    def fit(self, landmarks: np.ndarray, image: np.ndarray, gaze: np.ndarray | None = None) -> FaceFit:
        """A face in a picture.

        Args:
            landmarks: iBUG, pixels of the picture, shape (68, 2) or, with a depth in the same scale, (68, 3).
            image: RGB, uint8, shape (H, W, 3).
            gaze: of the eyes relative to the head, which the model doesn't know, shape (2,); default: straight ahead.
        Returns:
            `landmarks` are the given ones. The camera is the regressor's, seen as a weak-perspective one. `residual` is
            nan without the face model.
        """
        alignment = _aligned(image, landmarks)
        found = self._regress([alignment.cut(image)])
        pose = poses(found)[0]
        points = np.zeros((68, 3), np.float32)
        points[:, : landmarks.shape[1]] = landmarks
        height = image.shape[0]
        origin = np.array([alignment.centre[0], height - 1 - alignment.centre[1]]) + EXACT_CENTRE
        identity, expression = found.identity[0].numpy(), found.expression[0].numpy()
        scale_px = SCALE_PX / alignment.scale
        residual = float("nan")
        if self._model is not None:
            fitted = self.landmarks68(identity, expression[None], pose[None])[0, :, :2]
            seen = (points[:, :2] - origin) / scale_px
            residual = float(np.linalg.norm(fitted - seen, axis=1).mean())
        return FaceFit(
            space=self.name,
            landmarks=points,
            identity=identity,
            expression=expression,
            pose=pose,
            gaze=np.zeros(2, np.float32) if gaze is None else np.asarray(gaze, np.float32),
            scale_px=scale_px,
            origin_px=origin.astype(np.float32),
            residual=residual,
        )

    def read_frames(self, frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Expression (T, 64) and pose (T, 6) of a video, frame by frame; nothing is smoothed.

        Args:
            frames: picture and iBUG landmarks in its pixels, as in `fit`; read once, a few at a time.
        """
        expression, pose = [np.zeros((0, EXPRESSION), np.float32)], [np.zeros((0, 6), np.float32)]
        for some in _batches(_aligned(image, points).cut(image) for image, points in frames):
            found = self._regress(some)
            expression.append(found.expression.numpy())
            pose.append(poses(found))
        return np.concatenate(expression), np.concatenate(pose)

    def landmarks68(self, identity: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """iBUG landmarks in model units: identity (80,), expression (T, 64), pose (T, 6) -> (T, 68, 3).

        Raises:
            FaceModelError: the pack was made without the face model's files.
        """
        if self._model is None:
            wanted = "; or ".join(f"{name}: {SOURCES[name]}" for name in (READY, BASEL))
            raise FaceModelError(f"landmarks of the face model bfm need its files, imported into the pack: {wanted}")
        neutral = self._model.mean + np.tensordot(identity, self._model.identity, 1)
        points = (neutral + np.tensordot(expression, self._model.expression, 1)) * FLIPPED
        return camera.pose_points(points, pose).astype(np.float32)

    @torch.inference_mode()
    def _regress(self, aligned: list[np.ndarray]) -> Coefficients:
        pictures = torch.from_numpy(np.stack(aligned)).permute(0, 3, 1, 2).float() / 255
        return split(self._recon(pictures.to(next(self._recon.parameters()).device)).cpu())


def poses(found: Coefficients) -> np.ndarray:
    """Poses of the regressor as the project keeps them, shape (B, 6), float32."""
    return from_deep3d(torch.cat([found.angles, found.translation], 1).numpy()).astype(np.float32)


def _aligned(image: np.ndarray, landmarks: np.ndarray) -> Alignment:
    height, width = image.shape[:2]
    return align((width, height), landmarks[:, :2] - EXACT_CENTRE)


def _batches(pictures: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    iterator = iter(pictures)
    while some := list(islice(iterator, BATCH)):
        yield some
