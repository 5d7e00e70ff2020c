"""Convolutions of repeated pixels: the same numbers, for fewer multiplications."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.facevid2vid.upsampled import PhaseConv, phases, repeated


def test_rows_that_differ():
    assert phases(repeated(4))[1] == (0, 1, 1, 2)
    assert phases((0, 1, 1, 2))[1] == (0, 1, 2, 3)
    assert phases(repeated(2))[1] == (0, 1)
    assert phases(repeated(1))[1] == (0,)


@pytest.mark.parametrize("depth", [None, 3])
@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("size", [(5, 7), (1, 2)])
def test_two_convolutions_in_a_row(depth: int | None, times: int, size: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    volume, kernel = ([], (3, 3)) if depth is None else ([depth], (3, 3, 3))
    convolve = F.conv2d if depth is None else F.conv3d
    x = draw(2, 3, *volume, *size)
    weights, biases = (draw(5, 3, *kernel), draw(4, 5, *kernel)), (draw(5), draw(4))
    whole = x.repeat_interleave(times, -1).repeat_interleave(times, -2)
    expected = convolve(convolve(whole, weights[0], biases[0], padding=1).relu(), weights[1], biases[1], padding=1)
    first = PhaseConv(weights[0], biases[0], repeated(times))
    second = PhaseConv(weights[1], biases[1], first.slots)
    found = second.whole(first.whole(x).relu())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("times", "share"), [(1, 1.0), (2, 16 / 36), (4, 25 / 144)])
def test_price_of_the_first_convolution(times: int, share: float):
    conv = PhaseConv(torch.zeros(8, 4, 3, 3), torch.zeros(8), repeated(times))
    with FlopCounterMode(display=False) as counter:
        conv.whole(torch.zeros(1, 4, 16, 16))
    plain = 2 * 9 * 4 * 8 * (16 * times) ** 2
    assert counter.get_total_flops() == pytest.approx(plain * share)
