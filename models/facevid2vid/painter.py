"""The generator's frames from one source picture, without work that frames have in common and at any precision.

The same results as `Generator` but for rounding:

- What depends on the source only is computed once (`Painter.look`).
- Normalisations with fixed statistics and spectral norms are folded into weights.
- Convolutions of repeated pixels run on the small map (`upsampled`).
- A decoder block normalises its input once, and before its pixels are repeated. The first layers of its SPADEs are one
  convolution; scale and offset are another, and exist for one row and column of every cell at a time.
- The offset of a shortcut's SPADE passes the shortcut's 1x1 convolution as weights, not as a map.
- All motions sample one volume; averaged are their shifts, not their grids.

Legend as in `generator` and `motion`.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.facevid2vid.blocks import ConvNorm, halve
from models.facevid2vid.generator import SLOPE, Generator, Spade, SpadeBlock, SpadeDecoder
from models.facevid2vid.motion import NEGLIGIBLE, DenseMotion, Hourglass, bells, identity_grid, warp
from models.facevid2vid.upsampled import PhaseConv, channels_last, repeated


class Look(NamedTuple):
    """What frames need to know of a source picture, float32.

    Args:
        volume: its appearance, shape (1, C, D, H, W).
        compressed: few channels of it, for the motion network, shape (1, c, D, H, W).
        keypoints: shape (1, K, 3).
        bells: Gaussians around these, shape (1, K, D, H, W).
    """

    volume: Tensor
    compressed: Tensor
    keypoints: Tensor
    bells: Tensor


class Painter(nn.Module):
    """Frames of one source picture.

    Args:
        generator: in evaluation mode; not needed afterwards.
        dtype: of the convolutions that cost, nine tenths of the work. The rest stays in float32: the source picture,
            positions, softmax, sampling, the decoder's input, normalisations and residuals, its first and last layer.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.encoder = SourceEncoder(generator)
        self.motion = FastMotion(generator.dense_motion_network)
        self.third, self.fourth = FoldedConv(generator.third), deepcopy(generator.fourth)
        self.decoder = FastDecoder(generator.decoder)
        self.dtype = dtype
        for heavy in (self.motion, self.decoder.blocks):
            heavy.to(dtype)
        self.requires_grad_(False).eval()
        for weight in self.parameters():
            if weight.ndim > 3:
                weight.data = weight.data.contiguous(memory_format=channels_last(weight.ndim))

    def look(self, image_13HW: Tensor, keypoints_1K3: Tensor) -> Look:
        """All that depends on the source only: its picture in 0 .. 1 and its keypoints."""
        volume, compressed = self.encoder(image_13HW)
        return Look(volume, compressed, keypoints_1K3, bells(volume.shape[2:], keypoints_1K3))

    def forward(self, look: Look, driving_BK3: Tensor) -> Tensor:
        """Frames with the driving keypoints, in 0 .. 1, float32, shape (B, 3, H, W)."""
        deformation, occlusion_B1HW = self.motion(look, driving_BK3, self.dtype)
        moved_BCHW = warp(look.volume, deformation).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        return self.decoder(self.fourth(self.third(moved_BCHW)) * occlusion_B1HW, self.dtype)


class FoldedConv(nn.Module):
    """A block's convolution with its normalisation in the weights, and its activation."""

    def __init__(self, block: ConvNorm):
        super().__init__()
        self.conv = fuse_conv_bn_eval(block.conv, block.norm)
        self.slope = block.slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.conv(x), self.slope)


class SourceEncoder(nn.Module):
    """The generator's encoder, and the motion network's view of its volume."""

    def __init__(self, generator: Generator):
        super().__init__()
        motion = generator.dense_motion_network
        self.first = FoldedConv(generator.first)
        self.down_blocks = nn.ModuleList(FoldedConv(block) for block in generator.down_blocks)  # type: ignore[arg-type]
        self.second, self.resblocks = deepcopy(generator.second), deepcopy(generator.resblocks_3d)
        self.depth = generator.depth
        self.compress = fuse_conv_bn_eval(motion.compress, motion.norm)

    def forward(self, image_13HW: Tensor) -> tuple[Tensor, Tensor]:
        """Volume and compressed volume of a picture in 0 .. 1."""
        x = self.first(image_13HW)
        for block in self.down_blocks:
            x = halve(block(x))
        volume = self.resblocks(self.second(x).unflatten(1, (-1, self.depth)))
        return volume, self.compress(volume).relu()


# ---- motion


