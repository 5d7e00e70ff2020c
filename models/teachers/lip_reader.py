"""The lip reader that corrects SadTalker's ExpNet, and its sibling that listens (Ma et al., 2022).

A ResNet-18 per frame of pictures or of sound, then a densely connected temporal convolutional network (DC-TCN), whose
mean over time tells which of the 500 words of "Lip Reading in the Wild" it was. Names are those of the published files,
which the user brings (lrw_resnet18_dctcn_video, lrw_resnet18_dctcn_audio; for research only).

Legend: B clips, T frames, C channels, S pixels of a side, W words.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from models.checkpoint import fill, read_state
from models.errors import WeightsError
from models.interfaces import SAMPLES_PER_FRAME

CHANNELS = (64, 128, 256, 512)  # of the stages of the ResNet
WORDS, REDUCED, GROWTH = 500, 512, 384  # told; channels between dense blocks; what a layer of one adds
BLOCKS, KERNELS, DILATIONS = 4, (3, 5, 7), (1, 2, 5)  # dense blocks; branches of a layer; one layer per dilation
SQUEEZED = 16  # channels in one of a squeeze
DROPPED = 0.2
PICTURE_MEAN, PICTURE_SPREAD = 0.421, 0.165  # of the brightness of mouths
SILENT = 1e-4  # standard deviation of samples
SENSES = {"video": nn.Conv2d, "audio": nn.Conv1d}
NORMS = {"video": nn.BatchNorm2d, "audio": nn.BatchNorm1d}


class LipReader(nn.Module):
    """Mouths or sounds to words.

    Args:
        sense: "video" or "audio".
        channels: of the ResNet's stages.
        words, reduced, growth: sizes of the network over time.
    """

    def __init__(
        self,
        sense: str,
        channels: tuple[int, ...] = CHANNELS,
        words: int = WORDS,
        reduced: int = REDUCED,
        growth: int = GROWTH,
    ):
        super().__init__()
        self._sense = sense
        if sense == "video":
            self.frontend3D = nn.Sequential(
                nn.Conv3d(1, channels[0], (5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3), bias=False),
                nn.BatchNorm3d(channels[0]),
                nn.SiLU(),
                nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            )
        self.trunk = _ResNet(sense, channels)
        self.tcn = _DenseTcn(channels[-1], words, reduced, growth)

    @classmethod
    def load(cls, path: Path, sense: str) -> "LipReader":
        """A network of any size from its weights, frozen.

        Args:
            path: safetensors, or a training checkpoint with the state dict "model_state_dict".
            sense: what it is of, "video" or "audio".
        Raises:
            WeightsError: the file is damaged, of another network, or of the other sense.
        """
        state = read_state(path, "model_state_dict")
        if ("frontend3D.0.weight" in state) != (sense == "video"):
            raise WeightsError(path, f"is not the lip reader for {sense}: its sibling, or another network")
        try:
            sizes = sizes_of(state)
        except KeyError as error:
            raise WeightsError(path, f"is not a lip reader with a DC-TCN: {error} is missing") from error
        entry = state["tcn.tcn_trunk.features.transition0.conv.weight"].shape[1]
        if entry == sizes["channels"][-1] + 1:
            raise WeightsError(path, "wants to be told where words begin: take the one without 'boundary' in its name")
        network = cls(sense, **sizes)
        fill(network, state, path)
        return network

    def forward(self, given: Tensor) -> Tensor:
        """Logits of the words, shape (B, W).

        Args:
            given: brightness of mouths in 0 .. 1, shape (B, T, S, S), S = 88 as it was trained; or sound of T frames,
                16 kHz, any level, shape (B, 640 T).
        """
        flow_BCT = self._seen(given) if self._sense == "video" else self._heard(given)
        return self.tcn(flow_BCT)

    def _seen(self, mouths_BTSS: Tensor) -> Tensor:
        clips, frames = mouths_BTSS.shape[:2]
        flow_BCTSS = self.frontend3D(((mouths_BTSS - PICTURE_MEAN) / PICTURE_SPREAD)[:, None])
        flow_NC = self.trunk(flow_BCTSS.transpose(1, 2).flatten(0, 1)).mean((2, 3))
        return flow_NC.view(clips, frames, -1).transpose(1, 2)

    def _heard(self, samples_BS: Tensor) -> Tensor:
        spread_B1 = samples_BS.std(1, correction=0, keepdim=True).clamp(min=SILENT)
        return self.trunk(((samples_BS - samples_BS.mean(1, keepdim=True)) / spread_B1)[:, None])


class _ResNet(nn.Module):
    """ResNet-18; of pictures without its beginning, which is over time, and of sound down to 25 frames a second."""

    def __init__(self, sense: str, channels: tuple[int, ...]):
        super().__init__()
        self._of_sound = sense == "audio"
        if self._of_sound:
            self.conv1 = nn.Conv1d(1, channels[0], 80, stride=4, padding=38, bias=False)
            self.bn1 = nn.BatchNorm1d(channels[0])
            self.pool = nn.AvgPool1d(SAMPLES_PER_FRAME // 4 // 8)
        inside = (channels[0], *channels)
        self._stages = len(channels)
        for number, (before, after) in enumerate(zip(inside, channels), 1):
            first = _Residual(sense, before, after, stride=1 if number == 1 else 2)
            self.add_module(f"layer{number}", nn.Sequential(first, _Residual(sense, after, after)))

    def forward(self, x: Tensor) -> Tensor:
        if self._of_sound:
            x = silu(self.bn1(self.conv1(x)))
        for number in range(1, self._stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.pool(x) if self._of_sound else x


class _Residual(nn.Module):
    def __init__(self, sense: str, before: int, after: int, stride: int = 1):
        super().__init__()
        convolution, norm = SENSES[sense], NORMS[sense]
        self.conv1 = convolution(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = norm(after)
        self.conv2 = convolution(after, after, 3, padding=1, bias=False)
        self.bn2 = norm(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(convolution(before, after, 1, stride, bias=False), norm(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(silu(self.bn1(self.conv1(x)))))
        return silu(y + (x if self.downsample is None else self.downsample(x)))


# ---- over time


class _DenseTcn(nn.Module):
    """(B, C, T) -> words (B, W)."""

    def __init__(self, channels: int, words: int, reduced: int, growth: int):
        super().__init__()
        features = nn.Sequential()
        # the first transition keeps the slope per channel of the network's first version
        features.add_module("transition0", _Transition(channels, reduced, nn.PReLU(reduced), "prelu"))
        grown = reduced + len(DILATIONS) * growth
        for number in range(1, BLOCKS + 1):
            features.add_module(f"denseblock{number}", _DenseBlock(reduced, growth))
            if number < BLOCKS:
                features.add_module(f"transition{number}", _Transition(grown, reduced, nn.SiLU(), "swish"))
        features.add_module("norm5", nn.BatchNorm1d(grown))
        self.tcn_trunk = nn.ModuleDict({"features": features})
        self.tcn_output = nn.Linear(grown, words)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.tcn_output(self.tcn_trunk["features"](x_BCT).mean(-1))


class _Transition(nn.Sequential):
    def __init__(self, before: int, after: int, activation: nn.Module, name: str):
        super().__init__()
        self.add_module("conv", nn.Conv1d(before, after, 1, bias=False))
        self.add_module("norm", nn.BatchNorm1d(after))
        self.add_module(name, activation)


class _DenseBlock(nn.Module):
    """Layers that each see all before them; their outputs side by side."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        for number, dilation in enumerate(DILATIONS):
            layer = _DenseLayer(channels + number * growth, growth, dilation)
            self.add_module(f"denselayer{number + 1}", layer)

    def forward(self, x_BCT: Tensor) -> Tensor:
        for layer in self.children():
            x_BCT = torch.cat([x_BCT, layer(x_BCT)], 1)
        return x_BCT


