"""Goldens: what reference networks gave for known weights and inputs, one JSON and one safetensors file per case.

Tensors are named `state.<key>`, `in.<name>` and `out.<name>`. Large networks come without weights: these follow from
names and shapes by a recipe (`draw_state`), whose check sums are in the JSON.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

POWER_ITERATIONS = 3  # that spectral-norm vectors of drawn weights have behind them
MASK_GAIN = 10  # of convolutions that end in `mask.weight`, so that some masks are near 0 and some near 1
CHECK_TOLERANCE = 1e-9  # relative, of sums of float64


class GoldenError(ValueError):
    """Weights that should have been those of the golden are not."""


@dataclass(frozen=True)
class Golden:
    """One case.

    Args:
        path: its JSON file.
        facts: the JSON's content.
        tensors: all of the safetensors file; empty without one.
    """

    path: Path
    facts: Any
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """The case: the file's name, by which runners are registered."""
        return self.path.stem

    @property
    def args(self) -> Mapping[str, Any]:
        """The reference's constructor arguments; {} where it has none."""
        return self._fact("args")

    @property
    def tolerances(self) -> Mapping[str, Mapping[str, float]]:
        """`atol` and `rtol` per output, as far as the JSON gives them."""
        return self._fact("tolerance")

    @property
    def inputs(self) -> dict[str, Tensor]:
        return self._part("in.")

    @property
    def outputs(self) -> dict[str, Tensor]:
        return self._part("out.")

    @property
    def state(self) -> dict[str, Tensor]:
        """Stored weights by the reference's own names; {} where they follow the recipe."""
        return self._part("state.")

    def sibling(self, name: str) -> "Golden":
        """Another case of the same folder."""
        return read_golden(self.path.with_name(f"{name}.json"))

    def fill(self, network: nn.Module, prefix: str = "") -> None:
        """Give a network the golden's weights, strictly, and put it into evaluation mode.

        Args:
            network: with the reference's names, after `prefix`.
            prefix: beginning of the stored names that belong to this network.
        Raises:
            GoldenError: names, shapes or check sums of drawn weights differ from the golden's.
        """
        if recipe := self._fact("procedural"):
            state = draw_state(recipe, network.state_dict())
        else:
            state = {n.removeprefix(prefix): t for n, t in self.state.items() if n.startswith(prefix)}
        network.load_state_dict(state, strict=True)
        network.eval().requires_grad_(False)

    def _fact(self, key: str) -> Mapping[str, Any]:
        return self.facts.get(key) or {} if isinstance(self.facts, dict) else {}

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def read_golden(path: Path) -> Golden:
    """The case of one JSON file."""
    stored = path.with_suffix(".safetensors")
    return Golden(path, json.loads(path.read_text("utf-8")), load_file(stored) if stored.exists() else {})


def draw_state(recipe: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that follow from names and shapes alone.

    Args:
        recipe: `variant_seed`, `key_prefix`, `gain` and the check sums.
        own: the network's state; gives names and shapes, and the fixed filter `down.weight`.
    Raises:
        GoldenError: names or shapes are not the reference's, or a check sum differs.
    """
    listed = "\n".join(f"{key} {list(own[key].shape)}" for key in sorted(own))
    if hashlib.sha256(listed.encode()).hexdigest() != recipe["sha256_of_sorted_keys_and_shapes"]:
        counts = f"{len(own)} tensors here, {recipe['n_state_tensors']} there"
        raise GoldenError(f"names or shapes of the network differ from the reference's ({counts})")
    start = f"{recipe['variant_seed']}:{recipe['key_prefix']}"
    state = {key: _draw(key, tensor, start, recipe["gain"]) for key, tensor in own.items()}
    for key in [key for key in state if key.endswith("weight_orig")]:
        _iterate_power(state, key.removesuffix("weight_orig"))
    for key, expected in recipe["checks"].items():
        found = float(state[key].double().sum())
        if abs(found - expected) > CHECK_TOLERANCE * max(1.0, abs(expected)):
            raise GoldenError(f"drawn weights differ from the reference's: {key} sums to {found}, not {expected}")
    return state


def _draw(key: str, tensor: Tensor, start: str, gain: float) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(tensor)
    if key == "down.weight":
        return tensor
    seed = int.from_bytes(hashlib.sha256((start + key).encode("ascii")).digest()[:8], "little")
    uniform = (np.random.PCG64(seed).random_raw(tensor.numel()) >> np.uint64(11)) * 2.0**-53
    signed = 2 * uniform - 1
    if key.endswith("running_mean"):
        values = 0.2 * signed
    elif key.endswith("running_var"):
        values = 0.5 + uniform
    elif key.endswith(("weight_u", "weight_v", "classbias")):
        values = signed
    elif tensor.ndim >= 2:
        values = signed * gain * np.sqrt(3 / np.prod(tensor.shape[1:]))
        if key.endswith("mask.weight"):
            values *= MASK_GAIN
    elif key.endswith("weight"):
        values = 0.8 + 0.4 * uniform
    else:
        values = 0.1 * signed
    return torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape)


def _iterate_power(state: dict[str, Tensor], prefix: str) -> None:
    """Replace the drawn spectral-norm vectors of one weight by those after some power iterations."""
    weight = state[f"{prefix}weight_orig"].double().flatten(1)
    u = nn.functional.normalize(state[f"{prefix}weight_u"].double(), dim=0)
    v = u  # replaced below
    for _ in range(POWER_ITERATIONS):
        v = nn.functional.normalize(weight.T @ u, dim=0)
        u = nn.functional.normalize(weight @ v, dim=0)
    state[f"{prefix}weight_u"], state[f"{prefix}weight_v"] = u.float(), v.float()
