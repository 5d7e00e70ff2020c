"""Inception-v3 of FID: published names and shapes, outputs against a forward pass written out."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.errors import WeightsError
from models.inception import Inception
from tests.models.metrics.networks import assert_same, normalise, randomise


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return randomise(Inception())


@pytest.fixture(scope="module")
def network(state, tmp_path_factory) -> Inception:
    path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(state, path)
    return Inception.load(path)


def test_published_names_and_shapes(state):
    assert len(state) == 94 * 5 + 2  # convolutions with their normalisation, and the classifier
    assert sum(t.numel() for n, t in state.items() if "running" not in n) == 23_850_960
    some = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.bn.running_var": (64,),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
        "Mixed_7a.branch7x7x3_2.conv.weight": (192, 192, 1, 7),
        "Mixed_7b.branch3x3dbl_1.conv.weight": (448, 1280, 1, 1),
        "Mixed_7c.branch3x3_2b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
    }
    assert {name: tuple(state[name].shape) for name in some} == some


class WrittenOut:
    """The forward pass from the published description: kernel sizes are read off the weights."""

    def __init__(self, state: dict[str, torch.Tensor]):
        self._state = state

    def unit(self, x, name, stride=1, same=True):
        weight = self._state[f"{name}.conv.weight"]
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if same else 0
        return normalise(F.conv2d(x, weight, None, stride, padding), self._state, f"{name}.bn", 0.001).relu()

    def chain(self, x, name, *units):
        for unit in units:
            x = self.unit(x, f"{name}.{unit}")
        return x

    def mean(self, x):
        """Mean of the neighbours that exist."""
        ones = F.conv2d(torch.ones_like(x[:1, :1]), torch.ones(1, 1, 3, 3), padding=1)
        kernel = torch.ones(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1]) / ones

    def block_a(self, x, name):
        return [
            self.chain(x, name, "branch1x1"),
            self.chain(x, name, "branch5x5_1", "branch5x5_2"),
            self.chain(x, name, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            self.chain(self.mean(x), name, "branch_pool"),
        ]

    def block_c(self, x, name):
        return [
            self.chain(x, name, "branch1x1"),
            self.chain(x, name, *(f"branch7x7_{k}" for k in (1, 2, 3))),
            self.chain(x, name, *(f"branch7x7dbl_{k}" for k in (1, 2, 3, 4, 5))),
            self.chain(self.mean(x), name, "branch_pool"),
        ]

    def block_e(self, x, name, pool):
        three = self.chain(x, name, "branch3x3_1")
        double = self.chain(x, name, "branch3x3dbl_1", "branch3x3dbl_2")
        return [
            self.chain(x, name, "branch1x1"),
            *(self.chain(three, name, f"branch3x3_2{k}") for k in "ab"),
            *(self.chain(double, name, f"branch3x3dbl_3{k}") for k in "ab"),
            self.chain(pool(x), name, "branch_pool"),
        ]

    def features(self, frames: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False) / 127.5 - 1
        x = self.unit(x, "Conv2d_1a_3x3", 2, False)
        x = self.unit(self.unit(x, "Conv2d_2a_3x3", 1, False), "Conv2d_2b_3x3")
        x = self.unit(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = F.max_pool2d(self.unit(x, "Conv2d_4a_3x3", 1, False), 3, 2)
        assert x.shape[1:] == (192, 35, 35)
        for letter in "bcd":
            x = torch.cat(self.block_a(x, f"Mixed_5{letter}"), 1)
        double = self.chain(x, "Mixed_6a", "branch3x3dbl_1", "branch3x3dbl_2")
        halved = [self.unit(y, f"Mixed_6a.{n}", 2, False) for y, n in ((x, "branch3x3"), (double, "branch3x3dbl_3"))]
        x = torch.cat([*halved, F.max_pool2d(x, 3, 2)], 1)
        assert x.shape[1:] == (768, 17, 17)
        for letter in "bcde":
            x = torch.cat(self.block_c(x, f"Mixed_6{letter}"), 1)
        three = self.chain(x, "Mixed_7a", "branch3x3_1")
        seven = self.chain(x, "Mixed_7a", *(f"branch7x7x3_{k}" for k in (1, 2, 3)))
        ends = ((three, "branch3x3_2"), (seven, "branch7x7x3_4"))
        x = torch.cat([*(self.unit(y, f"Mixed_7a.{n}", 2, False) for y, n in ends), F.max_pool2d(x, 3, 2)], 1)
        assert x.shape[1:] == (1280, 8, 8)
        x = torch.cat(self.block_e(x, "Mixed_7b", self.mean), 1)
        x = torch.cat(self.block_e(x, "Mixed_7c", lambda y: F.max_pool2d(y, 3, 1, 1)), 1)
        return x.mean((2, 3)).numpy()


def test_features_agree_with_the_written_out_network(network, state):
    small = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    frames = small.repeat(16, 1).repeat(16, 2)
    features, expected = network.features(frames), WrittenOut(state).features(frames)
    assert features.shape == (2, 2048)
    assert_same(features, expected)
    assert np.abs(expected[0] - expected[1]).max() > 0.01


def test_classifier_may_be_left_out_but_nothing_else(state, tmp_path):
    torch.save({n: t for n, t in state.items() if not n.startswith("fc.")}, tmp_path / "no_fc.pth")
    Inception.load(tmp_path / "no_fc.pth")
    torch.save(state | {"AuxLogits.fc.weight": torch.zeros(1)}, tmp_path / "torchvision.pth")
    with pytest.raises(WeightsError, match=r"unexpected: AuxLogits\.fc\.weight"):
        Inception.load(tmp_path / "torchvision.pth")
