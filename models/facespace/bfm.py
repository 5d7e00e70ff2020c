"""The face space "bfm": a face is not fitted to landmarks but read off the aligned picture by a ResNet-50.

Its weights (Deep3DFaceRecon, Deng et al., 2019) are the user's. The face model itself (`models.facespace.face_model`)
is needed only for landmarks and mouths of faces that no picture shows, in training losses and measures. Model units are
its own, about a decimetre; axes and signs are the project's (`models.interfaces`).
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from models.facespace.alignment5 import Alignment, align
from models.facespace.deep3d import SCALE_PX, from_deep3d
from models.facespace.face_model import BASEL, READY, SOURCES, FaceModel, FaceModelError
from models.interfaces import EXPRESSION, FaceFit
from models.sadtalker.recon import Coefficients, ReconNet, split

BATCH = 16  # pictures that the network sees at once
EXACT_CENTRE = 0.5  # pixels: landmarks count from the first pixel's corner, alignments from its centre


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
        return self._model.landmarks68(identity, expression, pose)

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
