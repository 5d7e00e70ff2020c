"""The embedded renderer: moves a photo by a mesh, needs no weights.

A frame is the photo's person warped by the posed mesh over a filled background, with eyes and mouth drawn on top.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, Portrait
from models.mesh import eyes, mouth, warp
from models.mesh.geometry import Head, Posed
from models.mesh.matte import Layers, separate
from models.mesh.patches import Patch, composite
from models.mesh.surround import RAYS

if TYPE_CHECKING:
    from models.mesh.torch_path import TorchWarp

BATCH = 8  # frames handed out at once
REMNANT_FADE = 0.08  # of the eye distance


@dataclass(frozen=True)
class PreparedHead:
    """All of a portrait that doesn't change from frame to frame."""

    head: Head
    texture: np.ndarray
    layers: Layers
    view: tuple[int, int, int, int]
    mouth: mouth.MouthAssets
    eyes: eyes.EyesAssets

    @property
    def fade_px(self) -> float:
        """Motion over which the matting remnant (fine hair, mostly) vanishes."""
        return max(1.0, REMNANT_FADE * self.head.eye_distance_px)

    def patches(self, posed: Posed) -> list[Patch]:
        """Eyes and mouth of one frame, in painting order, placed in pixels of the image."""
        inside = mouth.patch(self.mouth, posed)
        return [*eyes.patches(self.eyes, posed), *([] if inside is None else [inside])]


class MeshRenderer:
    """Renderer (see `models.interfaces`) of the open space.

    Args:
        device: "cpu" for the compiled path, anything else ("cuda", "cuda:1") for batched torch on that device.
    """

    space = "open"

    def __init__(self, device: str = "cpu"):
        self._face_space = OpenSpace.load()
        self._device = device

    def prepare(self, portrait: Portrait, face: FaceFit) -> PreparedHead:
        """Everything that depends on the picture only."""
        head = Head.build(portrait, face, self._face_space)
        mouth_assets = mouth.prepare(head)
        layers = separate(
            mouth_assets.texture,
            portrait.matte,
            head.source.xy[topo.VERTICES : topo.VERTICES + RAYS],
            head.eye_distance_px,
        )
        return PreparedHead(head, mouth_assets.texture, layers, portrait.view, mouth_assets, eyes.prepare(head))

    def frames(self, prepared: PreparedHead, motion: Motion, start: int, stop: int) -> Iterator[np.ndarray]:
        """Frames [start, stop) in batches: uint8, shape (n, view height, view width, 3)."""
        near = prepared.head.limit(motion[slice(start, stop)])
        canvas = self._canvas(prepared)
        left, top, *_ = prepared.view
        for first in range(0, len(near), BATCH):
            some = near[slice(first, first + BATCH)]
            posed = [prepared.head.pose(*frame) for frame in zip(some.expression, some.pose, some.gaze)]
            frames = canvas.batch(posed)
            for frame, mesh in zip(frames, posed):
                for patch in prepared.patches(mesh):
                    composite(frame, patch, (left, top))
            yield frames

    def _canvas(self, prepared: PreparedHead) -> "CompiledWarp | TorchWarp":
        if self._device == "cpu":
            return CompiledWarp(prepared)
        from models.mesh.torch_path import TorchWarp

        return TorchWarp(
            prepared.head, prepared.texture, prepared.layers, prepared.view, prepared.fade_px, self._device
        )


class CompiledWarp:
    """Draws a portrait's frames, without eyes and mouth, by the compiled loops; reuses its buffers."""

    def __init__(self, prepared: PreparedHead):
        _, _, width, height = prepared.view
        self._prepared = prepared
        self._near = warp.near_person(prepared.layers.person)
        self._field = np.empty((warp.FINE * height, warp.FINE * width, 2), np.float32)
        self._zbuffer = np.empty((warp.FINE * height, warp.FINE * width), np.float32)

    def batch(self, posed: list[Posed]) -> np.ndarray:
        """Frames: uint8, shape (n, h, w, 3)."""
        made = self._prepared
        left, top, width, height = made.view
        head, layers = made.head, made.layers
        frames = np.empty((len(posed), height, width, 3), np.uint8)
        for frame, mesh in zip(frames, posed):
            warp.rasterise(
                mesh.xy, mesh.depth, head.source.xy, head.triangles, head.bias, left, top, self._field, self._zbuffer
            )
            warp.composite(
                self._field, left, top, made.texture, layers.person, self._near, layers.background, layers.remnant,
                np.float32(made.fade_px), frame,
            )  # fmt: skip
        return frames
