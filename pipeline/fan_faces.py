"""Faces by face_alignment: the S3FD detector and the 68 landmarks of FAN, with weights that the user brings.

Nothing is ever downloaded. The open space fitted to the 68 landmarks stands in for the points between them.
"""

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from models.facespace.open import OpenSpace
from pipeline.errors import SetupError
from pipeline.face import Face

DETECTOR, LANDMARKS = "s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar"  # as face_alignment 1.5 names them
LARGEST_PX = 640  # of the longer side per tile that is asked for: the detector reads pictures whole
USUAL_RESIDUAL, MOST_DOUBT = 0.02, 9.0  # model units, of 68 landmarks; beyond such a doubt it is no face


class FanFaces:
    """Finds faces with face_alignment on the CPU, or the GPU that torch sees.

    Args:
        weights: folder with the weight files; None is torch's own cache of downloads.
    Raises:
        SetupError: a file is missing or damaged.
    """

    def __init__(self, weights: str | None):
        folder = Path(weights) if weights else default_folder()
        missing = [name for name in (DETECTOR, LANDMARKS) if not (folder / name).is_file()]
        if missing:
            raise SetupError(
                [f"face.weights: {name} is not in {folder}; face.backend=face_alignment needs it" for name in missing]
            )
        self._space = OpenSpace.load()
        self._network = load_network(folder.resolve())

    def find(self, image: np.ndarray, tiles: tuple[int, ...]) -> list[Face]:
        """Faces of an RGB picture, seen at up to 640 pixels per tile."""
        height, width = image.shape[:2]
        scale = min(1.0, max(tiles) * LARGEST_PX / max(width, height))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        boxes = self._network.face_detector.detect_from_image(image)
        faces = []
        for box in boxes:
            points = np.asarray(self._network.get_landmarks_from_image(image, detected_faces=[box]))[0]
            points = (points[:, :2].astype(np.float64) + 0.5) / scale
            fit = self._space.fit(points)
            score = float(box[4])
            doubt = (fit.residual / USUAL_RESIDUAL) ** 2 + max(0.0, 0.9 - score) / 0.3
            if doubt < MOST_DOUBT:
                faces.append(Face(fit, score, doubt, (width, height), detected68=points.astype(np.float32)))
        return faces

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """Points (478, 3) of the largest face for each RGB frame, each found anew; None where there is none."""
        for frame in frames:
            faces = self.find(frame, (1, 2))
            yield max(faces, key=lambda f: f.size_px).landmarks if faces else None


def default_folder() -> Path:
    """Where torch keeps what it downloads."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def load_network(folder: Path):
    """face_alignment's pair of networks from a local folder. Raises SetupError for a damaged file."""
    import face_alignment
    import torch

    hub = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as place:
        # The landmark network's path can't be told: it is looked for below torch's folder of downloads.
        (Path(place) / "checkpoints").symlink_to(folder, target_is_directory=True)
        torch.hub.set_dir(place)
        try:
            return face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D,
                device="cuda" if torch.cuda.is_available() else "cpu",
                face_detector="sfd",
                face_detector_kwargs={"path_to_detector": str(folder / DETECTOR)},
                compile=False,
            )
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            files = f"{DETECTOR} or {LANDMARKS} in {folder}"
            raise SetupError([f"face.weights: {files} can't be read; copy the files again"]) from error
        finally:
            torch.hub.set_dir(hub)
