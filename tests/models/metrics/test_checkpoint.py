"""Checkpoints: formats, and what the messages about wrong ones say."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.checkpoint import fill, load_strict, read_state
from models.errors import WeightsError


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {name: torch.rand_like(t.float()) for name, t in Small().state_dict().items()}


def loaded(path: Path) -> dict[str, torch.Tensor]:
    network = Small()
    load_strict(network, path)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    return network.state_dict()


def test_every_format_gives_the_same_tensors(tmp_path, state):
    files = {name: tmp_path / name for name in ("plain.pth", "old.model", "wrapped.tar", "parallel.pth", "s.bin")}
    torch.save(state, files["plain.pth"])
    torch.save(state, files["old.model"], _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, files["wrapped.tar"])
    torch.save({f"module.{n}": t for n, t in state.items()}, files["parallel.pth"])
    save_file(state, files["s.bin"])
    for path in files.values():
        got = loaded(path)
        assert all(torch.equal(got[n], state[n]) for n in state if "tracked" not in n), path.name


def test_one_network_of_a_file_with_several(tmp_path, state):
    save_file(
        {f"{n}.{k}": t.clone() for n in ("other", "small") for k, t in state.items()}, tmp_path / "all.safetensors"
    )
    torch.save({"epoch": 3, "small": state, "other": {"x": torch.zeros(1)}}, tmp_path / "all.pth")
    for got in (read_state(tmp_path / "all.safetensors", prefix="small."), read_state(tmp_path / "all.pth", "small")):
        assert got.keys() == state.keys() and all(torch.equal(got[n], state[n]) for n in state)
    with pytest.raises(WeightsError, match=r"begins with 'absent\.'"):
        read_state(tmp_path / "all.safetensors", prefix="absent.")


def test_counters_of_batch_normalisation_may_be_missing(tmp_path, state):
    path = tmp_path / "before.pth"
    torch.save({n: t for n, t in state.items() if "tracked" not in n}, path)
    assert torch.equal(loaded(path)["layer.1.running_var"], state["layer.1.running_var"])


def test_message_names_file_and_first_keys_of_each_kind(tmp_path, state):
    path = tmp_path / "other.pth"
    state["layer.0.weight"] = torch.zeros(2, 1, 5, 5)
    del state["layer.1.running_mean"]
    torch.save(state | {f"head.{k}": torch.zeros(1) for k in range(5)}, path)
    with pytest.raises(WeightsError) as caught:
        load_strict(Small(), path)
    text = str(caught.value)
    assert str(path) in text
    assert "checkpoint of Small" in text
    assert "missing: layer.1.running_mean" in text
    assert "unexpected: head.0, head.1, head.2 and 2 more" in text
    assert "layer.0.weight (2, 1, 5, 5) instead of (2, 1, 3, 3)" in text
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == text


def test_optional_names_are_spared(tmp_path, state):
    fill(Small(), state | {"classifier.weight": torch.zeros(3)}, tmp_path, optional=["classifier."])


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_code_in_a_file_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trap.pth"
    torch.save({"layer": Trap()}, path)
    with pytest.raises(WeightsError, match=r"trap\.pth: holds more than tensors"):
        read_state(path)
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x10\0\0\0\0\0\0\0{broken", b"PK\x03\x04broken"])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.pth"):
        read_state(path)


def test_whole_models_lists_and_absent_files(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    for name, words in (("list.pth", "no state dict"), ("numbers.pth", "no state dict"), ("absent.pth", "can't be")):
        with pytest.raises(WeightsError, match=words):
            read_state(tmp_path / name)
