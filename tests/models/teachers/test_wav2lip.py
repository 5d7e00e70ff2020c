"""Wav2Lip: published names and shapes load strictly, and the output is that of a forward pass written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import WeightsError
from models.teachers.wav2lip import Wav2Lip
from tests.models.metrics.networks import assert_same, normalise, randomise

# Per block: inside, outside, kernel, stride and padding of its first layer, and how many residual layers follow.
ENCODER = [(6, 16, 7, 1, 3, 0), (16, 32, 3, 2, 1, 2), (32, 64, 3, 2, 1, 3), (64, 128, 3, 2, 1, 2)]
ENCODER += [(128, 256, 3, 2, 1, 2), (256, 512, 3, 2, 1, 1), (512, 512, 3, 1, 0, 0)]
DECODER = [(512, 512, 1, 1, 0, 0), (1024, 512, 3, 1, 0, 1), (1024, 512, 3, 2, 1, 2), (768, 384, 3, 2, 1, 2)]
DECODER += [(512, 256, 3, 2, 1, 2), (320, 128, 3, 2, 1, 2), (160, 64, 3, 2, 1, 2)]
AUDIO = [(1, 32, 1, 1), (32, 32, 1, 1), (32, 32, 1, 1), (32, 64, (3, 1), 1), (64, 64, 1, 1), (64, 64, 1, 1)]
AUDIO += [(64, 128, 3, 1), (128, 128, 1, 1), (128, 128, 1, 1), (128, 256, (3, 2), 1), (256, 256, 1, 1)]
AUDIO += [(256, 512, 1, 0), (512, 512, 1, 0)]  # inside, outside, stride, padding; the last kernel is 1
LAST_ENCODER = "face_encoder_blocks.6.1"  # the one block that ends with a layer of its own


def published_shapes() -> dict[str, tuple[int, ...]]:
    weights: dict[str, tuple[int, ...]] = {f"{LAST_ENCODER}.conv_block": (512, 512, 1, 1)}
    for k, (inside, outside, kernel, _, _, residuals) in enumerate(ENCODER):
        weights[f"face_encoder_blocks.{k}.0.conv_block"] = (outside, inside, kernel, kernel)
        for r in range(1, residuals + 1):
            weights[f"face_encoder_blocks.{k}.{r}.conv_block"] = (outside, outside, 3, 3)
    for k, (inside, outside, kernel, _, _, residuals) in enumerate(DECODER):
        pair = (inside, outside) if k else (outside, inside)  # transposed ones have it the other way round
        weights[f"face_decoder_blocks.{k}.0.conv_block"] = (*pair, kernel, kernel)
        for r in range(1, residuals + 1):
            weights[f"face_decoder_blocks.{k}.{r}.conv_block"] = (outside, outside, 3, 3)
    for k, (inside, outside, _, _) in enumerate(AUDIO):
        kernel = 3 if k < len(AUDIO) - 1 else 1
        weights[f"audio_encoder.{k}.conv_block"] = (outside, inside, kernel, kernel)
    weights["output_block.0.conv_block"] = (32, 80, 3, 3)
    shapes: dict[str, tuple[int, ...]] = {"output_block.1.weight": (3, 32, 1, 1), "output_block.1.bias": (3,)}
    for name, shape in weights.items():
        is_transposed = name.startswith("face_decoder_blocks") and name.endswith(".0.conv_block") and "s.0." not in name
        channels = shape[1 if is_transposed else 0]
        shapes[f"{name}.0.weight"] = shape
        parts = ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
        shapes |= {f"{name}.{part}": (channels,) for part in parts}
    return shapes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return randomise(Wav2Lip(), gain=0.9)


@pytest.fixture(scope="module")
def network(state, tmp_path_factory) -> Wav2Lip:
    path = tmp_path_factory.mktemp("weights") / "wav2lip_gan.pth"
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}, "global_step": 1}, path)
    return Wav2Lip.load(path)


def test_published_names_and_shapes(state):
    assert {name: tuple(t.shape) for name, t in state.items()} == published_shapes()
    assert sum(p.numel() for p in Wav2Lip().parameters()) == 36_298_035


def layer(x: Tensor, state, name: str, stride=1, padding=1, residual=False) -> Tensor:
    y = F.conv2d(x, state[f"{name}.conv_block.0.weight"], state[f"{name}.conv_block.0.bias"], stride, padding)
    y = normalise(y, state, f"{name}.conv_block.1")
    return (y + x if residual else y).relu()


def test_the_forward_pass(network, state):
    generator = torch.Generator().manual_seed(1)
    mel, faces = torch.randn(2, 1, 80, 16, generator=generator), torch.rand(2, 6, 96, 96, generator=generator)
    seen, x = [], faces
    for k, (_, _, _, stride, padding, residuals) in enumerate(ENCODER):
        x = layer(x, state, f"face_encoder_blocks.{k}.0", stride, padding)
        for r in range(1, residuals + 1):
            x = layer(x, state, f"face_encoder_blocks.{k}.{r}", residual=True)
        if k == 6:
            x = layer(x, state, LAST_ENCODER, padding=0)
        seen.append(x)
    x = mel
    for k, (inside, outside, stride, padding) in enumerate(AUDIO):
        x = layer(x, state, f"audio_encoder.{k}", stride, padding, residual=inside == outside and k < 12)
    for k, (_, _, _, stride, margin, residuals) in enumerate(DECODER):
        name = f"face_decoder_blocks.{k}.0"
        if k == 0:
            x = layer(x, state, name, padding=0)
        else:
            weight, bias = state[f"{name}.conv_block.0.weight"], state[f"{name}.conv_block.0.bias"]
            x = F.conv_transpose2d(x, weight, bias, stride, margin, output_padding=margin)
            x = normalise(x, state, f"{name}.conv_block.1").relu()
        for r in range(1, residuals + 1):
            x = layer(x, state, f"face_decoder_blocks.{k}.{r}", residual=True)
        x = torch.cat([x, seen.pop()], 1)
    x = layer(x, state, "output_block.0")
    x = F.conv2d(x, state["output_block.1.weight"], state["output_block.1.bias"]).sigmoid()
    with torch.inference_mode():
        assert_same(network(mel, faces).numpy(), x.numpy())


def test_it_sees_bgr_and_no_lower_half_but_the_reference(network, monkeypatch):
    given: list[Tensor] = []

    def forward(mel: Tensor, faces: Tensor) -> Tensor:
        given.append(faces)
        return faces[:, 3:]

    monkeypatch.setattr(network, "forward", forward)
    face = np.zeros((192, 192, 3), np.uint8)
    face[..., 0], face[100:, :, 2] = 200, 100
    frames = network.speak(face, np.zeros((70, 80, 16), np.float32))
    assert [len(batch) for batch in given] == [64, 6]
    masked, reference = given[0][0, :3], given[0][0, 3:]
    assert masked[2, :48].mean() == pytest.approx(200 / 255) and not masked[:, 48:].any()
    assert reference[0, 60].mean() == pytest.approx(100 / 255)
    assert frames.shape == (70, 96, 96, 3) and frames.dtype == np.uint8
    assert tuple(frames[5, 90, 48]) == (200, 0, 100)


def test_another_network_is_refused(tmp_path: Path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "lips.pth")
    with pytest.raises(WeightsError, match=r"lips\.pth.*Wav2Lip: missing: face_encoder_blocks"):
        Wav2Lip.load(tmp_path / "lips.pth")
