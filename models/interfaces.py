"""The small protocols that let any motion system drive any renderer, and the plain data between them.

Nothing here knows of files, Ray or jobs. Arrays are numpy, float32 unless said.

Axes, everywhere in the project: x to the right of the picture, y down, z away from the viewer.
Head rotation is R = Rz(roll) @ Ry(yaw) @ Rx(pitch), angles in radians: a positive pitch lowers the nose,
a positive yaw turns the nose to the left of the picture, a positive roll tilts the head clockwise.

Legend: T frames, V vertices, L landmarks, H W pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from models.controls import Controls

FPS = 25  # frames per second of all coefficients
SAMPLE_RATE = 16_000  # Hz, of all speech
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 640
IDENTITY, EXPRESSION, POSE, GAZE = 80, 64, 6, 2  # coefficients per face, per frame, per frame, per frame


@dataclass(frozen=True)
class FaceFit:
    """One face explained by a morphable model.

    The camera is weak-perspective. With R from `pose[:3]` and t = `pose[3:]` in model units (one unit = the
    distance between the outer eye corners of the mean face), a model point X lands on the pixel

        origin_px + scale_px * (exp(-t_z) * (R @ X)[:2] + t[:2])

    so t is framing-independent, and t_z is the logarithm of a relative distance: 0.1 = 10 % further away.
    The space "bfm" keeps the units of its model, about a decimetre, instead.

    Args:
        space: coefficient space, "open" or "bfm".
        landmarks: detected points in pixels of the picture, shape (L, 3); z in the same scale as x, negative
            towards the viewer. L = 478 (468 mesh points, 10 iris points) in the open space, 68 (iBUG) in "bfm".
        identity: shape (80,).
        expression: shape (64,).
        pose: pitch, yaw, roll in radians, then t_x, t_y, t_z; shape (6,).
        gaze: direction of the eyes relative to the head, (yaw, pitch) in radians with the signs of the head
            rotation; shape (2,).
        scale_px: pixels per model unit at t_z = 0.
        origin_px: pixel of the model's origin at t = 0, shape (2,).
        residual: mean distance between fitted and detected points, in model units; nan if the model's are unknown.
    """

    space: str
    landmarks: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    gaze: np.ndarray
    scale_px: float
    origin_px: np.ndarray
    residual: float

    def moved(self, scale: float, offset_px: tuple[float, float]) -> "FaceFit":
        """The same face in a picture whose pixel p' = scale * (p - offset), pixel centres at whole numbers + 0.5."""
        offset = np.asarray(offset_px, np.float32)
        landmarks = self.landmarks.astype(np.float32) * scale
        landmarks[:, :2] -= offset * scale
        return replace(
            self,
            landmarks=landmarks,
            scale_px=self.scale_px * scale,
            origin_px=((self.origin_px - offset) * scale).astype(np.float32),
        )


@dataclass(frozen=True)
class Motion:
    """What a face does over time, absolute (not relative to a portrait), at 25 fps.

    Args:
        space: coefficient space, "open" or "bfm".
        expression: shape (T, 64).
        pose: shape (T, 6), as `FaceFit.pose`.
        gaze: shape (T, 2), as `FaceFit.gaze`.
    """

    space: str
    expression: np.ndarray
    pose: np.ndarray
    gaze: np.ndarray

    def __len__(self) -> int:
        return len(self.expression)

    def __getitem__(self, frames: slice) -> "Motion":
        return Motion(self.space, self.expression[frames], self.pose[frames], self.gaze[frames])


class Speech(Protocol):
    """Driving audio, read in stretches so that memory doesn't grow with its length."""

    @property
    def frames(self) -> int:
        """Number of video frames: floor(samples / 640)."""
        ...

    def samples(self, start: int, stop: int) -> np.ndarray:
        """Samples of frames [start, stop), 16 kHz mono float32 in [-1, 1], shape ((stop - start) * 640,)."""
        ...

    def mel_windows(self, start: int, stop: int) -> np.ndarray:
        """Mel windows of frames [start, stop), shape (stop - start, 80, 16), float32 in [-4, 4]."""
        ...


@dataclass(frozen=True)
class Portrait:
    """The picture as a renderer gets it: already cropped and scaled by the framing.

    Args:
        image: sRGB, uint8, shape (H, W, 3).
        view: (x, y, width, height) in pixels of `image`, even sizes: what the frames show. The rest of the
            image is a margin that a moving head may pull into view.
        matte: how far each pixel belongs to the person, float32 in [0, 1], shape (H, W).
    """

    image: np.ndarray
    view: tuple[int, int, int, int]
    matte: np.ndarray


class FaceSpace(Protocol):
    """A morphable model and how to fit it."""

    name: str

    def fit(self, landmarks: np.ndarray) -> FaceFit: ...

    def landmarks68(self, identity: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """iBUG landmarks in model units, shape (T, 68, 3), of expression (T, 64) and pose (T, 6)."""
        ...


class MotionSystem(Protocol):
    """Speech and a source face in, coefficients out."""

    space: str

    def generate(self, speech: Speech, source: FaceFit, controls: Controls, seed: int) -> Motion: ...


class Renderer(Protocol):
    """A portrait and coefficients in, frames out.

    Frame t depends on the portrait, motion[t] and at most a few frames on either side, whose number the registry knows
    (`models.registry.Entry.context`): whoever cuts a motion into parts leaves each that many of its neighbours.
    """

    space: str

    def prepare(self, portrait: Portrait, face: FaceFit) -> Any:
        """All that depends on the picture only; computed once per picture and framing."""
        ...

    def frames(self, prepared: Any, motion: Motion, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames [start, stop) in order, in batches: uint8, shape (n, view height, view width, 3)."""
        ...
