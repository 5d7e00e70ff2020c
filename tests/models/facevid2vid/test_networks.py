"""The networks' names, shapes and geometry."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.checkpoint import fill
from models.facevid2vid.discriminator import MultiScaleDiscriminator
from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import (
    Angles,
    Head,
    HeadEstimator,
    KeypointDetector,
    degrees,
    place,
    rotation,
    turn_of,
)
from models.facevid2vid.motion import DenseMotion, bells, identity_grid, warp
from models.sadtalker.mapping import MappingNet
from models.sadtalker.recon import ReconNet
from tests.models.facevid2vid.networks import KEYPOINTS, pictures, points, small_detector

NETWORKS = {  # builder, place in the list of official names, parameters
    "generator": (Generator, "safetensors", "generator.", 100_988_176),
    "keypoints": (KeypointDetector, "safetensors", "kp_extractor.", 41_940_047),
    "reconstruction": (ReconNet, "safetensors", "face_3drecon.", 24_034_625),
    "head": (HeadEstimator, 'facevid2vid_00189-model.pth.tar["he_estimator"] (unused at inference)', "", 30_254_838),
    "mapping 70": (MappingNet, 'mapping_00229-model.pth.tar["mapping"]', "", 10_195_190),
    "mapping 73": (lambda: MappingNet(73), 'mapping_00109-model.pth.tar["mapping"]', "", 10_216_694),
}


@pytest.fixture(scope="module")
def official_names(request: pytest.FixtureRequest) -> dict:
    folder = request.getfixturevalue("shared_data").parent
    path = folder / "parity" / "sadtalker" / "official_keys.json"
    if not path.exists():
        pytest.skip(f"no list of official names: {path}")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters(name: str):
    build, _, _, count = NETWORKS[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


@pytest.mark.parametrize("name", NETWORKS)
def test_published_files_fit(name: str, official_names: dict):
    build, place_in_list, prefix, _ = NETWORKS[name]
    shapes = {n.removeprefix(prefix): s for n, s in official_names[place_in_list].items() if n.startswith(prefix)}
    network = build()
    assert {n: list(t.shape) for n, t in network.state_dict().items()} == shapes
    state = {n: torch.full(shape, 0.5) for n, shape in shapes.items()}
    fill(network, state, Path("published.safetensors"))
    assert all(bool((p == 0.5).all()) for p in network.parameters())


def test_degrees_of_bins():
    assert degrees(torch.zeros(1, 66)).item() == pytest.approx(-1.5)
    sure = nn.functional.one_hot(torch.tensor([0, 33, 65]), 66) * 1000.0
    torch.testing.assert_close(degrees(sure), torch.tensor([-99.0, 0.0, 96.0]))


def test_rotations_turn_about_one_axis_each():
    quarter, none = torch.tensor([180 / 3.14 * torch.pi / 2]), torch.zeros(1)
    x, y, z = torch.eye(3)
    for turn, start, end in (
        (Angles(quarter, none, none), z, x),
        (Angles(none, quarter, none), y, z),
        (Angles(none, none, quarter), x, y),
    ):
        torch.testing.assert_close(rotation(turn)[0] @ start, end, atol=1e-6, rtol=0)


def test_angles_come_back_from_rotations():
    turn = Angles(*torch.tensor([[-80.0, 0.0, 35.0], [20.0, 0.0, -60.0], [5.0, 0.0, -170.0]]))
    for found, given in zip(turn_of(rotation(turn)), turn):
        torch.testing.assert_close(found, given, atol=1e-3, rtol=0)


def test_heads_move_up_and_down_only():
    level = nn.functional.one_hot(torch.tensor([33]), 66) * 1000.0
    shift = torch.zeros(1, 3 * KEYPOINTS)
    shift[0, 4] = 0.25  # y of the second keypoint
    head = Head(level, level, level, torch.tensor([[5.0, 0.5, 7.0]]), shift)
    moved = place(points(1), head) - points(1)
    expected = torch.tensor([0.0, 0.5, 0.0]).repeat(1, KEYPOINTS, 1)
    expected[0, 1, 1] += 0.25
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_keypoints_follow_the_heat():
    detector = small_detector()
    found = detector(pictures(2))
    assert found.shape == (2, KEYPOINTS, 3)
    assert float(found.abs().max()) <= 1
    detector.kp.weight.zero_()
    torch.testing.assert_close(detector(pictures(2)), torch.zeros(2, KEYPOINTS, 3), atol=1e-6, rtol=0)


def test_warp_shares_one_volume():
    volume = torch.randn(1, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    flow = identity_grid((3, 4, 5), volume)[None] * torch.tensor([0.5, 0.7, -0.9])[:, None, None, None, None]
    torch.testing.assert_close(warp(volume, flow), warp(volume.expand(3, -1, -1, -1, -1), flow))


def test_bells_peak_at_their_points():
    centre = torch.tensor([[[1.0, -1.0, 0.0]]])
    bell = bells((3, 5, 7), centre)[0, 0]
    assert bell[1, 0, 6] == 1
    assert bell.argmax() == 1 * 35 + 0 * 7 + 6


@torch.inference_mode()
def test_equal_keypoints_leave_the_grid():
    motion = DenseMotion(KEYPOINTS, channels=8, depth=4, width=4, max_width=16, blocks=2, compress=2).eval()
    motion.mask.weight.zero_()
    flow = motion(torch.randn(1, 8, 4, 8, 8), points(1), points(1))
    torch.testing.assert_close(flow.deformation[0], identity_grid((4, 8, 8), points(1)), atol=1e-5, rtol=0)


def test_discriminator_judges_patches_at_each_scale():
    verdicts = MultiScaleDiscriminator((0, 1), width=4, max_width=16)(torch.rand(2, 3, 128, 128))
    assert [len(v.features) for v in verdicts] == [4, 4]
    assert [v.realness.shape for v in verdicts] == [(2, 1, 10, 10), (2, 1, 2, 2)]