class FastMotion(nn.Module):
    """`DenseMotion` of a source that is known."""

    def __init__(self, motion: DenseMotion):
        super().__init__()
        self.hourglass = FastHourglass(motion.hourglass)
        self.mask, self.occlusion = deepcopy(motion.mask), deepcopy(motion.occlusion)

    def forward(self, look: Look, driving_BK3: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Deformation and occlusion, float32, as in `motion.Flow`."""
        shape = look.volume.shape[2:]
        grid_DHW3 = identity_grid(shape, driving_BK3)
        shift_BK3 = look.keypoints - driving_BK3
        shift_BM3 = F.pad(shift_BK3, (0, 0, 1, 0))
        motions = grid_DHW3 + shift_BM3.flatten(0, 1)[:, None, None, None]
        moved_BMCDHW = warp(look.compressed, motions).unflatten(0, shift_BM3.shape[:2])
        heat_BMDHW = F.pad(bells(shape, driving_BK3) - look.bells, (0,) * 6 + (1, 0))
        hints = torch.cat([heat_BMDHW.unsqueeze(2), moved_BMCDHW], 2).flatten(1, 2)
        seen = self.hourglass(hints.to(dtype, memory_format=torch.channels_last_3d))
        mask_BMDHW = self.mask(seen).float().softmax(1)
        mask_BMDHW = mask_BMDHW.masked_fill(mask_BMDHW < NEGLIGIBLE, 0)
        drift = torch.einsum("bkdhw,bkc->bdhwc", mask_BMDHW[:, 1:], shift_BK3)
        deformation = mask_BMDHW.sum(1)[..., None] * grid_DHW3 + drift
        return deformation, self.occlusion(seen.flatten(1, 2)).float().sigmoid()


class FastHourglass(nn.Module):
    """`Hourglass` on volumes with their channels last."""

    def __init__(self, hourglass: Hourglass):
        super().__init__()
        decoder = hourglass.decoder
        self.down_blocks = nn.ModuleList(FoldedConv(b) for b in hourglass.encoder.down_blocks)  # type: ignore[arg-type]
        folded = [fuse_conv_bn_eval(block.conv, block.norm) for block in decoder.up_blocks]  # type: ignore[union-attr]
        self.up_blocks: list[PhaseConv] = nn.ModuleList(_phase_conv([conv], 2) for conv in folded)  # type: ignore[assignment]
        self.conv = fuse_conv_bn_eval(decoder.conv, decoder.norm)

    def forward(self, x: Tensor) -> Tensor:
        levels = [x]
        for block in self.down_blocks:
            levels.append(_halve_planes(block(levels[-1])))
        *skips, x = levels
        for block, skip in zip(self.up_blocks, reversed(skips)):
            x = torch.cat([block.whole(x).relu_(), skip], 1)
        return self.conv(x).relu_()


def _halve_planes(x_BCDHW: Tensor) -> Tensor:
    """Mean of every 2x2 pixels; as pictures, for which pooling with the channels last is fast."""
    planes = halve(x_BCDHW.transpose(1, 2).flatten(0, 1))
    return planes.unflatten(0, (-1, x_BCDHW.shape[2])).transpose(1, 2)


# ---- decoder


class FastDecoder(nn.Module):
    """`SpadeDecoder`; its first and last layer, and what is between its blocks, are in float32."""

    def __init__(self, decoder: SpadeDecoder):
        super().__init__()
        self.fc, self.conv_img = deepcopy(decoder.fc), deepcopy(decoder.conv_img)
        repetitions = [1] * len(decoder.middle) + [2, 4]
        blocks = [*decoder.middle, decoder.up_0, decoder.up_1]
        self.blocks = nn.ModuleList(FastSpadeBlock(block, times) for block, times in zip(blocks, repetitions))

    def forward(self, steer_BSHW: Tensor, dtype: torch.dtype) -> Tensor:
        """Frames in 0 .. 1, float32, from a map in float32; convolutions in `dtype`."""
        x, low_BSHW = self.fc(steer_BSHW), steer_BSHW.to(dtype)
        for block in self.blocks:
            x = block(x, low_BSHW)
        return self.conv_img(F.leaky_relu_(x, SLOPE)).sigmoid()


class FastSpadeBlock(nn.Module):
    """`SpadeBlock`, and the doubling before it.

    Args:
        block: to replace.
        repeats: how often a pixel of the steering map is repeated, both ways, to give the size of the result. If it
            is, the block's input is doubled.
    """

    def __init__(self, block: SpadeBlock, repeats: int):
        super().__init__()
        spades = [block.norm_0, block.norm_1] + ([block.norm_s] if block.changes else [])
        self.shared = _phase_conv([spade.mlp_shared[0] for spade in spades], repeats)
        self.scale_0, self.scale_1 = (_modulation(spade, self.shared) for spade in spades[:2])
        self.conv_0, self.conv_1 = _normed(block.conv_0), _normed(block.conv_1)
        self.changes = block.changes
        if block.changes:
            self.conv_s = _normed(block.conv_s)
            self.scale_s = _modulation(block.norm_s, self.shared, self.conv_s)
        self.spades, self.repeats, self.growth = len(spades), repeats, min(2, repeats)

    def forward(self, x_BCHW: Tensor, steer_BSHW: Tensor) -> Tensor:
        """Result, float32 as the input, shape (B, c, growth H, growth W)."""
        hidden = self.shared.whole(steer_BSHW).relu_().chunk(self.spades, 1)
        hidden = [part.contiguous(memory_format=torch.channels_last) for part in hidden]
        normal = _normalise(x_BCHW)
        y = self._canvas(normal, self.conv_0.in_channels, hidden[0].dtype)
        self._steer(self.scale_0, hidden[0], normal, self.growth, y)
        y = self.conv_0(y)
        self._steer(self.scale_1, hidden[1], _normalise(y.float()), 1, y)
        y = self.conv_1(y)
        return y + (self._shortcut(normal, hidden[2]) if self.changes else x_BCHW)

    def _steer(self, scale: PhaseConv, hidden: Tensor, normal: Tensor, growth: int, out: Tensor) -> None:
        """Scale, shift and activate a normalised map, of the result's size over `growth`, into `out`."""
        for row, column, both in scale(hidden):
            gamma, beta = both.chunk(2, 1)
            part = self._cells(normal, row, column, growth)
            part = torch.addcmul(part + beta, part, gamma)
            out[:, :, row :: self.repeats, column :: self.repeats] = F.leaky_relu_(part, SLOPE)

    def _shortcut(self, normal: Tensor, hidden: Tensor) -> Tensor:
        out = self._canvas(normal, self.conv_s.out_channels, normal.dtype)
        for row, column, both in self.scale_s(hidden):
            gamma, offset = both.split([self.conv_s.in_channels, self.conv_s.out_channels], 1)
            part = self._cells(normal, row, column, self.growth)
            part = self.conv_s(torch.addcmul(part, part, gamma).to(hidden.dtype))
            out[:, :, row :: self.repeats, column :: self.repeats] = part.to(out.dtype).add_(offset)
        return out

    def _cells(self, x: Tensor, row: int, column: int, growth: int) -> Tensor:
        """One row and column of all cells, of a map whose pixels are to be repeated `growth` times."""
        step = self.repeats // growth
        return x[:, :, row // growth :: step, column // growth :: step]

    def _canvas(self, like: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
        height, width = (size * self.growth for size in like.shape[2:])
        shape = (len(like), channels, height, width)
        return torch.empty(shape, dtype=dtype, device=like.device, memory_format=torch.channels_last)


def _normalise(x_BCHW: Tensor) -> Tensor:
    """Instance normalisation; as a group norm, which needs no other layout than channels last."""
    return F.group_norm(x_BCHW, x_BCHW.shape[1])


def _phase_conv(convolutions: Sequence[nn.Module], repeats: int) -> PhaseConv:
    """Convolutions of one map whose pixels are repeated, side by side."""
    weights, biases = zip(*((conv.get_parameter("weight"), conv.get_parameter("bias")) for conv in convolutions))
    return PhaseConv(torch.cat(weights), torch.cat(biases), repeated(repeats))


def _modulation(spade: Spade, shared: PhaseConv, after: nn.Conv2d | None = None) -> PhaseConv:
    """Scale and offset of a SPADE layer side by side; the offset as it leaves a 1x1 convolution, if one follows."""
    gamma, beta = spade.mlp_gamma, spade.mlp_beta
    assert gamma.bias is not None and beta.bias is not None
    weight, bias = beta.weight, beta.bias
    if after is not None:
        mix = after.weight.flatten(1)
        weight, bias = torch.einsum("oc,cikl->oikl", mix, weight), mix @ bias
    return PhaseConv(torch.cat([gamma.weight, weight]), torch.cat([gamma.bias, bias]), shared.slots)


def _normed(conv: nn.Module) -> nn.Conv2d:
    """A convolution whose weights have the spectral norm in them."""
    weight_orig, u, v = conv.get_parameter("weight_orig"), conv.get_buffer("weight_u"), conv.get_buffer("weight_v")
    assert isinstance(conv, nn.Conv2d)
    outside, inside, kernel, _ = weight_orig.shape
    plain = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=conv.bias is not None)
    with torch.no_grad():
        plain.weight.copy_(weight_orig / torch.dot(u, weight_orig.flatten(1) @ v))
        if plain.bias is not None and conv.bias is not None:
            plain.bias.copy_(conv.bias)
    return plain
