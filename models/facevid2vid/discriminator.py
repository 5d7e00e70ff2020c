"""Tells real pictures from generated ones patch by patch (face-vid2vid, supplement A.1), for training only.

No published file of SadTalker holds one; names follow the generator's.

Legend: B pictures, C channels, H W pixels.
"""

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from models.facevid2vid.blocks import growth

SLOPE = 0.2
KERNEL = 4


class Verdict(NamedTuple):
    """What a discriminator makes of pictures.

    Args:
        realness: of every patch, unbounded, shape (B, 1, h, w).
        features: outputs of all blocks, shape (B, C, h, w) each.
    """

    realness: Tensor
    features: list[Tensor]


class Discriminator(nn.Module):
    """One scale.

    Args:
        width, max_width: channels.
        blocks: convolutions; all but the last halve the picture.
    """

    def __init__(self, width: int = 32, max_width: int = 512, blocks: int = 4):
        super().__init__()
        widths = [3, *growth(width, max_width, blocks)[1:]]
        self.down_blocks = nn.ModuleList(
            PatchBlock(a, b, normed=k > 0, halved=k < blocks - 1) for k, (a, b) in enumerate(pairwise(widths))
        )
        self.conv = spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, image_B3HW: Tensor) -> Verdict:
        """The verdict on pictures in 0 .. 1."""
        features = []
        for block in self.down_blocks:
            features.append(block(features[-1] if features else image_B3HW))
        return Verdict(self.conv(features[-1]), features)


class PatchBlock(nn.Module):
    """Convolution without a border, instance normalisation, activation, mean of 2x2 pixels."""

    def __init__(self, inside: int, outside: int, normed: bool, halved: bool):
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(inside, outside, KERNEL))
        self.norm = nn.InstanceNorm2d(outside, affine=True) if normed else None
        self.halved = halved

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = F.leaky_relu(x if self.norm is None else self.norm(x), SLOPE)
        return F.avg_pool2d(x, 2) if self.halved else x


class MultiScaleDiscriminator(nn.Module):
    """The same judgement of smaller copies of a picture, by a discriminator each.

    Args:
        halvings: of the picture, per discriminator; the paper takes (0,) at 256 px and (0, 1) at 512 px.
        width, max_width, blocks: of each discriminator.
    """

    def __init__(self, halvings: tuple[int, ...] = (0,), width: int = 32, max_width: int = 512, blocks: int = 4):
        super().__init__()
        self.halvings = halvings
        self.discs = nn.ModuleList(Discriminator(width, max_width, blocks) for _ in halvings)

    def forward(self, image_B3HW: Tensor) -> list[Verdict]:
        """One verdict per scale on pictures in 0 .. 1."""
        return [disc(shrunk(image_B3HW, times)) for disc, times in zip(self.discs, self.halvings)]


def shrunk(image_BCHW: Tensor, halvings: int) -> Tensor:
    """A picture halved some times: mean of the pixels that become one."""
    return image_BCHW if not halvings else F.avg_pool2d(image_BCHW, 2**halvings)
