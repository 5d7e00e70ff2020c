"""Morphable-model coefficients of an aligned picture: the ResNet-50 of Deep3DFaceRecon (Deng et al., 2019).

SadTalker's file holds it under `face_3drecon.`. Modules carry the names of that file; the backbone is torchvision's
ResNet-50 v1.5 without its classifier.

Legend: B pictures, C channels, H W pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE_PX = 224  # of the aligned picture
STAGES = (3, 4, 6, 3)  # blocks of the stages
EXPANSION = 4
# coefficients of the output heads: identity, expression, texture, angles, light, translation in the plane and in depth
HEADS = (80, 64, 80, 3, 27, 2, 1)


class Coefficients(NamedTuple):
    """One row per picture.

    Args:
        identity: shape (B, 80).
        expression: shape (B, 64).
        texture: shape (B, 80).
        angles: radians, shape (B, 3).
        light: 9 spherical harmonics each of red, green, blue, shape (B, 27).
        translation: shape (B, 3).
    """

    identity: Tensor
    expression: Tensor
    texture: Tensor
    angles: Tensor
    light: Tensor
    translation: Tensor


def split(rows_BC: Tensor) -> Coefficients:
    """The parts of rows of 257."""
    return Coefficients(*rows_BC.split([80, 64, 80, 3, 27, 3], 1))


class ReconNet(nn.Module):
    """Picture to 257 coefficients of the Basel model.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.backbone = ResNet(width)
        self.final_layers = nn.ModuleList(nn.Conv2d(self.backbone.outside, count, 1) for count in HEADS)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Rows (B, 257) of RGB pictures in 0 .. 1, 224 px, without any further normalisation."""
        features = self.backbone(image_B3HW)
        return torch.cat([head(features) for head in self.final_layers], 1).flatten(1)


class ResNet(nn.Module):
    """ResNet-50 up to the mean over the picture, shape (B, C, 1, 1)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inside = width
        for number, blocks in enumerate(STAGES):
            inner = width * 2**number
            stage = nn.Sequential()
            for k in range(blocks):
                stride = 2 if number and not k else 1
                stage.append(Bottleneck(inside, inner, stride))
                inside = inner * EXPANSION
            self.add_module(f"layer{number + 1}", stage)
        self.outside = inside

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, stride=2, padding=1)
        for number in range(len(STAGES)):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return x.mean((2, 3), keepdim=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, added to the input or to its projection."""

    def __init__(self, inside: int, inner: int, stride: int):
        super().__init__()
        outside = inner * EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(inside, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outside, 1, bias=False), nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()
