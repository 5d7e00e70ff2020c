"""SadTalker's renderer behind the project's protocol (`models.interfaces.Renderer`).

The network sees a square around the head and animates all of it. Where the view is larger, the square is put back
into the portrait with soft edges: the picture around it stands still.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.checkpoint import fill, read_state
from models.facespace.alignment5 import align
from models.facespace.deep3d import to_deep3d
from models.facespace.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from models.facevid2vid.generator import Generator
from models.facevid2vid.inference import Animator, Source
from models.facevid2vid.keypoints import KeypointDetector
from models.facevid2vid.sizes import SIDES
from models.interfaces import FaceFit, Motion, Portrait
from models.pasting import Pasting, scaled
from models.sadtalker.mapping import ALIGNED_COEFFICIENTS, COEFFICIENTS, MappingNet

REACH = 4.0  # side of the square in distances of the outer eye corners: head and shoulders, as in crops
SNUG = 0.75  # a square of at least this share of the view's shorter side becomes as long as that: no edge to hide
IBUG_EYES = (36, 45)  # outer corners, of 68 landmarks
OWN_FILE = "facevid2vid.safetensors"


@dataclass(frozen=True)
class PreparedPortrait:
    """All of a portrait that doesn't change from frame to frame.

    Args:
        source: for the network.
        alignment: coefficients that are appended to every frame's, shape (3,) or (0,).
        square: left, top and side of what is animated, pixels of the view.
        pasting: of the square, into the view.
    """

    source: Source
    alignment: np.ndarray
    square: tuple[int, int, int]
    pasting: Pasting


class FaceVid2VidRenderer:
    """A renderer.

    A frame depends on 13 frames of motion on either side: parts of a long clip need that much of their neighbours to
    join without a seam.

    Args:
        animator: networks with their weights.
        space: coefficient space that these were trained with, "open" or "bfm".
        side: pixels of the square that they were trained with, one of `SIDES`; a view of another size is scaled.
        official: for the published weights, which speak Deep3DFaceRecon's poses.
    Raises:
        ValueError: a square of another size, a mapping network of neither 70 nor 73 coefficients, or official weights
            of another space than "bfm".
    """

    def __init__(self, animator: Animator, *, space: str = "open", side: int = 256, official: bool = False):
        if side not in SIDES:
            raise ValueError(f"squares have {', '.join(map(str, SIDES))} pixels a side, not {side}")
        if official and space != "bfm":
            raise ValueError(f"the published weights speak of the face model bfm, not {space!r}")
        if animator.coefficients not in (COEFFICIENTS, ALIGNED_COEFFICIENTS):
            raise ValueError(f"a mapping network of {animator.coefficients} coefficients; 70 or 73 are known")
        self.space = space
        self._animator, self._side, self._official = animator, side, official
        self._aligned = animator.coefficients == ALIGNED_COEFFICIENTS

    @classmethod
    def load(
        cls, folder: Path, *, space: str = "open", side: int = 256, aligned: bool = False, device: str = "cpu"
    ) -> "FaceVid2VidRenderer":
        """From a folder of weights.

        Own weights are one file `facevid2vid.safetensors` with the prefixes `generator.`, `kp_extractor.` and
        `mapping.`; published ones are `SadTalker_V0.0.2_256.safetensors` (or `_512`) and a mapping network. The
        published files have not been seen: names and shapes are inferred from the published program.

        Args:
            folder: own weights go before published ones.
            space: of own weights; published ones are of "bfm".
            side: 256 or 512.
            aligned: take the published mapping network for pictures that are put back into larger ones
                (mapping_00109) instead of that for crops (mapping_00229).
            device: "cpu" or "cuda"; only the former has been run.
        Raises:
            FileNotFoundError: neither is there.
            models.errors.WeightsError: damaged files, or of other networks.
        """
        own = folder / OWN_FILE
        published = folder / f"SadTalker_V0.0.2_{side}.safetensors"
        mapper = folder / f"mapping_{'00109' if aligned else '00229'}-model.pth.tar"
        official = not own.exists()
        if official and not (published.exists() and mapper.exists()):
            raise FileNotFoundError(f"no {OWN_FILE} in {folder}, nor {published.name} and {mapper.name}")
        path = published if official else own
        mapping_path = mapper if official else own
        mapping = read_state(mapping_path, part="mapping", prefix="" if official else "mapping.")
        networks = (
            (Generator(), read_state(path, prefix="generator."), path),
            (KeypointDetector(), read_state(path, prefix="kp_extractor."), path),
            (MappingNet(ALIGNED_COEFFICIENTS if aligned and official else COEFFICIENTS), mapping, mapping_path),
        )
        for network, state, file in networks:
            fill(network, state, file)
        (generator, _, _), (detector, _, _), (mapper_network, _, _) = networks
        animator = Animator(generator, detector, mapper_network, device=device)
        return cls(animator, space="bfm" if official else space, side=side, official=official)

    @property
    def precision(self) -> str:
        """What frames are computed in, and why."""
        return self._animator.precision.reason

    def prepare(self, portrait: Portrait, face: FaceFit) -> PreparedPortrait:
        """Everything that depends on the picture only.

        Raises:
            ValueError: a face of another space.
        """
        if face.space != self.space:
            raise ValueError(f"a face of the space {face.space!r}, where {self.space!r} is needed")
        x, y, width, height = portrait.view
        still = np.ascontiguousarray(portrait.image[y : y + height, x : x + width])
        left, top, side = square = _square(face.landmarks[:, :2] - [x, y], (width, height))
        cut = scaled(still[top : top + side, left : left + side], (self._side, self._side))
        alignment = np.zeros(0, np.float32)
        if self._aligned:
            points = (face.landmarks[:, :2] - [x + left, y + top]) * (self._side / side)
            alignment = align((self._side, self._side), points).parameters[2:].astype(np.float32)
        row = self._rows(face.expression[None], face.pose[None], alignment)[0]
        return PreparedPortrait(
            self._animator.source(cut, row), alignment, square, Pasting(still, (left, top, side, side))
        )

    def frames(self, prepared: PreparedPortrait, motion: Motion, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames [start, stop) in batches: uint8, shape (n, view height, view width, 3)."""
        rows = self._rows(motion.expression, motion.pose, prepared.alignment)
        keypoints = self._animator.keypoints(prepared.source, rows, start, stop)
        for painted in self._animator.frames(prepared.source, keypoints):
            yield np.stack([prepared.pasting.paste(frame) for frame in painted])

    def _rows(self, expression: np.ndarray, pose: np.ndarray, alignment: np.ndarray) -> np.ndarray:
        """Coefficients as the mapping network knows them, shape (T, 70) or (T, 73)."""
        pose = to_deep3d(pose) if self._official else pose
        return np.concatenate([expression, pose, np.tile(alignment, (len(pose), 1))], 1, dtype=np.float32)


def _square(landmarks: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int]:
    """Left, top and side of the square around a head, inside a view of a width and height; pixels.

    Args:
        landmarks: pixels of the view, shape (68, 2) or (478, 2).
    """
    corners = IBUG_EYES if len(landmarks) == 68 else (RIGHT_EYE_OUTER, LEFT_EYE_OUTER)
    apart = float(np.linalg.norm(landmarks[corners[0]] - landmarks[corners[1]]))
    # a head in profile shows less between its eyes than between eyes and chin
    span = max(apart * REACH, float(np.ptp(landmarks[:, 1])) * REACH / 2)
    side = min(size) if span >= SNUG * min(size) else int(span)
    centre = (landmarks.min(0) + landmarks.max(0)) / 2
    left, top = (int(np.clip(round(c - side / 2), 0, n - side)) for c, n in zip(centre, size))
    return left, top, side
