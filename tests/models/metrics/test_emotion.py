"""The classifier of Emo_Acc: names, shapes, outputs against a forward pass written out, crops."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.emotion import EMOTIONS, EmotionNetwork, emotion_crop
from tests.models.metrics.networks import assert_same, normalise, randomise


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return randomise(EmotionNetwork())


@pytest.fixture(scope="module")
def network(state, tmp_path_factory) -> EmotionNetwork:
    path = tmp_path_factory.mktemp("weights") / "self_relation-attention_33_99.162"
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 34, "state_dict": wrapped, "accuracy": torch.tensor(99.162), "name": "fan"}, path)
    return EmotionNetwork.load(path)


def test_published_names_and_shapes(state):
    assert sum(t.numel() for n, t in state.items() if n.startswith(("conv", "bn", "layer")) and "run" not in n) == (
        11_176_512  # ResNet-18 without its classifier
    )
    some = {
        "layer1.1.bn2.weight": (64,),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "alpha.0.weight": (1, 512),
        "beta.0.weight": (1, 1024),
        "pred_fc1.weight": (8, 512),
        "pred_fc2.bias": (8,),
    }
    assert {name: tuple(state[name].shape) for name in some} == some
    assert "layer1.0.downsample.0.weight" not in state


def faces(count: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (count, 7, 7, 3), np.uint8)
    return small.repeat(32, 1).repeat(32, 2)


def written_out(crops: np.ndarray, state: dict[str, torch.Tensor]) -> torch.Tensor:
    x = torch.from_numpy(crops).permute(0, 3, 1, 2) / 255
    x = normalise(F.conv2d(x, state["conv1.weight"], None, 2, 3), state, "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = normalise(F.conv2d(x, state[f"{name}.conv1.weight"], None, stride, 1), state, f"{name}.bn1").relu()
            y = normalise(F.conv2d(y, state[f"{name}.conv2.weight"], None, 1, 1), state, f"{name}.bn2")
            if stride == 2:
                x = F.conv2d(x, state[f"{name}.downsample.0.weight"], None, 2)
                x = normalise(x, state, f"{name}.downsample.1")
            x = (x + y).relu()
    return x.mean((2, 3))


def test_features_agree_with_the_written_out_network(network, state):
    crops = faces(2)
    features, alpha = network.features(crops)
    expected = written_out(crops, state)
    assert_same(features, expected.numpy())
    own = torch.sigmoid(F.linear(expected, state["alpha.0.weight"], state["alpha.0.bias"]))
    np.testing.assert_allclose(alpha, own.numpy()[:, 0], rtol=1e-4)


@pytest.mark.parametrize("as_trained", [False, True])
def test_video_is_weighed_twice(network, state, as_trained):
    rng = np.random.default_rng(0)
    features, alpha = rng.normal(size=(6, 512)).astype(np.float32), rng.uniform(0.1, 1, 6).astype(np.float32)
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in state.items()}
    mean = sum(a * f for a, f in zip(alpha, features)) / alpha.sum()
    top, bottom = np.zeros(1024), 0.0
    for a, f in zip(alpha, features):
        pair = np.concatenate([f, mean])
        beta = 1 / (1 + np.exp(-(weights["beta.0.weight"][0] @ pair + weights["beta.0.bias"][0])))
        top += a * pair * (beta if as_trained else 1)
        bottom += a * beta
    scores = weights["pred_fc2.weight"] @ (top / bottom) + weights["pred_fc2.bias"]
    expected = np.exp(scores - scores.max())
    probabilities = network.classify(features, alpha, as_trained)
    np.testing.assert_allclose(probabilities, expected / expected.sum(), rtol=1e-4)
    assert len(probabilities) == len(EMOTIONS) == 8


def test_crop_is_upright_with_the_eyes_in_place():
    image = np.full((400, 400, 3), 90, np.uint8)
    landmarks = np.zeros((68, 2))
    # eyes on a line that rises to the right, nose below their middle
    landmarks[[36, 39, 42, 45]] = [(100, 240), (140, 220), (180, 200), (220, 180)]
    landmarks[33] = (195, 285)
    for k in (36, 45):
        cv2.circle(image, tuple((landmarks[k]).astype(int).tolist()), 6, (255, 255, 255), -1)
    crop = emotion_crop(image, landmarks + 0.5)
    assert crop.shape == (224, 224, 3)
    bright = np.argwhere(crop[..., 0] > 200)
    left, right = (bright[side].mean(0) for side in (bright[:, 1] < 112, bright[:, 1] >= 112))
    assert abs(left[0] - right[0]) < 4
    assert left[1] == pytest.approx((0.12 + 0.25) / 1.5 * 224, abs=6)
    assert right[1] == pytest.approx((0.86 + 0.25) / 1.5 * 224, abs=6)
