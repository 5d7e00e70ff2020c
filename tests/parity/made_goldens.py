"""Goldens that tests make: folders like the shared ones, of networks with other sizes and random weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lively(network: nn.Module) -> nn.Module:
    """A network in evaluation mode, whose normalisations have statistics other than 0 and 1."""
    torch.manual_seed(0)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return network.eval().requires_grad_(False)


def write_golden(
    folder: Path,
    stem: str,
    args: Mapping[str, Any],
    *,
    state: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
    **facts: Any,
) -> None:
    """Write a case.

    Args:
        stem: name of its files.
        args: of the reference.
        dtype: that numbers with a point are stored as.
        facts: more of the JSON.
    """
    parts = {"state.": state, "in.": inputs, "out.": outputs}
    tensors = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    tensors = {n: (t.to(dtype) if t.is_floating_point() else t).contiguous().clone() for n, t in tensors.items()}
    listed = {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors.items()}
    tolerance = {name: {"atol": 5e-6, "rtol": 1e-4} for name in outputs}
    content = {"module": stem, "args": dict(args), "tensors": listed, "tolerance": tolerance, **facts}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps(content))
    save_file(tensors, folder / f"{stem}.safetensors")
