"""The order in which a worker meets its samples: pass after pass, by the seed alone. No Ray here.

A pass is a stream of batches. Samples that fit into memory are kept while the first pass streams by, and dealt out anew
in every later one; where they don't fit, every pass is streamed. Either way the batches behind a `Position` are the
same in every run on as many workers: a training that goes on from a checkpoint skips nothing and repeats nothing.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from pipeline.errors import SetupError
from pipeline.trainables import Batch


@dataclass(frozen=True)
class Position:
    """How far a training is in its data; the same on all workers.

    Args:
        passes: that are over.
        batches: that have been taken of the next one.
        kept: whether the samples are in memory; None until the first pass is over.
    """

    passes: int = 0
    batches: int = 0
    kept: bool | None = None


class Batches:
    """A worker's batches, without end.

    Attributes:
        position: behind the batch that was given last.
    """

    def __init__(
        self,
        stream: Callable[[int], Iterable[Batch]],
        size: int,
        *,
        seed: tuple[int, ...],
        most_bytes: float = math.inf,
        agreed: Callable[[bool], bool] = bool,
        position: Position = Position(),
    ):
        """
        Args:
            stream: a pass, by its number from 0: batches of `size` samples, the last one perhaps of fewer; the same
                ones in every run.
            size: samples of a batch.
            seed: what dealing out depends on beside the number of the pass; another one on every worker.
            most_bytes: that samples in memory may take.
            agreed: whether all workers say yes, when this one says yes or no; asked at the end of the first pass.
            position: where to begin.
        """
        self._stream, self._size, self._seed = stream, size, seed
        self._most_bytes, self._agreed = most_bytes, agreed
        self.position = position

    def __iter__(self) -> Iterator[Batch]:
        """Raises SetupError where a pass has not one batch of full size."""
        pool, begin = None, self.position.passes
        if self.position.kept is not False:
            pool = yield from self._first_pass()
            begin = max(1, begin)
        for number in count(begin):
            batches = self._stream(number) if pool is None else self._dealt(pool, number)
            yield from self._rest(number, batches, pool is not None)

    def _first_pass(self) -> Generator[Batch, None, Batch | None]:
        """What is left of it; returns all of its samples, or None where a worker has no room for them."""
        kept: list[Batch] = []
        room = self._most_bytes

        def keeping() -> Iterator[Batch]:
            nonlocal room
            for batch in self._stream(0):
                room -= sum(tensor.nbytes for tensor in batch.values())
                if room >= 0:
                    kept.append(batch)
                else:
                    kept.clear()
                yield batch

        yield from self._rest(0, keeping(), None)
        if not self._agreed(room >= 0):
            return None
        return {name: torch.cat([batch[name] for batch in kept]) for name in kept[0]}

    def _rest(self, number: int, batches: Iterable[Batch], kept: bool | None) -> Iterator[Batch]:
        """The full batches of a pass that lie behind the position."""
        taken = 0
        for batch in batches:
            if _count(batch) < self._size:
                continue
            taken += 1
            if (number, taken) > (self.position.passes, self.position.batches):
                self.position = Position(number, taken, kept)
                yield batch
        if not taken:
            raise SetupError([f"a worker has fewer samples than a batch of {self._size}: lower batch, or workers.max"])

    def _dealt(self, pool: Batch, number: int) -> Iterator[Batch]:
        order = torch.from_numpy(np.random.default_rng([*self._seed, number]).permutation(_count(pool)))
        for chosen in order.split(self._size):
            yield {name: tensor[chosen] for name, tensor in pool.items()}


def _count(batch: Batch) -> int:
    return len(next(iter(batch.values())))
