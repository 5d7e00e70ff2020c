"""What tests of networks share: random weights that keep signals in range, batch normalisation written out."""

import numpy as np
import torch
from torch import Tensor, nn


def randomise(network: nn.Module, gain: float = 1.1) -> dict[str, Tensor]:
    """Random weights of a network's own names and shapes.

    Args:
        gain: weight of the normalisations; such that activations neither vanish nor explode.
    """
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            state[name] = 0.5 + noise.abs()
        elif tensor.ndim > 1:
            state[name] = noise * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith("weight"):
            state[name] = gain + 0.1 * noise
        else:
            state[name] = 0.1 * noise
    return state


def normalise(x: Tensor, state: dict[str, Tensor], name: str, epsilon: float = 1e-5) -> Tensor:
    """Batch normalisation in evaluation: (x - mean) / sqrt(var + epsilon) * weight + bias, per channel."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + epsilon) * weight + bias


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding, and not trivially so."""
    spread = float(expected.std())
    assert spread > 1e-3
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * spread)
