"""How every voxel of the appearance volume moves when keypoints move (face-vid2vid, section 3.2 and figure 4).

Every keypoint proposes a shift of the whole volume; a network weighs the proposals voxel by voxel and tells which
pixels can't be seen in the source. Modules carry the names of SadTalker's published files.

Legend: B frames, K keypoints, M = K + 1 motions (the first: nothing moves), C channels, D depth, H W pixels.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.facevid2vid.blocks import Down, Up, growth
from models.facevid2vid.keypoints import grid_axes

VARIANCE = 0.01  # of the Gaussians around keypoints
NEGLIGIBLE = 1e-3  # smaller weights of a motion count as 0; what is left is not rescaled


class Flow(NamedTuple):
    """Motion of a volume.

    Args:
        deformation: where every voxel comes from, as (x, y, z) in -1 .. 1, shape (B, D, H, W, 3).
        occlusion: how visible a pixel is in the source, 0 .. 1, shape (B, 1, H, W).
        mask: weight of every motion before negligible ones are dropped, shape (B, M, D, H, W).
    """

    deformation: Tensor
    occlusion: Tensor
    mask: Tensor


class DenseMotion(nn.Module):
    """Keypoints to a flow.

    Args:
        keypoints: K.
        channels: of the volume.
        depth: of the volume.
        width, max_width: channels of the hourglass.
        blocks: halvings of the hourglass.
        compress: channels of the volume that the hourglass sees.
    """

    def __init__(
        self,
        keypoints: int = 15,
        channels: int = 32,
        depth: int = 16,
        width: int = 32,
        max_width: int = 1024,
        blocks: int = 5,
        compress: int = 4,
    ):
        super().__init__()
        motions = keypoints + 1
        self.hourglass = Hourglass(motions * (compress + 1), width, max_width, blocks)
        self.mask = nn.Conv3d(self.hourglass.outside, motions, 7, padding=3)
        self.compress = nn.Conv3d(channels, compress, 1)
        self.norm = nn.BatchNorm3d(compress)
        self.occlusion = nn.Conv2d(self.hourglass.outside * depth, 1, 7, padding=3)

    def forward(self, volume_BCDHW: Tensor, source_BK3: Tensor, driving_BK3: Tensor) -> Flow:
        """Flow that takes the source's keypoints to the driving ones."""
        shape = volume_BCDHW.shape[2:]
        compressed_BCDHW = self.norm(self.compress(volume_BCDHW)).relu()
        motions_BMDHW3 = proposals(shape, source_BK3, driving_BK3)
        moved_BMCDHW = _sample_all(compressed_BCDHW, motions_BMDHW3)
        heat_BMDHW = F.pad(bells(shape, driving_BK3) - bells(shape, source_BK3), (0,) * 6 + (1, 0))
        seen = self.hourglass(torch.cat([heat_BMDHW.unsqueeze(2), moved_BMCDHW], 2).flatten(1, 2))
        mask_BMDHW = self.mask(seen).softmax(1)
        kept_BMDHW = mask_BMDHW.masked_fill(mask_BMDHW < NEGLIGIBLE, 0)
        deformation = torch.einsum("bmdhw,bmdhwc->bdhwc", kept_BMDHW, motions_BMDHW3)
        return Flow(deformation, self.occlusion(seen.flatten(1, 2)).sigmoid(), mask_BMDHW)


class Hourglass(nn.Module):
    """Three-dimensional U-Net; its output has `outside` channels: the last block's and the input's."""

    def __init__(self, inside: int, width: int, max_width: int, blocks: int):
        super().__init__()
        widths = growth(width, max_width, blocks)
        self.encoder = Encoder([inside, *widths[1:]])
        self.decoder = Decoder(widths, inside)
        self.outside = inside + width

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Encoder(nn.Module):
    """Halvings; gives the input and the output of every block."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.down_blocks = nn.ModuleList(Down(a, b, dims=3) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        return levels


class Decoder(nn.Module):
    """Doublings, each joined by what the encoder had at that size."""

    def __init__(self, widths: list[int], inside: int):
        super().__init__()
        blocks = len(widths) - 1
        joined = [widths[-1], *(2 * width for width in reversed(widths[1:-1]))]
        self.up_blocks = nn.ModuleList(Up(joined[k], widths[blocks - k - 1], dims=3) for k in range(blocks))
        outside = widths[0] + inside
        self.conv = nn.Conv3d(outside, outside, 3, padding=1)
        self.norm = nn.BatchNorm3d(outside)

    def forward(self, levels: list[Tensor]) -> Tensor:
        *skips, x = levels
        for block, skip in zip(self.up_blocks, reversed(skips)):
            x = torch.cat([block(x), skip], 1)
        return self.norm(self.conv(x)).relu()


def identity_grid(shape: tuple[int, ...] | torch.Size, like: Tensor) -> Tensor:
    """Where the samples of a volume are, as (x, y, z), shape (D, H, W, 3).

    The outermost samples lie on -1 and 1, though `warp` takes these for the outer borders: so the weights were trained.
    """
    z, y, x = torch.meshgrid(*grid_axes(shape, like), indexing="ij")
    return torch.stack([x, y, z], -1)


def proposals(shape: tuple[int, ...] | torch.Size, source_BK3: Tensor, driving_BK3: Tensor) -> Tensor:
    """Where every voxel comes from if it moves as one keypoint does, shape (B, M, D, H, W, 3); first, from itself."""
    shift_BM3 = F.pad(source_BK3 - driving_BK3, (0, 0, 1, 0))
    return identity_grid(shape, source_BK3) + shift_BM3[:, :, None, None, None]


def bells(shape: tuple[int, ...] | torch.Size, centre_BK3: Tensor) -> Tensor:
    """Gaussians of height 1 around points, shape (B, K, D, H, W)."""
    z_D, y_H, x_W = (
        (-(axis - centre_BK3[..., k, None]).square() / (2 * VARIANCE)).exp()
        for k, axis in zip((2, 1, 0), grid_axes(shape, centre_BK3))
    )
    return z_D[..., None, None] * y_H[..., None, :, None] * x_W[..., None, None, :]


def warp(volume_BCDHW: Tensor, flow_BDHW3: Tensor) -> Tensor:
    """Volume sampled where a flow points; outside it is 0. -1 and 1 are the outer borders of the border samples.

    Args:
        volume_BCDHW: one volume may serve all flows: its batch is 1 then.
    """
    if len(volume_BCDHW) == len(flow_BDHW3):
        return F.grid_sample(volume_BCDHW, flow_BDHW3, align_corners=False)
    # flows side by side along the depth share the volume without copies of it
    sampled = F.grid_sample(volume_BCDHW, flow_BDHW3.flatten(0, 1)[None], align_corners=False)
    return sampled[0].unflatten(1, flow_BDHW3.shape[:2]).transpose(0, 1)


def _sample_all(volume_BCDHW: Tensor, motions_BMDHW3: Tensor) -> Tensor:
    """Each volume under each of its motions, shape (B, M, C, D, H, W)."""
    return torch.stack([warp(volume[None], motions) for volume, motions in zip(volume_BCDHW, motions_BMDHW3)])
