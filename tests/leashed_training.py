"""A training of ExpNet on a leash: it writes down what every step learns from, and goes no further than it is told."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from pipeline.expnet_training import ExpNetTrainable
from pipeline.features import Features
from pipeline.learner import Learner, rank
from pipeline.samples import samples_of, stacked
from pipeline.train import TrainConfig
from pipeline.trainables import Data
from tests.fakes import note, notes

STEP = "step"  # kind of the notes
MOST_SAMPLES = 1000  # of a row
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


class Leashed(ExpNetTrainable):
    """ExpNet, whose samples have numbers; the first worker waits at the leash's end, the others for its gradients."""

    def build(self):
        return {**super().build(), "steps": Steps()}

    def samples(self, features, rng):
        row = int(features.origin.row_id.partition("-")[0])
        for number, sample in enumerate(super().samples(features, rng), MOST_SAMPLES * row):
            yield {**sample, "number": np.int64(number)}

    def losses(self, turn, networks, batch, generator):
        steps = networks["steps"]
        assert isinstance(steps, Steps)
        step, leash = int(steps.made), os.environ.get(LEASH)
        while leash and rank() == 0 and step >= int(Path(leash).read_text()):
            time.sleep(0.02)
        note(STEP, " ".join(map(str, (step, rank(), os.getpid(), *batch["number"].tolist()))))
        steps.made += 1
        return super().losses(turn, networks, batch, generator)


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