class _DenseLayer(nn.Module):
    """Two times three branches of different reach, and a shortcut."""

    def __init__(self, before: int, after: int, dilation: int):
        super().__init__()
        share = after // len(KERNELS)
        for number, kernel in enumerate(KERNELS):
            self.add_module(f"cbcr0_se_{number}", _Squeeze(before))
            self.add_module(f"cbcr0_{number}", _Branch(before, share, kernel, dilation))
            self.add_module(f"cbcr1_{number}", _Branch(after, share, kernel, dilation))
        self.downsample = nn.Conv1d(before, after, 1)
        self.drop = nn.Dropout(DROPPED)

    def forward(self, x_BCT: Tensor) -> Tensor:
        part, branches = self.get_submodule, range(len(KERNELS))
        once = self.drop(torch.cat([part(f"cbcr0_{k}")(part(f"cbcr0_se_{k}")(x_BCT)) for k in branches], 1))
        twice = self.drop(torch.cat([part(f"cbcr1_{k}")(once) for k in branches], 1))
        return silu(twice + self.downsample(x_BCT))


class _Branch(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, dilation: int):
        super().__init__()
        convolution = nn.Conv1d(before, after, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        self.net = nn.Sequential(convolution, nn.BatchNorm1d(after), nn.SiLU())

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.net(x_BCT)


class _Squeeze(nn.Module):
    """Channels are weighed by what they are on average (squeeze and excitation)."""

    def __init__(self, channels: int):
        super().__init__()
        narrow, wide = (channels, channels // SQUEEZED), (channels // SQUEEZED, channels)
        self.fc = nn.Sequential(nn.Linear(*narrow, bias=False), nn.SiLU(), nn.Linear(*wide, bias=False), nn.Sigmoid())

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT * self.fc(x_BCT.mean(-1))[..., None]


def sizes_of(state: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of the `LipReader` that a state dict is of. Raises KeyError where it is of none."""
    features = "tcn.tcn_trunk.features"
    return {
        "channels": tuple(len(state[f"trunk.layer{stage}.0.conv1.weight"]) for stage in range(1, len(CHANNELS) + 1)),
        "words": len(state["tcn.tcn_output.weight"]),
        "reduced": len(state[f"{features}.transition0.conv.weight"]),
        "growth": len(state[f"{features}.denseblock1.denselayer1.downsample.weight"]),
    }
