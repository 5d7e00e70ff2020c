"""Small networks of face-vid2vid with random weights."""

import torch
from torch import nn

from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import KeypointDetector
from models.sadtalker.mapping import MappingNet
from tests.models.metrics.networks import randomise

KEYPOINTS = 6
PICTURE = 64  # pixels a side
POWER_ITERATIONS = 3


def small_generator() -> Generator:
    return filled(
        Generator(
            keypoints=KEYPOINTS,
            width=4,
            max_width=32,
            channels=8,
            depth=4,
            resblocks=2,
            motion={"width": 4, "max_width": 16, "blocks": 3, "compress": 2},
            decoder={"outside": 4, "hidden": 16},
        )
    )


def small_detector() -> KeypointDetector:
    return filled(KeypointDetector(KEYPOINTS, width=4, max_width=16, blocks=2, depth=4))


def small_mapping(coefficients: int = 70) -> MappingNet:
    return filled(MappingNet(coefficients, width=16, keypoints=KEYPOINTS))


def filled(network: nn.Module):
    """The network with random weights, spectral norms estimated, for inference."""
    state = randomise(network, gain=1.0)
    for name in [name for name in state if name.endswith("weight_orig")]:
        weight, prefix = state[name].flatten(1), name.removesuffix("orig")
        u = nn.functional.normalize(state[f"{prefix}u"], dim=0)
        for _ in range(POWER_ITERATIONS):
            v = nn.functional.normalize(weight.T @ u, dim=0)
            u = nn.functional.normalize(weight @ v, dim=0)
            state[f"{prefix}u"], state[f"{prefix}v"] = u, v
    for name in state:
        if name == "down.weight":  # a fixed blur
            state[name] = network.state_dict()[name]
    network.load_state_dict(state, strict=False)
    return network.eval().requires_grad_(False)


def pictures(count: int) -> torch.Tensor:
    """Smooth pictures in 0 .. 1, shape (count, 3, 64, 64)."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=PICTURE, mode="bicubic").clamp(0, 1)


def points(count: int, seed: int = 2) -> torch.Tensor:
    """Keypoints, shape (count, K, 3)."""
    return torch.rand(count, KEYPOINTS, 3, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.7


def psnr(frames: torch.Tensor, expected: torch.Tensor) -> float:
    """Of pictures in 0 .. 1, dB."""
    return float(-10 * torch.log10((frames - expected).double().square().mean()))
