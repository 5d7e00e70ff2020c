"""A training on a leash: it writes down what every step learns from, and goes no further than it is told."""

import os
import time
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from models.interfaces import EXPRESSION
from pipeline.config import Section
from pipeline.features import Features
from pipeline.learner import Learner, rank
from pipeline.samples import samples_of, stacked
from pipeline.train import TrainConfig
from pipeline.trainables import TOTAL, Data, Turn
from tests.fakes import note, notes

STEP = "step"  # kind of the notes
STRIDE = 5  # frames from one sample to the next
MOST_FRAMES = 1000  # of a row
LEASH = "TALKFARM_TEST_LEASH"  # environment variable: file with the number of the step that must wait


class StepNote(NamedTuple):
    """What a worker was about to learn from."""

    step: int
    rank: int
    pid: int
    samples: tuple[int, ...]


def step_notes(folder: Path) -> list[StepNote]:
    """What was written down, in the order of the steps."""
    # a note that was begun just now, or by a process that was killed then, is empty
    numbers = ([int(word) for word in text.split()] for text in notes(folder, STEP) if text)
    return sorted(StepNote(step, worker, pid, tuple(samples)) for step, worker, pid, *samples in numbers)


def loosen(leash: Path, step: int) -> None:
    """Let steps be made up to, but not including, the `step`-th."""
    new = leash.with_suffix(".new")
    new.write_text(str(step))
    new.replace(leash)


class Steps(nn.Module):
    """The number of steps made, as something that a network knows: it is saved and restored with the weights."""

    made: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("made", torch.zeros((), dtype=torch.int64))


class Leashed:
    """A small network that hears a mel window and makes an expression; with all that a training has to carry over.

    Samples have numbers. The first worker waits at the leash's end, the others for its gradients.
    """

    class Options(Section):
        """None."""

    columns = ("mel", "expression")
    average = 0.9
    clip = 1.0
    batch = 8
    score = "error"
    turns: ClassVar = {"network": Turn(("network",), 1e-3)}

    def __init__(self, options: Options, data: Data):
        pass

    def build(self):
        hear = nn.Linear(80 * 16, 32, bias=False)
        network = nn.Sequential(
            nn.Flatten(), hear, nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, EXPRESSION)
        )
        return {"network": network, "steps": Steps()}

    def samples(self, features, rng):
        row = int(features.origin.row_id.partition("-")[0])
        for frame in range(0, features.origin.frames, STRIDE):
            arrays = {name: features[name][frame] for name in self.columns}
            yield {**arrays, "number": np.int64(MOST_FRAMES * row + frame)}

    def losses(self, turn, networks, batch, generator):
        steps = networks["steps"]
        assert isinstance(steps, Steps)
        step, leash = int(steps.made), os.environ.get(LEASH)
        while leash and rank() == 0 and step >= int(Path(leash).read_text()):
            time.sleep(0.02)
        note(STEP, " ".join(map(str, (step, rank(), os.getpid(), *batch["number"].tolist()))))
        steps.made += 1
        noise = 0.01 * torch.randn(batch["expression"].shape, generator=generator)
        return {TOTAL: (self._error(networks, batch) + noise).square().mean()}

    def metrics(self, networks, batch, generator):
        return {"error": self._error(networks, batch).abs().mean()}

    def preview(self, networks, features):
        return None

    def export(self, networks):
        return {"network": dict(networks["network"].state_dict())}

    def _error(self, networks, batch):
        return networks["network"](batch["mel"].float()) - batch["expression"]


def learn_from_notes(
    worker: int,
    workers: int,
    meeting: str,
    config: TrainConfig,
    rows: list[Features],
    steps: list[StepNote],
    result: str,
) -> None:
    """A worker that learns, without Ray, from the samples that were noted, and saves its state; for `multiprocessing`.

    Args:
        meeting: file where the workers meet; it must not exist.
        steps: of this worker, one note for each.
        result: file for the first worker's state.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=worker, world_size=workers)
    cpu = torch.device("cpu")
    trainable = config.build(Data("open", 2))
    learner = Learner(trainable, config.recipe(trainable, cpu), cpu)
    samples = {int(sample["number"]): sample for row in rows for sample in samples_of(trainable, row, config.seed)}
    for noted in steps:
        chosen = [samples[number] for number in noted.samples]
        learner.learn({name: torch.from_numpy(array) for name, array in stacked(chosen).items()})
        if learner.step % config.checkpoint_every == 0 or learner.step == config.steps:
            learner.agree()
    if worker == 0:
        torch.save(learner.state(), result)
    dist.destroy_process_group()
