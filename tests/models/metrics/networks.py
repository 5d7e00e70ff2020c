"""What tests of networks share: random weights that keep signals in range, batch normalisation written out."""

import torch
from torch import Tensor, nn


def randomise(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a network's own names and shapes, such that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
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
            state[name] = 0.5 + 0.1 * noise
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
