"""Steps of training, in this process. Run: pytest tests/pipeline/test_learner.py"""

import io

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config import Section
from pipeline.errors import RenderError
from pipeline.learner import Learner, Recipe, choose_precision
from pipeline.trainables import TOTAL, Data, Turn

CPU = torch.device("cpu")


class Line:
    """A line through points, and a critic that learns the size of its error."""

    class Options(Section):
        pass

    columns = ()
    average = 0.9
    batch = 16
    score = "error"

    def __init__(self, options=None, data=None, dropout=0.0):
        self.dropout = dropout
        self.turns = {"critic": Turn(("critic",), 0.01), "line": Turn(("line",), 0.05)}

    def build(self):
        return {
            "line": nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1), nn.Dropout(self.dropout)),
            "critic": nn.Linear(1, 1),
        }

    def samples(self, features, rng):
        yield {}

    def losses(self, turn, networks, batch, generator):
        error = networks["line"](batch["x"])[:, 0] - batch["y"]
        if turn == "critic":
            return {TOTAL: (networks["critic"](error.detach()[:, None])[:, 0] - error.detach().abs()).square().mean()}
        noise = 1e-3 * torch.randn(len(error), generator=generator)
        return {TOTAL: (error.float() + noise).square().mean(), "size": error.abs().mean()}

    def metrics(self, networks, batch, generator):
        return {"error": (networks["line"](batch["x"])[:, 0] - batch["y"]).abs().mean()}

    def preview(self, networks, features):
        return None

    def export(self, networks):
        return {"line": networks["line"].state_dict()}


def batches(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = rng.normal(size=(16, 3)).astype(np.float32)
        yield {"x": torch.from_numpy(x), "y": torch.from_numpy(x @ np.float32([1, -2, 0.5]) + np.float32(0.3))}


def learn(learner: Learner, given) -> dict:
    values = {}
    for batch in given:
        values = learner.learn(batch)
    return values


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns(precision):
    learner = Learner(Line(), Recipe(steps=300, average=0.9, precision=precision), CPU)
    before = learner.validate(batches(4, seed=9))["error"]
    values = learn(learner, batches(300))
    after = learner.validate(batches(4, seed=9))["error"]
    assert before > 1 and after < 0.2
    assert learner.step == 300 and learner.seen == 4800
    assert {"line/total", "line/size", "line/gradient_norm", "line/learning_rate", "critic/total"} <= set(values)


def test_resuming_is_going_on():
    """Weights, averages, optimisers, schedule and noise, that of dropout included, as if there had been no break."""
    recipe = Recipe(steps=40, average=0.9, schedule="cosine", warmup=20)
    whole = Learner(Line(dropout=0.2), recipe, CPU)
    learn(whole, batches(40))
    given = list(batches(40))
    first = Learner(Line(dropout=0.2), recipe, CPU)
    learn(first, given[:17])
    saved = io.BytesIO()
    torch.save(first.state(), saved)
    torch.manual_seed(1234)  # another process has another stream
    second = Learner(Line(dropout=0.2), recipe, CPU)
    second.resume(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    learn(second, given[17:])
    assert (second.step, second.seen) == (whole.step, whole.seen)
    torch.testing.assert_close(second.state(), whole.state(), rtol=0, atol=0)


def test_the_schedule_rises_and_falls():
    recipe = Recipe(steps=110, rate=2.0, schedule="cosine", warmup=10)
    rates = [recipe.rate_at(step) for step in range(110)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0) and rates[-1] < 0.01
    assert {Recipe(steps=10, rate=0.5).rate_at(step) for step in range(10)} == {0.5}


def test_gradients_are_clipped_and_their_norm_is_shown():
    learner = Learner(Line(), Recipe(steps=10, clip=0.01), CPU)
    values = learner.learn({"x": 100 * torch.ones(16, 3), "y": 1e4 * torch.ones(16)})
    assert float(values["line/gradient_norm"]) > 1, "before clipping"
    clipped = torch.cat([weight.grad.flatten() for weight in learner.networks["line"].parameters()])
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)


def test_averages_are_kept_apart():
    learner = Learner(Line(), Recipe(steps=10, average=0.99), CPU)
    learn(learner, batches(10))
    with learner.averaged() as averages:
        assert not averages["line"].training
        own, kept = (dict(net.named_parameters())["1.weight"] for net in (learner.networks["line"], averages["line"]))
        assert not torch.equal(own, kept)
    assert learner.networks["line"].training


def test_nothing_held_out_gives_no_metrics():
    assert Learner(Line(), Recipe(steps=1), CPU).validate([]) == {}


def test_precision_follows_the_device():
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"


def test_data_says_what_trainables_need():
    assert Data("open", 3).styles == 3


def test_a_loss_that_is_no_number_ends_the_training():
    learner = Learner(Line(), Recipe(steps=9), CPU)
    good, bad = batches(2)
    learner.learn(good)
    before = {name: tensor.clone() for name, tensor in learner.networks["line"].named_parameters()}
    bad["y"][3] = float("nan")
    with pytest.raises(
        RenderError, match=r"step 2 of 'critic' has a gradient that is no number \(losses here: total nan"
    ):
        learner.learn(bad)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.networks["line"].named_parameters())


def test_half_precision_may_lose_a_step(monkeypatch):
    monkeypatch.setattr("pipeline.learner.MOST_LOST", 2)
    learner = Learner(Line(), Recipe(steps=9, precision="fp16"), CPU)
    good, bad = batches(2)
    bad["y"][3] = float("nan")
    for batch in (bad, bad, good, bad, bad):
        learner.learn(batch)
    with pytest.raises(RenderError, match="no number"):
        learner.learn(bad)
