"""The renderer's loops in batched torch, for an accelerator: the same frames as `models.mesh.warp` to rounding.

Vertices, eyes and mouth come from the host as in the compiled path; rasterising, sampling and compositing run on the
device. Checked against the compiled path on torch's CPU device; it has not been run on a GPU yet.

Legend: n frames, V vertices, F triangles.
"""

import numpy as np
import torch

from models.mesh.geometry import Head, Posed
from models.mesh.matte import Layers
from models.mesh.warp import FINE, SHARPNESS, STILL, TORN_PX
from models.raster import nearest_triangles


class TorchWarp:
    """Draws frames of one portrait on a device.

    Args:
        head: the portrait's head.
        texture: the photo to warp, uint8, shape (H, W, 3).
        layers: the photo taken apart.
        view: x, y, width, height in pixels of the photo.
        fade: motion in pixels over which the matting remnant vanishes.
        device: a torch device.
    """

    def __init__(
        self,
        head: Head,
        texture: np.ndarray,
        layers: Layers,
        view: tuple[int, int, int, int],
        fade: float,
        device: str,
    ):
        self._device = torch.device(device)
        self._view, self._fade = view, fade
        left, top, width, height = view
        inside = np.s_[top : top + height, left : left + width]
        self._person = self._put(layers.person)
        self._still = self._put(texture[inside]).float()
        self._background = self._put(layers.background[inside])[..., :3]
        self._remnant = self._put(layers.remnant[inside])[..., :3]
        self._triangles = self._put(head.triangles).long()
        self._bias = self._put(head.bias).double()
        self._source = self._put(head.source.xy).double()

    def batch(self, posed: list[Posed]) -> np.ndarray:
        """Frames without eyes and mouth: uint8, shape (n, h, w, 3)."""
        left, top, width, height = self._view
        field = torch.stack([self._rasterise(mesh) for mesh in posed])  # (n, FINE h, FINE w, 2)
        cells = field.reshape(len(posed), height, FINE, width, FINE, 2).permute(0, 1, 3, 2, 4, 5)
        cells = cells.reshape(len(posed), height, width, FINE * FINE, 2)
        across, down = torch.abs(cells[..., 0, :] - cells[..., 3, :]), torch.abs(cells[..., 1, :] - cells[..., 2, :])
        torn = torch.maximum(across, down).amax(-1) > float(TORN_PX)  # (n, h, w)
        at = cells.mean(-2)
        colours = self._sample(at)
        if torn.any():
            colours[torn] = self._sample(cells[torn]).mean(-2)
        own = torch.stack(torch.meshgrid(self._centres(left, width), self._centres(top, height), indexing="xy"), -1)
        moved = (at - own).norm(dim=-1)
        through = 1 - colours[..., 3:] / 255
        keep = (1 - moved / self._fade).clamp(min=0)[..., None]
        mixed = colours[..., :3] + through * self._background + keep * self._remnant
        mixed = torch.where(((moved < float(STILL)) & ~torn)[..., None], self._still, mixed)
        return (mixed + 0.5).clamp(0, 255).to(torch.uint8).cpu().numpy()

    def _rasterise(self, posed: Posed) -> torch.Tensor:
        """Positions in the photo for every sample of one frame, float32, shape (FINE h, FINE w, 2)."""
        left, top, width, height = self._view
        rows, columns = FINE * height, FINE * width
        corner = torch.tensor([left, top], dtype=torch.float64, device=self._device)
        xy = (self._put(posed.xy).double() - corner) * FINE - 0.5
        depth = self._put(posed.depth).double()
        corners, sources = xy[self._triangles], self._source[self._triangles]  # (F, 3, 2)
        depths = depth[self._triangles] + self._bias[:, None]

        number = nearest_triangles(corners[None], depths[None], rows, columns).flatten()
        index = torch.nonzero(number >= 0)[:, 0]
        winner = number[index]

        # each triangle's affine map from samples to the photo
        a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        inverse = torch.linalg.inv(torch.stack([u, v], -1)[winner.unique()])
        slot = torch.zeros(len(corners), dtype=torch.int64, device=self._device)
        slot[winner.unique()] = torch.arange(len(inverse), device=self._device)
        edges = torch.stack([sources[:, 1] - sources[:, 0], sources[:, 2] - sources[:, 0]], -1)[winner]
        field = torch.stack(
            torch.meshgrid(self._centres(left, width, FINE), self._centres(top, height, FINE), indexing="xy"), -1
        ).reshape(-1, 2)
        offset = torch.stack([index % columns, index // columns], 1) - a[winner]
        field[index] = (sources[winner, 0] + (edges @ (inverse[slot[winner]] @ offset[..., None]))[..., 0]).float()
        return field.reshape(rows, columns, 2)

    def _sample(self, at: torch.Tensor) -> torch.Tensor:
        """The person at positions (..., 2) in the photo: colours and matte, shape (..., 4)."""
        height, width = self._person.shape[:2]
        place = at.reshape(-1, 2) - 0.5
        corner = place.floor()
        across, down = cubic((place - corner).T)  # (4, C) each
        column, row = corner.long().T
        flat = self._person.reshape(-1, 4)
        total = torch.zeros(len(place), 4, device=self._device)
        for j in range(4):
            line = (row + j - 1).clamp(0, height - 1) * width
            for i in range(4):
                tap = flat[line + (column + i - 1).clamp(0, width - 1)]
                total += (down[j] * across[i])[:, None] * tap
        return total.reshape(*at.shape[:-1], 4)

    def _centres(self, start: int, count: int, fine: int = 1) -> torch.Tensor:
        """Centres of the samples of `count` pixels from pixel `start` on, float32."""
        return start + (torch.arange(count * fine, device=self._device, dtype=torch.float32) + 0.5) / fine

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def cubic(t: torch.Tensor) -> torch.Tensor:
    """Weights of the four taps around fractions t (...) in [0, 1), shape (..., 4 before the last axis)."""
    a, s = float(SHARPNESS), 1 - t
    first, last = a * t * s * s, a * s * t * t
    second = ((a + 2) * t - (a + 3)) * t * t + 1
    return torch.stack([first, second, 1 - first - second - last, last], -2)
