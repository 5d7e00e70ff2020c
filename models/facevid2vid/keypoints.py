"""Where the keypoints of face-vid2vid are, and where head pose and expression put them.

Wang, Mallya, Liu: One-Shot Free-View Neural Talking-Head Synthesis for Video Conferencing (2021), section 3.1, as far
as the re-implementation that SadTalker's weights belong to follows it. Modules carry the names of its published files.

Keypoints and grids are (x, y, z) in -1 .. 1: x to the right, y down, z along the volume's depth.

Legend: B pictures, K keypoints, L bins, C channels, D depth, H W pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.facevid2vid.blocks import Down, Up, growth

BINS = 66  # of every angle
BIN_DEGREES, FIRST_DEGREES = 3.0, -99.0  # width of a bin, angle of the first
HALF_TURN = 3.14  # what the published weights were trained with instead of pi
RATIO_SIGMA = 0.5  # deviation of the blur before taking every n-th pixel, per pixel that is skipped


class Head(NamedTuple):
    """Pose and expression of heads, as the estimators give them.

    Args:
        yaw, pitch, roll: logits of the bins, shape (B, L).
        translation: shape (B, 3).
        expression: shifts of the keypoints, shape (B, 3 K).
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor
    expression: Tensor


class Angles(NamedTuple):
    """Angles in degrees, shape (B,) each."""

    yaw: Tensor
    pitch: Tensor
    roll: Tensor


def degrees(logits_BL: Tensor) -> Tensor:
    """Expected angle of bins of 3 degrees from -99, shape (B,)."""
    number_L = torch.arange(logits_BL.shape[1], dtype=logits_BL.dtype, device=logits_BL.device)
    return (logits_BL.softmax(1) * number_L).sum(1) * BIN_DEGREES + FIRST_DEGREES


def angles(head: Head) -> Angles:
    """Expected angles of heads."""
    return Angles(degrees(head.yaw), degrees(head.pitch), degrees(head.roll))


def rotation(turn: Angles) -> Tensor:
    """Rx(pitch) Ry(yaw) Rz(roll), shape (B, 3, 3), with 180 degrees as 3.14 rad."""
    yaw, pitch, roll = (angle / 180 * HALF_TURN for angle in turn)
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, 1).view(-1, 3, 3)

    cos, sin = pitch.cos(), pitch.sin()
    about_x = matrix(one, zero, zero, zero, cos, -sin, zero, sin, cos)
    cos, sin = yaw.cos(), yaw.sin()
    about_y = matrix(cos, zero, sin, zero, one, zero, -sin, zero, cos)
    cos, sin = roll.cos(), roll.sin()
    about_z = matrix(cos, -sin, zero, sin, cos, zero, zero, zero, one)
    return about_x @ about_y @ about_z


def turn_of(matrix_B33: Tensor) -> Angles:
    """The inverse of `rotation`, for yaws within a quarter turn.

    Head rotations of `models.interfaces` have the same axes but another order: their matrices, not their angles, are
    the same here.
    """
    yaw = matrix_B33[:, 0, 2].clamp(-1, 1).asin()
    pitch = torch.atan2(-matrix_B33[:, 1, 2], matrix_B33[:, 2, 2])
    roll = torch.atan2(-matrix_B33[:, 0, 1], matrix_B33[:, 0, 0])
    return Angles(*(angle / HALF_TURN * 180 for angle in (yaw, pitch, roll)))


def place(canonical_BK3: Tensor, head: Head, turn: Angles | None = None) -> Tensor:
    """Keypoints of a head in a pose: R kp + t + expression (equation 2 of the paper), shape (B, K, 3).

    Of the translation only y counts, as in the published weights' training.

    Args:
        canonical_BK3: keypoints of the portrait in its neutral pose; one picture serves all heads.
        head: pose and expression.
        turn: angles to use instead of the head's.
    """
    keypoints = canonical_BK3 @ rotation(turn or angles(head)).transpose(1, 2)
    lift_B13 = head.translation[:, None] * keypoints.new_tensor([0.0, 1.0, 0.0])
    return keypoints + lift_B13 + head.expression.view(len(head.expression), -1, 3)


def grid_axes(shape: Sequence[int], like: Tensor) -> list[Tensor]:
    """Coordinates of a volume's samples along each axis, from -1 to 1 inclusive, in the order of `shape`."""
    return [torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device) for size in shape]


