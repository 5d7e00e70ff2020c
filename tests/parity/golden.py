"""Goldens: what reference networks gave for known weights and inputs, one JSON and one safetensors file per case.

Tensors are named `state.<key>`, `in.<name>` and `out.<name>`. Large networks come without weights: these follow from
names and shapes by a recipe (`draw_state`), whose check sums are in the JSON. Networks of ours compute in float32:
their weights and inputs are read as such, whatever they are stored as.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoint import compare

POWER_ITERATIONS = 3  # that spectral-norm vectors of drawn weights have behind them
MASK_GAIN = 10  # of convolutions that end in `mask.weight`, so that some masks are near 0 and some near 1
CHECK_TOLERANCE = 1e-9  # relative, of sums of float64
# What the goldens' makers recommend where a network's error in float32, against float64, was measured.
ATOL_PER_ERROR, LEAST_ATOL, RTOL = 10, 2e-6, 1e-4  # the second per unit of the output's range


class GoldenError(ValueError):
    """A golden can't be run: a file is damaged, something is missing, or it is of another network than ours."""


class Named(dict[str, Any]):
    """Part of a golden, by name; asking for what it doesn't hold is an error that says so.

    Args:
        what: it is, for the error.
    """

    def __init__(self, what: str, content: Mapping[str, Any]):
        super().__init__(content)
        self._what = what

    def __missing__(self, name: str) -> Any:
        raise GoldenError(f"the golden has no {self._what} {name!r}")


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
    def args(self) -> Mapping[str, Any]:
        """The reference's constructor arguments; {} where it has none."""
        return Named("argument", self._fact("args"))

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """What networks are given: numbers with a point in float32."""
        return Named("input", {name: _as_float32(tensor) for name, tensor in self._part("in.").items()})

    @property
    def exact_inputs(self) -> Mapping[str, Tensor]:
        """The same as stored, for what is computed in the inputs' own precision."""
        return Named("input", self._part("in."))

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        """As stored."""
        return Named("output", self._part("out."))

    @property
    def state(self) -> dict[str, Tensor]:
        """Stored weights by the reference's own names, float32; {} where they follow the recipe."""
        return {name: _as_float32(tensor) for name, tensor in self._part("state.").items()}

    @property
    def drawn_tensors(self) -> int:
        """How many tensors the recipe draws; 0 where weights are stored."""
        return int(self._fact("procedural").get("n_state_tensors", 0))

    @property
    def lost(self) -> list[str]:
        """Outputs that the JSON lists and the safetensors file lacks."""
        listed = (name.removeprefix("out.") for name in self._fact("tensors") if name.startswith("out."))
        return [name for name in listed if name not in self.outputs]

    def tolerance(self, output: str) -> Mapping[str, float]:
        """`atol` and `rtol` of an output, as far as the JSON gives them.

        Without a tolerance, the one that the goldens' makers recommend for the measured error of float32.
        """
        if given := self._fact("tolerance").get(output):
            return given
        measured = self._fact("fp32_vs_fp64").get(output, {})
        if "max_abs" not in measured:
            return {}
        floor = LEAST_ATOL * max(1.0, measured.get("out_absmax", 1.0))
        return {"atol": max(ATOL_PER_ERROR * measured["max_abs"], floor), "rtol": RTOL}

    def sibling(self, module: str) -> "Golden":
        """Another case of the same folder and, if there is one, of the same variant.

        Raises:
            GoldenError: there is none.
        """
        found = [(path, facts) for path in sorted(self.path.parent.glob("*.json")) if (facts := _try_facts(path))]
        found = [(path, facts) for path, facts in found if module in (path.stem, facts.get("module"))]
        if not found:
            raise GoldenError(f"the golden needs that of '{module}' beside it")
        variant = self.facts.get("variant")
        path, _ = min(found, key=lambda case: (case[1].get("variant") != variant, case[0].stem != module))
        return read_golden(path)

    def fill(self, network: nn.Module, prefix: str = "") -> None:
        """Give a network the golden's weights, all of them, and put it into evaluation mode.

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
        if differences := compare(network, state):
            raise GoldenError(f"the golden's weights are not those of our {type(network).__name__}: {differences}")
        network.load_state_dict(state, strict=False)  # what is counted in training may be missing
        network.eval().requires_grad_(False)

    def _fact(self, key: str) -> Mapping[str, Any]:
        return self.facts.get(key) or {} if isinstance(self.facts, dict) else {}

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def read_facts(path: Path) -> Any:
    """What a case's JSON says. Raises GoldenError if it is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise GoldenError(f"{path.name} is no JSON: {error}") from error


def read_golden(path: Path) -> Golden:
    """The case of one JSON file.

    Raises:
        GoldenError: one of its files is damaged, or the tensors that the JSON lists are not there.
    """
    facts, stored = read_facts(path), path.with_suffix(".safetensors")
    if not stored.exists():
        if isinstance(facts, dict) and facts.get("tensors"):
            raise GoldenError(f"{stored.name} is missing")
        return Golden(path, facts, {})
    try:
        return Golden(path, facts, load_file(stored))
    except SafetensorError as error:
        raise GoldenError(f"{stored.name} is damaged: {error}") from error


def _try_facts(path: Path) -> dict[str, Any]:
    """What a JSON says, if it is a case's."""
    try:
        facts = read_facts(path)
    except GoldenError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


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
