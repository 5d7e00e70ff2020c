"""3x3 convolutions of maps that repeat every pixel, for the price of the pixels that differ.

Repeat every pixel of a small map n x n times, and a 3x3 convolution meets few different neighbourhoods: at n = 4 the
two inner rows of a cell see one row of the small map only, the first and the last two. Weights that fall on equal
pixels are added beforehand, and equal results are computed once. Exact but for the order of summation.

A *cell* is what one pixel of the small map becomes: n rows (and columns, alike). Of these some are equal, and only the
different ones are stored: row p of a cell is stored row `slots[p]`. A repeated map has slots (0, 0, 0, 0) at n = 4, its
convolution (0, 1, 1, 2), the convolution of that (0, 1, 2, 3).

Legend: B pictures, C channels, D depth, H W cells.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Slots = tuple[int, ...]


class Phase(NamedTuple):
    """One of the different rows of a cell's result.

    Args:
        start: first stored row that it sees, counted from the cell's first.
        places: for each of the three weights the stored row it meets, counted from `start`.
    """

    start: int
    places: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Stored rows that it sees."""
        return self.places[-1] + 1


def phases(slots: Slots) -> tuple[list[Phase], Slots]:
    """The different rows of a cell after a convolution, and the slots of the result."""
    rows, stored = len(slots), max(slots) + 1
    found: dict[Phase, int] = {}
    outcome = []
    for row in range(rows):
        seen = [neighbour // rows * stored + slots[neighbour % rows] for neighbour in (row - 1, row, row + 1)]
        phase = Phase(seen[0], (0, seen[1] - seen[0], seen[2] - seen[0]))
        outcome.append(found.setdefault(phase, len(found)))
    return list(found), tuple(outcome)


class PhaseConv(nn.Module):
    """A 3x3 convolution with a border of zeros, on stored rows and columns.

    Volumes are convolved with 3x3x3 weights; their depth is never repeated.

    Args:
        weight: shape (outside, inside, 3, 3) or (outside, inside, 3, 3, 3).
        bias: shape (outside,).
        slots: of the input's cells, both ways.
    """

    def __init__(self, weight: Tensor, bias: Tensor, slots: Slots):
        super().__init__()
        self.phases, self.slots = phases(slots)
        self.stored = max(slots) + 1
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.weights = nn.ParameterList(
            nn.Parameter(_merged(_merged(weight, down, -2), across, -1), requires_grad=False)
            for down in self.phases
            for across in self.phases
        )

    @property
    def side(self) -> int:
        """Stored rows of a cell of the result."""
        return len(self.phases)

    def forward(self, x: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Stored row, stored column and their values in all cells, shape (B, C, [D,] H, W).

        Args:
            x: stored rows and columns in their places, shape (B, C, [D,] stored H, stored W).
        """
        weights = iter(self.weights)
        for row in range(self.side):
            for column in range(self.side):
                yield row, column, self._one(x, next(weights), self.phases[row], self.phases[column])

    def whole(self, x: Tensor) -> Tensor:
        """All stored rows and columns of the result in their places."""
        height, width = (size // self.stored for size in x.shape[-2:])
        result: Tensor | None = None
        for row, column, part in self(x):
            if self.side == 1:
                return part
            if result is None:
                shape = (*part.shape[:-2], height * self.side, width * self.side)
                result = torch.empty(
                    shape, dtype=part.dtype, device=part.device, memory_format=channels_last(part.ndim)
                )
            result[..., row :: self.side, column :: self.side] = part
        assert result is not None
        return result

    def _one(self, x: Tensor, weight: Tensor, down: Phase, across: Phase) -> Tensor:
        rows, columns = self._border(down), self._border(across)
        if rows[0] != rows[1] or columns[0] != columns[1] or min(rows[0], columns[0]) < 0:
            x, rows, columns = F.pad(x, (*columns, *rows)), (0, 0), (0, 0)
        if x.ndim == 4:
            return F.conv2d(x, weight, self.bias, self.stored, (rows[0], columns[0]))
        return F.conv3d(x, weight, self.bias, (1, self.stored, self.stored), (1, rows[0], columns[0]))

    def _border(self, phase: Phase) -> tuple[int, int]:
        """Zeros before and after the map (negative: rows to drop) that make a strided convolution give all cells."""
        before, after = -phase.start, phase.start + phase.size - self.stored
        # a convolution drops an incomplete step at the end, so that more rows than it needs do no harm
        spare = self.stored - 1
        return (before, before) if after <= before <= after + spare else (before, after)


def repeated(times: int) -> Slots:
    """Slots of a map whose every pixel is repeated."""
    return (0,) * times


def channels_last(ndim: int) -> torch.memory_format:
    """The layout with all channels of a pixel together, of maps (4) or volumes (5)."""
    return torch.channels_last if ndim == 4 else torch.channels_last_3d


def _merged(weight: Tensor, phase: Phase, axis: int) -> Tensor:
    """Weights that meet one stored row, added."""
    shape = list(weight.shape)
    shape[axis] = phase.size
    return weight.new_zeros(shape).index_add(axis, torch.tensor(phase.places, device=weight.device), weight)
