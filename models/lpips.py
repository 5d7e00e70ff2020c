"""LPIPS v0.1: how different two pictures look (Zhang et al., 2018), on AlexNet or VGG-16.

Needs two files: torchvision's ImageNet network (`alexnet-owt-7be5be79.pth` or `vgg16-397923af.pth`) and the linear
heads of the authors (`alex.pth` or `vgg.pth`, version 0.1). Modules carry the names that the authors' package gives
them. Legend: B pictures, C channels, H W pixels.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import fill, read_state

EPSILON = 1e-10  # added to lengths before vectors are divided by them
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation for -1 .. 1
# Layers of torchvision's `features` in order: channels of a 3x3 convolution and its ReLU, or a pooling.
VGG_LAYERS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
# Of the authors' whole module: the network, which torchvision's file has too, constants, the heads a second time.
REPEATED = ("net.", "scaling_layer.", "lins.")


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inside = 3
    for layer in VGG_LAYERS:
        if isinstance(layer, int):
            layers += [nn.Conv2d(inside, layer, 3, padding=1), nn.ReLU()]
            inside = layer
        else:
            layers.append(nn.MaxPool2d(2, stride=2))
    return layers


class _Slices(nn.Module):
    """A chain of layers cut into five, numbered as in the chain."""

    bounds: tuple[int, ...]
    widths: tuple[int, ...]

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        for name, numbers in self.places().items():
            self.add_module(name, nn.Sequential(OrderedDict((str(k), layers[k]) for k in numbers)))

    @classmethod
    def places(cls) -> dict[str, range]:
        """Numbers of the layers of "slice1" to "slice5"."""
        return {f"slice{k}": range(*bound) for k, bound in enumerate(pairwise(cls.bounds), 1)}

    def forward(self, x_BCHW: Tensor) -> Iterator[Tensor]:
        """The output of every slice."""
        for part in self.children():
            x_BCHW = part(x_BCHW)
            yield x_BCHW


class AlexNet(_Slices):
    """torchvision's, up to the last ReLU of its `features`."""

    bounds, widths = (0, 2, 5, 8, 10, 12), (64, 192, 384, 256, 256)

    def __init__(self):
        super().__init__(_alexnet())


class Vgg16(_Slices):
    """torchvision's, up to the last ReLU of its `features`."""

    bounds, widths = (0, 4, 9, 16, 23, 30), (64, 128, 256, 512, 512)

    def __init__(self):
        super().__init__(_vgg16())


class _Head(nn.Module):
    """Weights of the channels of one slice; the authors have a dropout before them."""

    def __init__(self, channels: int):
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))


class Lpips(nn.Module):
    """Distance of pictures.

    Args:
        net: the network whose channels are compared.
    """

    def __init__(self, net: _Slices):
        super().__init__()
        self.net = net
        for k, width in enumerate(net.widths):
            self.add_module(f"lin{k}", _Head(width))
        self.register_buffer("_shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def load(cls, heads: Path, backbone: Path, device: str = "cpu") -> "Lpips":
        """The network with the authors' heads on torchvision's network; which of both, the backbone tells.

        Args:
            heads: a file of the heads alone, or of the authors' whole module.
            backbone: torchvision's file.
        Raises:
            WeightsError: of either file; also for heads of the other network.
        """
        state = read_state(backbone)
        net = Vgg16() if "features.28.weight" in state else AlexNet()
        fill(net, _renamed(state, net.places()), backbone, optional=["classifier."])
        network = cls(net)
        linear = {n: t for n, t in read_state(heads).items() if not n.startswith(REPEATED)}
        fill(network, linear, heads, optional=["net."])
        return network.to(device)

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        """Distances of shape (B,) between RGB pictures in -1 .. 1."""
        total = a_B3HW.new_zeros(len(a_B3HW))
        scaled = (torch.cat([a_B3HW, b_B3HW]) - self.get_buffer("_shift")) / self.get_buffer("_scale")
        for k, x_BCHW in enumerate(self.net(scaled)):
            directions = x_BCHW / (x_BCHW.square().sum(1, keepdim=True).sqrt() + EPSILON)
            first, second = directions.chunk(2)
            weighted = self.get_submodule(f"lin{k}.model")((first - second) ** 2)
            total = total + weighted.mean((1, 2, 3))
        return total

    @torch.inference_mode()
    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Distances of RGB pictures of one size, uint8, shape (B, H, W, 3) each: float32, shape (B,); 0 = the same."""
        device = next(self.parameters()).device
        first, second = (torch.tensor(x, device=device).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (a, b))
        return self(first, second).cpu().numpy()


def _renamed(state: Mapping[str, Tensor], places: Mapping[str, range]) -> dict[str, Tensor]:
    """torchvision's "features.3.weight" as "slice2.3.weight"; other names stay."""
    prefixes = {f"features.{k}": f"{name}.{k}" for name, numbers in places.items() for k in numbers}
    parted = {name: name.rpartition(".") for name in state}
    return {f"{prefixes.get(layer, layer)}.{part}": state[name] for name, (layer, _, part) in parted.items()}
