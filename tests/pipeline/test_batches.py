"""In which order samples come, from any position on. Run: pytest tests/pipeline/test_batches.py"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch

from pipeline.batches import Batches, Position
from pipeline.errors import SetupError

SAMPLES, SIZE = 22, 4
WHOLE = SAMPLES // SIZE  # batches of a pass
NO_ROOM = 3 * SIZE * 8  # bytes


class Stream:
    """Passes through numbered samples, another order in every one; notes which were asked for."""

    def __init__(self, samples: int = SAMPLES):
        self.samples, self.passes = samples, []

    def __call__(self, number: int) -> Iterator[dict[str, torch.Tensor]]:
        self.passes.append(number)
        order = torch.from_numpy(np.random.default_rng(number).permutation(self.samples))
        return ({"number": chosen} for chosen in order.split(SIZE))


def taken(batches: Batches, count: int) -> list[list[int]]:
    return [batch["number"].tolist() for batch in islice(batches, count)]


@pytest.mark.parametrize("most_bytes", [1e9, NO_ROOM])
def test_a_pass_has_every_sample_at_most_once_and_is_unlike_the_others(most_bytes):
    given = taken(Batches(Stream(), SIZE, seed=(0, 0), most_bytes=most_bytes), 3 * WHOLE)
    passes = [given[first : first + WHOLE] for first in range(0, 3 * WHOLE, WHOLE)]
    for one in passes:
        assert len({number for batch in one for number in batch}) == WHOLE * SIZE
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_samples_that_fit_are_read_once():
    kept, streamed = Stream(), Stream()
    given = taken(Batches(kept, SIZE, seed=(0, 0)), 9 * WHOLE)
    assert kept.passes == [0]
    assert {number for batch in given for number in batch} == set(range(SAMPLES)), (
        "what the first pass had left over too"
    )
    taken(Batches(streamed, SIZE, seed=(0, 0), most_bytes=NO_ROOM), 3 * WHOLE)
    assert streamed.passes == [0, 1, 2]


def test_one_worker_without_room_is_enough():
    asked, stream = [], Stream()
    taken(Batches(stream, SIZE, seed=(0, 0), agreed=lambda fits: asked.append(fits) or False), 3 * WHOLE)
    assert asked == [True] and stream.passes == [0, 1, 2]


@pytest.mark.parametrize("most_bytes", [1e9, NO_ROOM])
@pytest.mark.parametrize("done", [0, 1, WHOLE - 1, WHOLE, WHOLE + 1, 2 * WHOLE, 2 * WHOLE + 3])
def test_going_on_skips_nothing_and_repeats_nothing(most_bytes, done):
    whole = taken(Batches(Stream(), SIZE, seed=(7, 1), most_bytes=most_bytes), 4 * WHOLE)
    first = Batches(Stream(), SIZE, seed=(7, 1), most_bytes=most_bytes)
    assert taken(first, done) == whole[:done]
    second = Batches(Stream(), SIZE, seed=(7, 1), most_bytes=most_bytes, position=first.position)
    assert taken(second, 4 * WHOLE - done) == whole[done:]


def test_what_does_not_fit_is_not_read_again_from_the_beginning():
    stream = Stream()
    taken(Batches(stream, SIZE, seed=(0, 0), most_bytes=NO_ROOM, position=Position(5, 2, kept=False)), WHOLE)
    assert stream.passes == [5, 6]


def test_workers_deal_differently():
    def dealt(rank: int) -> list[list[int]]:
        return taken(Batches(Stream(), SIZE, seed=(0, rank)), 2 * WHOLE)[WHOLE:]

    assert dealt(0) == dealt(0) != dealt(1)


@pytest.mark.parametrize("position", [Position(), Position(3, 1, kept=False)])
def test_too_few_samples_are_told(position):
    with pytest.raises(SetupError, match="fewer samples than a batch of 4: lower batch"):
        taken(Batches(Stream(SIZE - 1), SIZE, seed=(0, 0), position=position), 1)
