"""Convolution blocks that the networks of face-vid2vid share, in two and three dimensions.

Legend: B pictures, C channels, D depth, H W pixels. A block of three dimensions never changes the depth.
"""

from torch import Tensor, nn
from torch.nn import functional as F


def growth(width: int, max_width: int, blocks: int) -> list[int]:
    """Channels at every level of a pyramid: doubled block by block up to `max_width`; `blocks` + 1 numbers."""
    return [min(max_width, width * 2**k) for k in range(blocks + 1)]


class ConvNorm(nn.Module):
    """Convolution that keeps the size, batch normalisation, ReLU.

    Args:
        inside, outside: channels.
        dims: 2 or 3.
        kernel: odd.
        slope: of the activation below zero.
    """

    def __init__(self, inside: int, outside: int, dims: int = 2, kernel: int = 3, slope: float = 0.0):
        super().__init__()
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv = convolution(inside, outside, kernel, padding=kernel // 2)
        self.norm = norm(outside)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), self.slope)


class Down(ConvNorm):
    """The same, then the mean of every 2x2 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return halve(super().forward(x))


class Up(ConvNorm):
    """The same after repeating every pixel 2x2 times."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(double(x))


def halve(x: Tensor) -> Tensor:
    """Mean of every 2x2 pixels of maps (B, C, H, W) or volumes (B, C, D, H, W)."""
    return F.avg_pool2d(x, 2) if x.ndim == 4 else F.avg_pool3d(x, (1, 2, 2))


def double(x: Tensor) -> Tensor:
    """Every pixel 2x2 times, of maps (B, C, H, W) or volumes (B, C, D, H, W)."""
    return F.interpolate(x, scale_factor=2.0 if x.ndim == 4 else (1.0, 2.0, 2.0))
