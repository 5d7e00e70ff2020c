"""The identity network of CSIM: alignment, published names, outputs against a forward pass written out."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.alignment import fit_similarity
from models.errors import WeightsError
from models.facespace import topology as top
from models.identity import TEMPLATE, Identity, align_face, csim, five_points
from tests.models.metrics.networks import assert_same, normalise, randomise

IR18, IR100 = (2, 2, 2, 2), (3, 13, 30, 3)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return randomise(Identity(IR18))


@pytest.fixture(scope="module")
def network(state, tmp_path_factory) -> Identity:
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(state, path)
    return Identity.load(path)


def test_published_names_and_shapes():
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Identity(IR100).state_dict().items()}
    assert len([n for n in shapes if n.endswith("conv2.weight")]) == 49
    assert sum(np.prod(s) for n, s in shapes.items() if n.endswith(("weight", "bias"))) == 65_156_160
    some = {
        "conv1.weight": (64, 3, 3, 3),
        "prelu.weight": (64,),
        "layer1.0.downsample.0.weight": (64, 64, 1, 1),
        "layer3.0.bn1.running_mean": (128,),
        "layer3.29.prelu.weight": (256,),
        "layer4.0.conv2.weight": (512, 512, 3, 3),
        "bn2.weight": (512,),
        "fc.weight": (512, 25088),
        "features.running_var": (512,),
    }
    assert {name: shapes[name] for name in some} == some


def written_out(faces: np.ndarray, state: dict[str, torch.Tensor]) -> np.ndarray:
    x = (torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5

    def prelu(x, name):
        return torch.where(x > 0, x, x * state[f"{name}.weight"].view(1, -1, 1, 1))

    x = prelu(normalise(F.conv2d(x, state["conv1.weight"], padding=1), state, "bn1"), "prelu")
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 - block
            y = F.conv2d(normalise(x, state, f"{name}.bn1"), state[f"{name}.conv1.weight"], padding=1)
            y = prelu(normalise(y, state, f"{name}.bn2"), f"{name}.prelu")
            y = normalise(F.conv2d(y, state[f"{name}.conv2.weight"], None, stride, 1), state, f"{name}.bn3")
            if block == 0:
                x = F.conv2d(x, state[f"{name}.downsample.0.weight"], None, 2)
                x = normalise(x, state, f"{name}.downsample.1")
            x = x + y
    x = F.linear(normalise(x, state, "bn2").reshape(len(x), -1), state["fc.weight"], state["fc.bias"])
    x = normalise(x, state, "features")
    return (x / x.square().sum(1, keepdim=True).sqrt()).numpy()


def test_vectors_agree_with_the_written_out_network(network, state):
    faces = np.random.default_rng(0).integers(0, 256, (2, 7, 7, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    vectors = network.embed(faces)
    assert_same(vectors, written_out(faces, state))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_depth_is_read_from_the_file(network, state, tmp_path):
    assert [len(layer) for layer in (network.layer1, network.layer4)] == [2, 2]
    torch.save({n: t for n, t in state.items() if not n.startswith("layer2.1.bn3")}, tmp_path / "torn.pth")
    with pytest.raises(WeightsError, match=r"torn\.pth.*Identity: missing: layer2\.1\.bn3\.weight"):
        Identity.load(tmp_path / "torn.pth")
    torch.save({"body.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"missing: conv1\.weight.* unexpected: body\.0\.weight"):
        Identity.load(tmp_path / "other.pth")


def test_similarity_recovers_rotation_scale_and_shift():
    angle, scale, shift = 0.4, 1.7, np.array([5.0, -3.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = fit_similarity(TEMPLATE, TEMPLATE @ turn.T + shift)
    np.testing.assert_allclose(matrix, np.column_stack([turn, shift]), rtol=1e-10)


def test_similarity_is_the_best_in_squares_and_never_mirrors():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2)) * 30
    for targets in (TEMPLATE, TEMPLATE * (-1, 1)):
        matrix = fit_similarity(points, targets)
        assert np.linalg.det(matrix[:, :2]) > 0
        # z -> a z + b by plain linear least squares in a, b
        x, y = points.T
        one, zero = np.ones(5), np.zeros(5)
        left = np.block([[x[:, None], -y[:, None], one[:, None], zero[:, None]], [np.stack([y, x, zero, one], 1)]])
        a, b, tx, ty = np.linalg.lstsq(left, targets.T.ravel(), rcond=None)[0]
        np.testing.assert_allclose(matrix, [[a, -b, tx], [b, a, ty]], rtol=1e-8, atol=1e-8)


def test_aligned_face_has_its_points_on_the_template():
    image = np.zeros((300, 400, 3), np.uint8)
    points = TEMPLATE @ np.array([[0.0, 1.5], [-1.5, 0.0]]) + (280, 60)  # turned by 90 degrees, larger
    for k, point in enumerate(points):
        cv2.circle(image, tuple(np.round(point).astype(int).tolist()), 3, (0, 50 * (k + 1), 255), -1)
    face = align_face(image, points)
    assert face.shape == (112, 112, 3)
    for k, (x, y) in enumerate(np.round(TEMPLATE).astype(int)):
        np.testing.assert_allclose(face[y, x].astype(int), (0, 50 * (k + 1), 255), atol=3)


def test_five_points_of_both_kinds_of_landmarks():
    points68 = np.random.default_rng(0).uniform(0, 200, (68, 3))
    expected = [points68[36:42, :2].mean(0), points68[42:48, :2].mean(0), *points68[[30, 48, 54], :2]]
    np.testing.assert_allclose(five_points(points68), np.array(expected) - 0.5)
    points478 = np.random.default_rng(1).uniform(0, 200, (478, 3))
    np.testing.assert_allclose(five_points(points478)[0], points478[list(top.RIGHT_EYE), :2].mean(0) - 0.5)
    np.testing.assert_allclose(five_points(points478)[2:], points478[[4, 61, 291], :2] - 0.5)
    with pytest.raises(ValueError, match="29 landmarks"):
        five_points(np.zeros((29, 2)))


def test_csim_counts_missed_faces_as_zero():
    source = np.zeros(512)
    source[0] = 1
    frames = np.zeros((4, 512))
    frames[0, 0], frames[1, 1], frames[2, :2], frames[3] = 1, 1, (0.6, 0.8), np.nan
    value, misses = csim(source, frames)
    assert value == pytest.approx((1 + 0 + 0.6) / 4)
    assert misses == 1
    assert np.isnan(csim(source, frames[:0])[0])
