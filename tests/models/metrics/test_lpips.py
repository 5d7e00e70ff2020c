"""LPIPS: torchvision's and the authors' names, outputs against a distance written out, what is refused."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.errors import WeightsError
from models.lpips import Lpips

# torchvision's `features`: number of a convolution -> channels in, out, kernel
ALEX = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
VGG_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG = {k: (*VGG_WIDTHS[n : n + 2], 3) for n, k in enumerate(VGG_NUMBERS)}
NETWORKS = {"alex": (ALEX, (64, 192, 384, 256, 256)), "vgg": (VGG, (64, 128, 256, 512, 512))}


def random_files(kind: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    convolutions, widths = NETWORKS[kind]
    backbone = {"classifier.6.bias": torch.zeros(1000)}
    for k, (inside, outside, kernel) in convolutions.items():
        noise = torch.randn(outside, inside, kernel, kernel, generator=generator)
        backbone[f"features.{k}.weight"] = noise * (2 / (inside * kernel**2)) ** 0.5
        backbone[f"features.{k}.bias"] = torch.randn(outside, generator=generator) * 0.1
    heads = {
        f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator) for k, width in enumerate(widths)
    }
    return backbone, heads


def save(folder, kind: str) -> tuple:
    backbone, heads = random_files(kind)
    paths = folder / f"{kind}_heads.pth", folder / f"{kind}_backbone.pth"
    torch.save(heads, paths[0])
    torch.save(backbone, paths[1])
    return paths


def slices(x: torch.Tensor, kind: str, state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    def layer(x, k, stride=1, padding=1):
        return F.conv2d(x, state[f"features.{k}.weight"], state[f"features.{k}.bias"], stride, padding).relu()

    if kind == "alex":
        first = layer(x, 0, 4, 2)
        second = layer(F.max_pool2d(first, 3, 2), 3, 1, 2)
        third = layer(F.max_pool2d(second, 3, 2), 6)
        fourth = layer(third, 8)
        return [first, second, third, fourth, layer(fourth, 10)]
    outputs = []
    for numbers in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        x = F.max_pool2d(x, 2, 2) if outputs else x
        for k in numbers:
            x = layer(x, k)
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_distance_agrees_with_the_written_out_one(kind, tmp_path):
    backbone, heads = random_files(kind)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (2, 70, 64, 3)).astype(np.uint8) for _ in range(2))
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    first, second = (
        slices(((torch.from_numpy(x) / 255 * 2 - 1 - shift) / scale).permute(0, 3, 1, 2), kind, backbone)
        for x in (a, b)
    )
    expected = np.zeros(2)
    for k, (x, y) in enumerate(zip(first, second)):
        x, y = (z / (z.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y))
        expected += F.conv2d((x - y) ** 2, heads[f"lin{k}.model.1.weight"]).mean((1, 2, 3)).numpy()
    network = Lpips.load(*save(tmp_path, kind))
    a.flags.writeable = False  # as decoded frames are
    np.testing.assert_allclose(network.distance(a, b), expected, rtol=1e-4)
    np.testing.assert_array_equal(network.distance(a, a), 0)


def test_whole_module_of_the_authors_serves_as_heads(tmp_path):
    heads_path, backbone_path = save(tmp_path, "alex")
    heads = torch.load(heads_path, weights_only=True)
    whole = heads | {"net.slice1.0.weight": torch.zeros(64, 3, 11, 11), "scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    whole |= {n.replace("lin", "lins.", 1): t for n, t in heads.items()}
    torch.save(whole, tmp_path / "whole.pth")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64, 3), np.uint8)
    distances = [Lpips.load(p, backbone_path).distance(*pictures) for p in (heads_path, tmp_path / "whole.pth")]
    assert distances[0] == distances[1] > 0


def test_heads_of_another_network_and_other_files_are_refused(tmp_path):
    alex_heads, alex = save(tmp_path, "alex")
    vgg_heads, vgg = save(tmp_path, "vgg")
    with pytest.raises(WeightsError, match=r"vgg_heads\.pth.*Lpips: of another shape: lin1\.model\.1\.weight"):
        Lpips.load(vgg_heads, alex)
    with pytest.raises(WeightsError, match=r"alex_heads\.pth.*AlexNet: missing: slice1\.0\.weight"):
        Lpips.load(alex_heads, alex_heads)
    with pytest.raises(WeightsError, match=r"vgg_backbone\.pth.*Lpips: missing: lin0\.model\.1\.weight"):
        Lpips.load(vgg, vgg)
