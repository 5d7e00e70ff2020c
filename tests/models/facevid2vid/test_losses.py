"""Losses against values worked out by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.errors import WeightsError
from models.facevid2vid import losses
from models.facevid2vid.discriminator import Verdict
from models.facevid2vid.keypoints import Angles


def verdict(realness: float, feature: float) -> Verdict:
    return Verdict(torch.full((1, 1, 2, 2), realness), [torch.full((1, 3, 2, 2), feature), torch.zeros(1, 1, 1, 1)])


def test_adversaries():
    made, real = [verdict(0.25, 0.0)] * 2, [verdict(0.5, 1.0), verdict(3.0, 1.0)]
    assert losses.adversarial(made).item() == pytest.approx(-0.5)
    assert losses.discrimination(made, real).item() == pytest.approx(1.25 + 0.5 + 1.25 + 0)
    assert losses.matching(made, real).item() == pytest.approx(2 * 0.5)


def test_discriminator_features_teach_the_generator_only():
    made, real = (torch.zeros(1, 1, 1, 1, requires_grad=True) for _ in range(2))
    losses.matching([Verdict(made, [made + 1])], [Verdict(real, [real])]).backward()
    assert made.grad is not None
    assert real.grad is None


def test_keypoints_that_crowd():
    far = torch.tensor([[[0.0, 0.0, 0.33], [1.0, 0.0, 0.33]]])
    assert losses.spread(far).item() == pytest.approx(0, abs=1e-6)
    near = torch.tensor([[[0.0, 0.0, 0.33], [0.1, 0.0, 0.33]]])
    assert losses.spread(near).item() == pytest.approx(2 * (0.1 - 0.01), rel=1e-5)
    assert losses.spread(far + torch.tensor([0.0, 0.0, 0.2])).item() == pytest.approx(0.2, rel=1e-5)


def test_small_losses():
    degrees = Angles(*(torch.tensor([x]) for x in (1.0, 2.0, 3.0)))
    level = Angles(*(torch.zeros(1) for _ in range(3)))
    assert losses.head_pose(degrees, level).item() == pytest.approx(2)
    assert losses.deformation(torch.tensor([[0.5, -1.5]])).item() == pytest.approx(1)
    assert losses.mapped(torch.zeros(1, 2, 3), torch.full((1, 2, 3), -0.5)).item() == pytest.approx(0.5)


def test_the_first_keypoints_are_led_to_landmarks():
    keypoints = torch.tensor([[[0.0, 0.5, 0.9], [-0.2, 0.0, 0.1], [1.0, 1.0, 1.0]]])
    landmarks = torch.tensor([[[0.02, 0.5], [-0.2, -0.02]]])
    assert losses.guide(keypoints, landmarks).item() == pytest.approx(0.5)  # two coordinates of four, by a percent
    assert losses.guide(keypoints, keypoints[:, :2, :2]).item() == 0


def brightest(image_BCHW: Tensor) -> Tensor:
    """The brightest place of pictures, in -1 .. 1, shape (B, 1, 3)."""
    heat = (image_BCHW.mean(1).flatten(1) * 200).softmax(1).view(len(image_BCHW), *image_BCHW.shape[2:])
    y, x = (torch.linspace(-1, 1, n) for n in heat.shape[1:])
    return torch.stack([heat.sum(1) @ x, heat.sum(2) @ y, heat.sum((1, 2)) * 0], 1)[:, None]


def test_keypoints_that_follow_a_distortion():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 101), torch.linspace(-1, 1, 101), indexing="ij")
    image = torch.stack([(-((x - cx) ** 2 + (y - cy) ** 2) / 0.02).exp() for cx, cy in ((0.2, -0.1), (-0.3, 0.4))])
    image = image[:, None].expand(-1, 3, -1, -1)
    distortion = losses.Distortion.draw(2, torch.Generator().manual_seed(0), affine=0.1)
    distorted = distortion.picture(image)
    moved = brightest(distorted)
    assert float((moved - brightest(image)).abs().max()) > 0.02
    assert losses.equivariance(brightest(image), moved, distortion).item() < 0.01
    assert losses.equivariance(brightest(image), brightest(image), distortion).item() > 0.02


def vgg_state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)  # torchvision's convolutions
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for k, number in enumerate(numbers):
        inside, outside = widths[k : k + 2]
        weight = torch.randn(outside, inside, 3, 3, generator=generator) * math.sqrt(2 / (9 * inside))
        state |= {f"features.{number}.weight": weight, f"features.{number}.bias": torch.zeros(outside)}
    return state


def test_perceptual_distance(tmp_path: Path):
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    torch.save(vgg_state(), path)
    network = losses.Vgg19.load(path)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert [x.shape[1:] for x in network(image)] == [
        (c, s, s) for c, s in zip((64, 128, 256, 512, 512), (32, 16, 8, 4, 2))
    ]
    made = (image + 0.1).requires_grad_()
    assert losses.perceptual(network, image, image, sizes=2).item() == 0
    distance = losses.perceptual(network, made, image, sizes=2)
    distance.backward()
    assert distance.item() > 0
    assert made.grad is not None


def test_another_network_is_refused(tmp_path: Path):
    path = tmp_path / "vgg16.pth"
    state = vgg_state()
    del state["features.16.weight"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"features\.16\.weight"):
        losses.Vgg19.load(path)


def test_pixels_stand_in_for_features():
    real = torch.zeros(1, 3, 4, 4)
    checked = real.clone()
    checked[..., ::2, ::2] = checked[..., 1::2, 1::2] = 0.4
    assert losses.reconstruction(checked, real, sizes=1).item() == pytest.approx(0.2)
    assert losses.reconstruction(checked - 0.2, real, sizes=2).item() == pytest.approx((0.2 + 0.0) / 2, abs=1e-6)
    assert losses.psnr(real + 0.1, real).item() == pytest.approx(20, abs=1e-4)
    assert [losses.pyramid(side) for side in (64, 256, 512)] == [3, 4, 4]


def test_the_total_is_weighted():
    parts = {"mapped": torch.tensor(0.5), "deformation": torch.tensor(2.0), "adversarial": torch.tensor(-1.0)}
    assert losses.combined(parts) == {"total": torch.tensor(20 * 0.5 + 5 * 2 - 1), **parts}
