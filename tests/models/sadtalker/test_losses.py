import numpy as np
import pytest
import torch

from models.facespace.open import OpenSpace
from models.sadtalker import losses
from models.sadtalker.landmarks import FrontalLandmarks


@pytest.fixture(scope="module")
def landmarks() -> FrontalLandmarks:
    return FrontalLandmarks(OpenSpace.load())


def test_landmarks_are_the_space_s(landmarks):
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=80).astype(np.float32), rng.normal(size=(4, 64)).astype(np.float32)
    expected = OpenSpace.load().landmarks68(identity, expression, np.zeros((4, 6), np.float32))[..., :2] * 101.5
    found = landmarks(torch.from_numpy(identity)[None], torch.from_numpy(expression)[None])
    assert np.abs(found[0].numpy() - expected).max() < 1e-3


def test_eye_ratio_of_a_hand_made_eye():
    points = torch.zeros(68, 2)
    for first, shift in ((36, 0.0), (42, 100.0)):
        eye = [(0, 0), (10, -4), (20, -4), (30, 0), (20, 4), (10, 4)]
        points[first : first + 6] = torch.tensor(eye, dtype=torch.float32) + torch.tensor([shift, 0.0])
    # either eye: 30 wide, 8 high; |37 + 38 - 40 - 41| / 2 counts the full height once per eye
    assert losses.eye_ratio(points).item() == pytest.approx(16 / 30)
    assert losses.eye_ratio(points[None, None]).shape == (1, 1)


def test_a_blink_of_the_open_space_closes_the_ratio(landmarks):
    space = OpenSpace.load()
    shut = space.direction("blink_R") + space.direction("blink_L")
    expression = torch.from_numpy(np.stack([np.zeros(64), shut]).astype(np.float32))[None]
    opened, closed = losses.eye_ratio(landmarks(torch.zeros(1, 80), expression))[0].tolist()
    assert 0.3 < opened < 0.9 and closed < 0.35 * opened


def test_losses_vanish_where_there_is_nothing_to_learn(landmarks):
    expression = torch.randn(2, 5, 64)
    points = landmarks(torch.zeros(2, 80), expression)
    parts = losses.expnet_losses(
        expression, expression, landmarks=(points, points), eye_ratio_BT=losses.eye_ratio(points)
    )
    assert set(parts) == {"total", "distill", "eyes", "landmarks"}
    assert all(value.item() == 0 for value in parts.values())


def test_landmark_loss_spares_the_eyes():
    teacher = torch.zeros(1, 2, 68, 2)
    blinking, talking = teacher.clone(), teacher.clone()
    blinking[:, :, 36:48] = 5.0
    talking[:, :, 48] = 3.0
    assert losses.landmark_loss(blinking, teacher) == 0
    assert losses.landmark_loss(talking, teacher).item() == pytest.approx(18 / 56)


def test_weights_of_the_paper():
    expression = torch.zeros(1, 2, 64)
    points = torch.randn(1, 2, 68, 2)
    parts = losses.expnet_losses(
        expression,
        expression + 1,
        landmarks=(points, points + 2),
        eye_ratio_BT=losses.eye_ratio(points) + 0.5,
        logits=(torch.randn(1, 7), torch.randn(1, 7)),
    )
    assert parts["eyes"].item() == pytest.approx(1.0) and parts["landmarks"].item() == pytest.approx(8.0)
    expected = 2 * parts["distill"] + 0.01 * (200 * parts["eyes"] + parts["landmarks"]) + 0.01 * parts["read"]
    assert parts["total"].item() == pytest.approx(expected.item())
    with pytest.raises(ValueError, match="eye_ratio_BT"):
        losses.expnet_losses(expression, expression, landmarks=(points, points))


def test_closure_to_ratio():
    ratios = losses.ratio_when_closed(torch.tensor([0.6]), torch.tensor([[0.0, 0.5, 1.0]]))
    assert torch.allclose(ratios, torch.tensor([[0.6, 0.3, 0.0]]))


def test_reading_is_best_where_it_agrees_and_teaches_the_reader_only():
    heard = torch.randn(2, 9, requires_grad=True)
    read = torch.randn(2, 9, requires_grad=True)
    assert losses.read_loss(heard, heard) < losses.read_loss(read, heard)
    losses.read_loss(read, heard).backward()
    assert heard.grad is None and read.grad is not None


def test_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)
    theirs = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(theirs, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert losses.divergence_loss(mean, log_variance).item() == pytest.approx(expected.item(), rel=1e-5)


def test_pose_losses_add_up_and_the_critic_opposes_them():
    change, real = torch.zeros(2, 32, 6), torch.full((2, 32, 6), 0.5)
    scores = torch.full((2, 8), 0.25)
    parts = losses.posevae_losses(change, real, torch.zeros(2, 4), torch.zeros(2, 4), scores)
    assert parts["reconstruction"].item() == pytest.approx(1.5) and parts["divergence"].item() == 0
    assert parts["total"].item() == pytest.approx(1.5 + 0.7 * 0.75**2)
    assert losses.critic_loss(torch.ones(4), torch.zeros(4)) == 0
    assert losses.critic_loss(torch.zeros(4), torch.ones(4)) == 1
