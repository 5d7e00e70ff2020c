"""The recipe of drawn weights: it gives what the goldens' check sums say, and refuses other networks."""

import hashlib
import json

import pytest
import torch

from tests.parity.golden import GoldenError, draw_state
from tests.parity.test_parity import FOLDER

SHAPES = {"conv.weight_orig": (3, 4, 1), "conv.weight_u": (3,), "conv.weight_v": (4,), "norm.running_var": (5,)}


def recipe(own: dict[str, torch.Tensor], **checks: float) -> dict:
    listed = "\n".join(f"{key} {list(own[key].shape)}" for key in sorted(own))
    digest = hashlib.sha256(listed.encode()).hexdigest()
    return {
        "variant_seed": 7,
        "key_prefix": "net.",
        "gain": 1.0,
        "n_state_tensors": len(own),
        "sha256_of_sorted_keys_and_shapes": digest,
        "checks": checks,
    }


def test_drawn_weights_are_spread_as_the_recipe_says():
    own = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    state = draw_state(recipe(own), own)
    assert state["norm.running_var"].min() >= 0.5 and state["norm.running_var"].max() < 1.5
    weight, u, v = (state[f"conv.weight{part}"] for part in ("_orig", "_u", "_v"))
    largest = torch.linalg.matrix_norm(weight.flatten(1), 2)
    assert torch.allclose(u @ weight.flatten(1) @ v, largest, rtol=0.1)
    assert weight.abs().max() <= (3 / 4) ** 0.5


def test_another_network_is_refused():
    own = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    with pytest.raises(GoldenError, match="names or shapes"):
        draw_state(recipe(own), {**own, "bias": torch.zeros(3)})
    with pytest.raises(GoldenError, match=r"conv\.weight_u sums to"):
        draw_state(recipe(own, **{"conv.weight_u": 100.0}), own)


@pytest.mark.skipif(not FOLDER.exists(), reason=f"no goldens in {FOLDER}")
def test_recipe_meets_the_check_sums_of_an_official_file():
    listed = json.loads((FOLDER / "official_keys.json").read_text())["safetensors"]
    prefix = "audio2exp."
    own = {key.removeprefix(prefix): torch.empty(shape) for key, shape in listed.items() if key.startswith(prefix)}
    procedural = json.loads((FOLDER / "full_audio2exp.json").read_text())["procedural"]
    assert len(draw_state(procedural, own)) == procedural["n_state_tensors"]
