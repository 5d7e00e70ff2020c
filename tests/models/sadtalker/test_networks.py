"""ExpNet and PoseVAE: names and sizes of the published files, any size, and what a batch must not change."""

import json
import os
from pathlib import Path

import pytest
import torch

from models.sadtalker import expnet, posevae
from models.sadtalker.audio_encoder import TINY_CHANNELS, AudioEncoder
from models.sadtalker.expnet import ExpNet
from models.sadtalker.posevae import PoseVAE
from tests.conftest import ROOT

DATA = Path(os.environ.get("TALKFARM_DATA", ROOT.parent / "shared" / "data"))
PUBLISHED = DATA.parent / "parity" / "sadtalker" / "official_keys.json"


def small_posevae(**other) -> PoseVAE:
    return PoseVAE(**{**posevae.SIZES["small"], **other}).eval()


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"no list of the published files' names at {PUBLISHED}")
@pytest.mark.parametrize("prefix, build", [("audio2exp.", ExpNet), ("audio2pose.", PoseVAE)])
def test_names_and_shapes_are_those_of_the_published_files(prefix, build):
    listed = json.loads(PUBLISHED.read_text())["safetensors"]
    expected = {name.removeprefix(prefix): shape for name, shape in listed.items() if name.startswith(prefix)}
    assert {name: list(tensor.shape) for name, tensor in build().state_dict().items()} == expected


@pytest.mark.parametrize("size", ["paper", "small"])
def test_sizes_are_known_from_the_weights(size):
    assert expnet.sizes_of(ExpNet(**expnet.SIZES[size]).state_dict()) == {
        "channels": expnet.SIZES[size].get("channels")
    }
    own = PoseVAE(**posevae.SIZES[size])
    again = PoseVAE(**posevae.sizes_of(own.state_dict()))
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in own.state_dict().items()}


def test_sizes_without_a_critic():
    assert posevae.sizes_of(small_posevae(critic=None).state_dict())["critic"] is None


def test_small_is_small():
    counts = [
        sum(p.numel() for p in network.parameters())
        for network in (ExpNet(**expnet.SIZES["small"]), PoseVAE(**posevae.SIZES["small"]))
    ]
    assert counts[0] < 0.4e6 and counts[1] < 1.2e6


def test_frames_do_not_see_each_other():
    network = ExpNet(**expnet.SIZES["small"]).eval()
    mel, reference, blink = torch.randn(23, 1, 80, 16), torch.randn(23, 64), torch.rand(23, 1)
    whole = network(mel, reference, blink)
    for step in (1, 10):
        pieces = [network(mel[k : k + step], reference[k : k + step], blink[k : k + step]) for k in range(0, 23, step)]
        assert torch.allclose(torch.cat(pieces), whole, atol=1e-5)


def test_blink_and_reference_reach_the_expression():
    network = ExpNet(**expnet.SIZES["small"]).eval()
    mel = torch.zeros(1, 1, 80, 16)
    still = network(mel, torch.zeros(1, 64), torch.zeros(1, 1))
    assert not torch.allclose(still, network(mel, torch.zeros(1, 64), torch.ones(1, 1)))
    assert not torch.allclose(still, network(mel, torch.ones(1, 64), torch.zeros(1, 1)))


def test_encoder_of_other_widths():
    assert AudioEncoder((4, 5, 6, 7, 9))(torch.zeros(2, 1, 80, 16)).shape == (2, 9)


def test_official_variance_is_the_mean_s():
    given = (torch.randn(2, 32, 6), torch.randn(2, 6), torch.randn(2, 32, TINY_CHANNELS[-1]), torch.tensor([0, 45]))
    _, mean, log_variance = small_posevae(official=True)(*given, torch.randn(2, 16))
    assert torch.equal(mean, log_variance)
    network = small_posevae()
    change, mean, log_variance = network(*given, torch.zeros(2, 16))
    assert not torch.allclose(mean, log_variance) and change.shape == (2, 32, 6)
    heard = network.decoder.linear_audio(given[2])
    assert torch.allclose(change, network.decoder(given[1], mean, heard, given[3]), atol=1e-6)


def test_style_and_latent_change_the_head():
    network = small_posevae()
    heard, start = torch.randn(1, 32, 6), torch.zeros(1, 6)
    moves = [
        network.decoder(start, latent, heard, torch.tensor([style]))
        for style, latent in ((0, torch.zeros(1, 16)), (1, torch.zeros(1, 16)), (0, torch.ones(1, 16)))
    ]
    assert not torch.allclose(moves[0], moves[1]) and not torch.allclose(moves[0], moves[2])


def test_critic_sees_a_quarter_of_the_time():
    assert small_posevae().netD_motion(torch.randn(3, 32, 6)).shape == (3, 8)