class KeypointDetector(nn.Module):
    """Canonical keypoints of a picture (section 3.1, "canonical keypoint detection").

    Args:
        keypoints: their number.
        width, max_width: channels of the last and of the widest layer.
        blocks: halvings of the already reduced picture.
        depth: of the volume that the picture is lifted to.
        temperature: of the softmax over the volume.
        shrink: the picture is reduced by this whole factor first.
    """

    def __init__(
        self,
        keypoints: int = 15,
        width: int = 32,
        max_width: int = 1024,
        blocks: int = 5,
        depth: int = 16,
        temperature: float = 0.1,
        shrink: int = 4,
    ):
        super().__init__()
        self.down = BlurShrink(3, shrink)
        self.predictor = Lifting(width, max_width, blocks, depth)
        self.kp = nn.Conv3d(width, keypoints, 3, padding=1)
        self.temperature = temperature

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Keypoints, shape (B, K, 3), of pictures in 0 .. 1."""
        logits_BKDHW = self.kp(self.predictor(self.down(image_B3HW)))
        heat_BKDHW = (logits_BKDHW.flatten(2) / self.temperature).softmax(2).view_as(logits_BKDHW)
        z_D, y_H, x_W = grid_axes(heat_BKDHW.shape[2:], heat_BKDHW)
        x_BK, y_BK = heat_BKDHW.sum((2, 3)) @ x_W, heat_BKDHW.sum((2, 4)) @ y_H
        return torch.stack([x_BK, y_BK, heat_BKDHW.sum((3, 4)) @ z_D], 2)


class BlurShrink(nn.Module):
    """Every n-th pixel of a blurred picture; beyond the border it is black.

    Args:
        channels: of the picture.
        factor: n.
    """

    def __init__(self, channels: int, factor: int):
        super().__init__()
        sigma = (factor - 1) * RATIO_SIGMA
        self.reach = round(4 * sigma)
        offset = torch.arange(-self.reach, self.reach + 1, dtype=torch.float32)
        bell = (-(offset**2) / (2 * sigma**2)).exp() if sigma else torch.ones(1)
        kernel = torch.outer(bell, bell) / bell.sum() ** 2
        self.register_buffer("weight", kernel.expand(channels, 1, -1, -1).clone())
        self.factor = factor

    def forward(self, image_BCHW: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        return F.conv2d(image_BCHW, weight, stride=self.factor, padding=self.reach, groups=len(weight))


class Lifting(nn.Module):
    """Hourglass from a picture to a volume: two-dimensional going down, three-dimensional going up."""

    def __init__(self, width: int, max_width: int, blocks: int, depth: int):
        super().__init__()
        widths = growth(width, max_width, blocks)
        self.down_blocks = nn.Sequential()
        for k in range(blocks):
            self.down_blocks.add_module(f"down{k}", Down(widths[k] if k else 3, widths[k + 1]))
        self.conv = nn.Conv2d(widths[-1], widths[-1] * depth, 1)
        self.up_blocks = nn.Sequential()
        for k in range(blocks):
            self.up_blocks.add_module(f"up{k}", Up(widths[blocks - k], widths[blocks - k - 1], dims=3))
        self.depth = depth

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Volumes, shape (B, width, D, H, W)."""
        lifted = self.conv(self.down_blocks(image_B3HW))
        return self.up_blocks(lifted.unflatten(1, (-1, self.depth)))


class HeadEstimator(nn.Module):
    """Pose and expression of pictures (section 3.1, "head pose and expression estimation"); for training only.

    A ResNet of bottlenecks. The published weights have yaw and roll the wrong way round: their head `fc_roll` gives
    yaw, `fc_yaw` gives roll.

    Args:
        keypoints: their number.
        width: channels after the first layer.
        max_width: channels of the last.
        bins: of every angle.
    """

    def __init__(self, keypoints: int = 15, width: int = 64, max_width: int = 2048, bins: int = BINS):
        super().__init__()
        widths = [max_width // 8, max_width // 4, max_width // 2, max_width]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, widths[0], 1), nn.BatchNorm2d(widths[0])
        self.block1 = _bottlenecks("b1", widths[0], 3)
        self.conv3, self.norm3 = nn.Conv2d(widths[0], widths[1], 1), nn.BatchNorm2d(widths[1])
        self.block2, self.block3 = Bottleneck(widths[1], stride=2), _bottlenecks("b3", widths[1], 3)
        self.conv4, self.norm4 = nn.Conv2d(widths[1], widths[2], 1), nn.BatchNorm2d(widths[2])
        self.block4, self.block5 = Bottleneck(widths[2], stride=2), _bottlenecks("b5", widths[2], 5)
        self.conv5, self.norm5 = nn.Conv2d(widths[2], widths[3], 1), nn.BatchNorm2d(widths[3])
        self.block6, self.block7 = Bottleneck(widths[3], stride=2), _bottlenecks("b7", widths[3], 2)
        self.fc_roll = nn.Linear(max_width, bins)
        self.fc_pitch = nn.Linear(max_width, bins)
        self.fc_yaw = nn.Linear(max_width, bins)
        self.fc_t = nn.Linear(max_width, 3)
        self.fc_exp = nn.Linear(max_width, 3 * keypoints)

    def forward(self, image_B3HW: Tensor) -> Head:
        """Heads of pictures in 0 .. 1."""
        x = F.max_pool2d(self.norm1(self.conv1(image_B3HW)).relu(), 3, stride=2, padding=1)
        x = self.block1(self.norm2(self.conv2(x)).relu())
        x = self.block3(self.block2(self.norm3(self.conv3(x)).relu()))
        x = self.block5(self.block4(self.norm4(self.conv4(x)).relu()))
        x_BC = self.block7(self.block6(self.norm5(self.conv5(x)).relu())).mean((2, 3))
        yaw, roll = self.fc_roll(x_BC), self.fc_yaw(x_BC)
        return Head(yaw, self.fc_pitch(x_BC), roll, self.fc_t(x_BC), self.fc_exp(x_BC))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a quarter of the channels, added to the input."""

    def __init__(self, width: int, stride: int = 1):
        super().__init__()
        inner = width // 4
        self.conv1, self.norm1 = nn.Conv2d(width, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.norm2 = nn.Conv2d(inner, inner, 3, stride, padding=1), nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width)
        if stride != 1:
            self.skip, self.norm4 = nn.Conv2d(width, width, 1, stride), nn.BatchNorm2d(width)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        y = self.norm3(self.conv3(y))
        return (y + (x if self.stride == 1 else self.norm4(self.skip(x)))).relu()


def _bottlenecks(name: str, width: int, count: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for k in range(count):
        blocks.add_module(f"{name}_{k}", Bottleneck(width))
    return blocks
