"""SyncNet: published names and shapes load strictly, and the outputs are those of a forward pass written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.errors import WeightsError
from models.syncnet import SyncNet
from tests.models.metrics.networks import assert_same, normalise, randomise

# name, shape of the weight; each is followed by its batch normalisation
AUDIO = {0: (64, 1, 3, 3), 4: (192, 64, 3, 3), 8: (384, 192, 3, 3), 11: (256, 384, 3, 3), 14: (256, 256, 3, 3)}
AUDIO |= {18: (512, 256, 5, 4)}
VIDEO = {0: (96, 3, 5, 7, 7), 4: (256, 96, 1, 5, 5), 8: (256, 256, 1, 3, 3), 11: (256, 256, 1, 3, 3)}
VIDEO |= {14: (256, 256, 1, 3, 3), 18: (512, 256, 1, 6, 6)}


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for network, layers in (("netcnnaud", AUDIO), ("netcnnlip", VIDEO)):
        for k, shape in layers.items():
            shapes[f"{network}.{k}.weight"] = shape
            shapes |= {f"{network}.{k}.bias": shape[:1]}
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{network}.{k + 1}.{part}": shape[:1] for part in parts}
    for network in ("netfcaud", "netfclip"):
        shapes |= {f"{network}.0.weight": (512, 512), f"{network}.3.weight": (1024, 512), f"{network}.3.bias": (1024,)}
        names = ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
        shapes |= {f"{network}.{name}": (512,) for name in names}
    return shapes


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return randomise(SyncNet())


@pytest.fixture(scope="module")
def network(state, tmp_path_factory) -> SyncNet:
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(state, path)
    return SyncNet.load(path)


def test_published_names_and_shapes(state):
    assert {name: tuple(t.shape) for name, t in state.items()} == published_shapes()


def head(x: torch.Tensor, state, name: str) -> torch.Tensor:
    x = F.linear(x.flatten(1), state[f"{name}.0.weight"], state[f"{name}.0.bias"])
    return F.linear(normalise(x, state, f"{name}.1").relu(), state[f"{name}.3.weight"], state[f"{name}.3.bias"])


def test_audio_vectors(network, state):
    mfcc = np.random.default_rng(0).normal(size=(3, 13, 20)).astype(np.float32) * 10

    def layer(x, k, padding):
        x = F.conv2d(x, state[f"netcnnaud.{k}.weight"], state[f"netcnnaud.{k}.bias"], padding=padding)
        return normalise(x, state, f"netcnnaud.{k + 1}").relu()

    x = layer(layer(torch.from_numpy(mfcc)[:, None], 0, 1), 4, 1)
    x = F.max_pool2d(x, (3, 3), (1, 2))
    for k in (8, 11, 14):
        x = layer(x, k, 1)
    x = layer(F.max_pool2d(x, (3, 3), (2, 2)), 18, 0)
    expected = head(x, state, "netfcaud").numpy()
    assert_same(network.audio(mfcc), expected)


def test_video_vectors_see_blue_first(network, state):
    frames = np.random.default_rng(0).integers(0, 256, (1, 5, 224, 224, 3), np.uint8)
    x = torch.from_numpy(frames[..., ::-1].copy()).float().permute(0, 4, 1, 2, 3)

    def layer(x, k, stride, padding):
        weight, bias = state[f"netcnnlip.{k}.weight"], state[f"netcnnlip.{k}.bias"]
        x = F.conv3d(x, weight, bias, stride=(1, stride, stride), padding=(0, padding, padding))
        return normalise(x, state, f"netcnnlip.{k + 1}").relu()

    x = F.max_pool3d(layer(x, 0, 2, 0), (1, 3, 3), (1, 2, 2))
    x = F.max_pool3d(layer(x, 4, 2, 1), (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for k in (8, 11, 14):
        x = layer(x, k, 1, 1)
    x = layer(F.max_pool3d(x, (1, 3, 3), (1, 2, 2)), 18, 1, 0)
    expected = head(x, state, "netfclip").numpy()
    assert_same(network.video(frames), expected)


def test_another_network_is_refused(tmp_path: Path, state):
    path = tmp_path / "wav2lip_expert.pth"
    torch.save({name.replace("netcnnlip", "face_encoder"): t for name, t in state.items()}, path)
    with pytest.raises(WeightsError, match=r"wav2lip_expert\.pth.*SyncNet: missing: netcnnlip\.0\.weight"):
        SyncNet.load(path)
