"""The Inception-v3 of FID: TensorFlow's network of 2015 under the names of its PyTorch port.

The weights are those of `pt_inception-2015-12-05-6726825d.pth`. The network differs from torchvision's in its
poolings: averages leave the padding out, and the last block takes a maximum. What is done with the features is in
`frechet`. Legend: B pictures, C channels, H W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoint import load_strict

FEATURES = 2048
SIZE = 299  # pixels: what pictures are resized to
CLASSES = 1008  # of the classifier, which the file holds and FID has no use for
EPSILON = 0.001  # of batch normalisation


class ConvUnit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=EPSILON)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x_BCHW)), inplace=True)


def _row(inside: int, outside: int, length: int) -> ConvUnit:
    """A convolution along rows that keeps the size."""
    return ConvUnit(inside, outside, (1, length), padding=(0, length // 2))


def _column(inside: int, outside: int, length: int) -> ConvUnit:
    """A convolution along columns that keeps the size."""
    return ConvUnit(inside, outside, (length, 1), padding=(length // 2, 0))


def _mean_of_neighbours(x_BCHW: Tensor) -> Tensor:
    return F.avg_pool2d(x_BCHW, 3, stride=1, padding=1, count_include_pad=False)


def _greatest_neighbour(x_BCHW: Tensor) -> Tensor:
    return F.max_pool2d(x_BCHW, 3, stride=1, padding=1)


class BlockA(nn.Module):
    """Branches of 1x1, 5x5, twice 3x3, and a pooling; "Mixed_5"."""

    def __init__(self, inside: int, pooled: int):
        super().__init__()
        self.branch1x1 = ConvUnit(inside, 64, 1)
        self.branch5x5_1 = ConvUnit(inside, 48, 1)
        self.branch5x5_2 = ConvUnit(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvUnit(inside, 64, 1)
        self.branch3x3dbl_2 = ConvUnit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, padding=1)
        self.branch_pool = ConvUnit(inside, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_mean_of_neighbours(x))], 1)


class BlockB(nn.Module):
    """Halves the picture from 35 to 17 pixels; "Mixed_6a"."""

    def __init__(self, inside: int):
        super().__init__()
        self.branch3x3 = ConvUnit(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvUnit(inside, 64, 1)
        self.branch3x3dbl_2 = ConvUnit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """7x7 convolutions taken apart into rows and columns; "Mixed_6b" to "Mixed_6e"."""

    def __init__(self, inside: int, inner: int):
        super().__init__()
        self.branch1x1 = ConvUnit(inside, 192, 1)
        self.branch7x7_1 = ConvUnit(inside, inner, 1)
        self.branch7x7_2 = _row(inner, inner, 7)
        self.branch7x7_3 = _column(inner, 192, 7)
        self.branch7x7dbl_1 = ConvUnit(inside, inner, 1)
        self.branch7x7dbl_2 = _column(inner, inner, 7)
        self.branch7x7dbl_3 = _row(inner, inner, 7)
        self.branch7x7dbl_4 = _column(inner, inner, 7)
        self.branch7x7dbl_5 = _row(inner, 192, 7)
        self.branch_pool = ConvUnit(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_mean_of_neighbours(x))], 1)


class BlockD(nn.Module):
    """Halves the picture from 17 to 8 pixels; "Mixed_7a"."""

    def __init__(self, inside: int):
        super().__init__()
        self.branch3x3_1 = ConvUnit(inside, 192, 1)
        self.branch3x3_2 = ConvUnit(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvUnit(inside, 192, 1)
        self.branch7x7x3_2 = _row(192, 192, 7)
        self.branch7x7x3_3 = _column(192, 192, 7)
        self.branch7x7x3_4 = ConvUnit(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        three = self.branch3x3_2(self.branch3x3_1(x))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """3x3 convolutions split into rows beside columns; "Mixed_7b" and, with the maximum, "Mixed_7c"."""

    def __init__(self, inside: int, takes_maximum: bool):
        super().__init__()
        self.branch1x1 = ConvUnit(inside, 320, 1)
        self.branch3x3_1 = ConvUnit(inside, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = ConvUnit(inside, 448, 1)
        self.branch3x3dbl_2 = ConvUnit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = ConvUnit(inside, 192, 1)
        self._pool = _greatest_neighbour if takes_maximum else _mean_of_neighbours

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(self._pool(x)),
            ],
            1,
        )


class Inception(nn.Module):
    """Pictures to the 2048 numbers that FID compares."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Mixed_5b = BlockA(192, pooled=32)
        self.Mixed_5c = BlockA(256, pooled=64)
        self.Mixed_5d = BlockA(288, pooled=64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, inner=128)
        self.Mixed_6c = BlockC(768, inner=160)
        self.Mixed_6d = BlockC(768, inner=160)
        self.Mixed_6e = BlockC(768, inner=192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, takes_maximum=False)
        self.Mixed_7c = BlockE(2048, takes_maximum=True)
        self.fc = nn.Linear(FEATURES, CLASSES)  # loaded, never asked

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Inception":
        """The network with published weights. Raises WeightsError."""
        network = cls()
        load_strict(network, path, optional=["fc."])
        return network.to(device)

    def forward(self, pictures_B3HW: Tensor) -> Tensor:
        """RGB in -1 .. 1, 299 pixels wide and high, to features of shape (B, 2048)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pictures_B3HW)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))

    @torch.inference_mode()
    def features(self, frames: np.ndarray) -> np.ndarray:
        """Features of RGB pictures of any one size, uint8, shape (B, H, W, 3): float32, shape (B, 2048)."""
        pictures = torch.tensor(frames, device=next(self.parameters()).device).permute(0, 3, 1, 2).float() / 255
        resized = F.interpolate(pictures, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        return self(2 * resized - 1).cpu().numpy()
