"""The picture generator of face-vid2vid with SPADE layers, as SadTalker's renderer has it.

The source picture becomes a volume of features (section 3.1 of the paper, "appearance feature extraction"), the flow of
`motion` moves it, and a decoder of SPADE blocks (Park et al., 2019) paints the frame. Modules carry the names of the
published files.

Legend: B frames, K keypoints, C channels, D depth, H W pixels; S the features that steer SPADE.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from models.facevid2vid.blocks import ConvNorm, Down, double, growth
from models.facevid2vid.motion import DenseMotion, Flow, warp

SLOPE = 0.2  # of the decoder's activations below zero
MERGE_SLOPE = 0.01  # of the layer after the warp
MIDDLE_BLOCKS = 6


class Painted(NamedTuple):
    """A generated frame and how it came about.

    Args:
        frame: RGB in 0 .. 1, shape (B, 3, H, W).
        steer: what the decoder paints from, shape (B, S, H/4, W/4).
        flow: motion of the volume.
    """

    frame: Tensor
    steer: Tensor
    flow: Flow


class Generator(nn.Module):
    """Source picture and keypoints to frames.

    Args:
        keypoints: K.
        width, max_width: channels of the encoder.
        halvings: of the encoder.
        channels, depth: of the volume.
        resblocks: of the volume.
        motion: further arguments of `DenseMotion`.
        decoder: arguments of `SpadeDecoder`.
    """

    def __init__(
        self,
        keypoints: int = 15,
        width: int = 64,
        max_width: int = 512,
        halvings: int = 2,
        channels: int = 32,
        depth: int = 16,
        resblocks: int = 6,
        motion: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        widths = growth(width, max_width, halvings)
        merged = widths[-1]
        self.dense_motion_network = DenseMotion(keypoints, channels, depth, **(motion or {}))
        self.first = ConvNorm(3, widths[0])
        self.down_blocks = nn.ModuleList(Down(a, b) for a, b in pairwise(widths))
        self.second = nn.Conv2d(merged, channels * depth, 1)
        self.resblocks_3d = nn.Sequential()
        for k in range(resblocks):
            self.resblocks_3d.add_module(f"3dr{k}", ResBlock3d(channels))
        self.third = ConvNorm(channels * depth, merged, slope=MERGE_SLOPE)
        self.fourth = nn.Conv2d(merged, merged, 1)
        self.decoder = SpadeDecoder(steer=merged, **(decoder or {}))
        self.depth = depth

    def encode(self, image_B3HW: Tensor) -> Tensor:
        """Volumes of pictures in 0 .. 1, shape (B, C, D, H/4, W/4)."""
        x = self.first(image_B3HW)
        for block in self.down_blocks:
            x = block(x)
        return self.resblocks_3d(self.second(x).unflatten(1, (-1, self.depth)))

    def merge(self, volume_BCDHW: Tensor, occlusion_B1HW: Tensor) -> Tensor:
        """A moved volume as the map that steers the decoder."""
        return self.fourth(self.third(volume_BCDHW.flatten(1, 2))) * occlusion_B1HW

    def forward(self, image_B3HW: Tensor, source_BK3: Tensor, driving_BK3: Tensor) -> Painted:
        """Frames with the driving keypoints, from pictures in 0 .. 1 with the source keypoints."""
        volume_BCDHW = self.encode(image_B3HW)
        flow = self.dense_motion_network(volume_BCDHW, source_BK3, driving_BK3)
        steer_BSHW = self.merge(warp(volume_BCDHW, flow.deformation), flow.occlusion)
        return Painted(self.decoder(steer_BSHW), steer_BSHW, flow)


class ResBlock3d(nn.Module):
    """Two convolutions, each after normalisation and ReLU, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm3d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.norm1(x).relu())
        return x + self.conv2(self.norm2(y).relu())


class SpadeDecoder(nn.Module):
    """Paints a frame from a map; everything in it is steered by that map.

    Args:
        steer: channels of the map.
        outside: channels of the last block.
        hidden: channels inside SPADE layers.
    """

    def __init__(self, steer: int = 256, outside: int = 64, hidden: int = 128):
        super().__init__()
        wide = 2 * steer
        self.fc = nn.Conv2d(steer, wide, 3, padding=1)
        for k in range(MIDDLE_BLOCKS):
            self.add_module(f"G_middle_{k}", SpadeBlock(wide, wide, steer, hidden))
        self.up_0 = SpadeBlock(wide, steer, steer, hidden)
        self.up_1 = SpadeBlock(steer, outside, steer, hidden)
        self.conv_img = nn.Conv2d(outside, 3, 3, padding=1)

    @property
    def middle(self) -> list["SpadeBlock"]:
        """The blocks at the size of the map."""
        return [self.get_submodule(f"G_middle_{k}") for k in range(MIDDLE_BLOCKS)]  # type: ignore[misc]

    def forward(self, steer_BSHW: Tensor) -> Tensor:
        """Frames in 0 .. 1 of four times the map's size."""
        x = self.fc(steer_BSHW)
        for block in self.middle:
            x = block(x, steer_BSHW)
        x = self.up_0(double(x), steer_BSHW)
        x = self.up_1(double(x), steer_BSHW)
        return self.conv_img(F.leaky_relu(x, SLOPE)).sigmoid()


class SpadeBlock(nn.Module):
    """Residual block whose normalisations are SPADE layers and whose convolutions have a spectral norm of 1.

    Where the number of channels changes, the shortcut has a SPADE layer and a 1x1 convolution of its own.
    """

    def __init__(self, inside: int, outside: int, steer: int, hidden: int):
        super().__init__()
        inner = min(inside, outside)
        self.conv_0 = spectral_norm(nn.Conv2d(inside, inner, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(inner, outside, 3, padding=1))
        self.norm_0, self.norm_1 = Spade(inside, steer, hidden), Spade(inner, steer, hidden)
        self.changes = inside != outside
        if self.changes:
            self.conv_s = spectral_norm(nn.Conv2d(inside, outside, 1, bias=False))
            self.norm_s = Spade(inside, steer, hidden)

    def forward(self, x_BCHW: Tensor, steer_BSHW: Tensor) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x_BCHW, steer_BSHW)) if self.changes else x_BCHW
        y = self.conv_0(F.leaky_relu(self.norm_0(x_BCHW, steer_BSHW), SLOPE))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(y, steer_BSHW), SLOPE))


class Spade(nn.Module):
    """Instance normalisation whose scale and offset are computed per pixel from a map (SPADE, section 3.1)."""

    def __init__(self, channels: int, steer: int, hidden: int):
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(steer, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor, steer_BSHW: Tensor) -> Tensor:
        hidden = self.mlp_shared(F.interpolate(steer_BSHW, x_BCHW.shape[2:]))
        return F.instance_norm(x_BCHW) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)
