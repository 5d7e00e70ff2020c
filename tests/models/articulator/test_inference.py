"""The network at work says what the network that was trained says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.articulator.hearing import HEARD
from models.articulator.inference import TrainedArticulator
from models.articulator.lip_basis import UNIT
from models.articulator.network import Articulator
from models.errors import WeightsError
from models.packs import shipped_pack


@pytest.mark.parametrize("frames", [1, 2, 9, 300])
def test_says_what_the_trained_network_says(frames: int):
    weights = shipped_pack().path("articulator")
    heard = np.random.default_rng(frames).normal(size=(frames, HEARD)).astype(np.float32)
    with torch.no_grad():
        wanted = UNIT * Articulator.load(weights).eval()(torch.from_numpy(heard)[None])[0].numpy()
    assert TrainedArticulator.load(weights).tell(heard) == pytest.approx(wanted, abs=1e-5 * UNIT, rel=1e-4)


def test_any_size_can_be_loaded(tmp_path: Path):
    network = Articulator(width=24, members=3).eval()
    save_file({name: value.half() for name, value in network.state_dict().items()}, tmp_path / "small.safetensors")
    assert TrainedArticulator.load(tmp_path / "small.safetensors").tell(np.zeros((5, HEARD))).shape == (5, 16)


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path):
    state = {name: value for name, value in Articulator(16, 1).state_dict().items() if "leave" not in name}
    save_file(state, tmp_path / "part.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("part", "text", "missing"):
        with pytest.raises(WeightsError, match=name):
            TrainedArticulator.load(tmp_path / f"{name}.safetensors")
