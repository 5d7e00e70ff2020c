"""The mapping network over time and window by window."""

import numpy as np
import pytest
import torch

from models.sadtalker.mapping import WINDOW, MappingNet
from models.sadtalker.windows import RADIUS, coefficient_windows
from tests.models.metrics.networks import randomise


def network(coefficients: int) -> MappingNet:
    net = MappingNet(coefficients, width=16, keypoints=5)
    net.load_state_dict(randomise(net))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("coefficients", [70, 73])
def test_one_pass_over_time_is_window_by_window(coefficients: int):
    net = network(coefficients)
    clip = np.random.default_rng(0).normal(size=(40, coefficients)).astype(np.float32)
    expected = net(torch.from_numpy(coefficient_windows(clip, np.arange(40))))
    around = clip[np.arange(-RADIUS, 40 + RADIUS).clip(0, 39)]
    found = net.over_time(torch.from_numpy(around))
    for part, other in zip(found, expected):
        assert part.shape == other.shape
        torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-5)


def test_a_single_window_gives_a_single_frame():
    head = network(70).over_time(torch.zeros(WINDOW, 70))
    assert head.yaw.shape == (1, 66)
    assert head.expression.shape == (1, 15)


def test_heads_are_not_mixed_up():
    net = network(70)
    net.fc_yaw.bias += 100
    net.fc_t.bias += 200
    head = net(torch.zeros(1, 70, WINDOW))
    assert float(head.yaw.min()) > 50
    assert float(head.pitch.abs().max()) < 50
    assert float(head.roll.abs().max()) < 50
    assert float(head.translation.min()) > 100
