"""The face reconstruction: what its 257 numbers are, and its independence of neighbours."""

import torch

from models.sadtalker.recon import SIDE_PX, ReconNet, split
from tests.models.metrics.networks import randomise


def network() -> ReconNet:
    net = ReconNet(width=4)
    net.load_state_dict(randomise(net), strict=False)
    return net.eval().requires_grad_(False)


def test_parts_of_a_row():
    parts = split(torch.arange(257.0)[None])
    assert [part.shape[1] for part in parts] == [80, 64, 80, 3, 27, 3]
    assert [int(part[0, 0]) for part in parts] == [0, 80, 144, 224, 227, 254]


def test_pictures_of_a_batch_do_not_see_each_other():
    net, image = network(), torch.rand(2, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0))
    rows = net(image)
    assert rows.shape == (2, 257)
    torch.testing.assert_close(rows[1:], net(image[1:]), rtol=1e-4, atol=1e-4)
    assert float((rows[0] - rows[1]).abs().max()) > 1e-3
