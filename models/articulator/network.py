"""The articulator's network: half a second to either side of a frame is heard, and the lips of that frame are told.

A small temporal convolutional network. Lips are coordinates in an orthonormal basis of lip shapes, so that the squared
error of the coordinates is that of the mouth's vertices.

Legend: B clips, T frames, H heard (156), W channels, K lip coordinates.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from models.articulator.hearing import HEARD
from models.checkpoint import count_blocks, fill, read_state
from models.facespace import topology as top
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION

UNIT = 0.04  # model units: the usual size of lip coordinates, which the network tells in these
COORDINATES = 16  # 97 % of what mouths do in talking videos
LIP_MOVEMENTS = ("jaw", "pucker", "funnel", "stretch", "smile", "frown", "press", "roll", "upper", "lower")
LIP_MOVEMENTS += ("mouth", "lips", "dimple", "chin")  # beginnings of the names of movements
CHIN = (152, 148, 377, 176, 400, 199, 200)  # vertices of its middle
DILATIONS = (1, 1, 2, 2, 4)
GROUPS = 8
DROPPED, DROPPED_HEARD = 0.25, 0.1  # shares, in training


class LipNet(nn.Module):
    """What is heard to lip coordinates, about their mean, in `UNIT`s.

    Args:
        width: channels W, a multiple of 8.
    """

    def __init__(self, width: int):
        super().__init__()
        self.enter = nn.Conv1d(HEARD, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=step, dilation=step) for step in DILATIONS)
        # over time as well: a voice is heard against itself, which a norm per frame loses (correlations .06 lower)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in DILATIONS)
        self.leave = nn.Conv1d(width, COORDINATES, 1)
        self.drop, self.drop_heard = nn.Dropout(DROPPED), nn.Dropout(DROPPED_HEARD)

    def forward(self, heard_BTH: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, K)."""
        flow_BWT = gelu(self.enter(self.drop_heard(heard_BTH).transpose(1, 2)))
        for layer, norm in zip(self.layers, self.norms):
            flow_BWT = flow_BWT + self.drop(gelu(norm(layer(flow_BWT))))
        return self.leave(self.drop(flow_BWT)).transpose(1, 2)


class Articulator(nn.Module):
    """Some networks of one kind whose opinions are averaged: little data makes each of them wrong in its own way.

    Args:
        width: channels of each.
        members: how many.
    """

    def __init__(self, width: int = 96, members: int = 2):
        super().__init__()
        self.members = nn.ModuleList(LipNet(width) for _ in range(members))

    def forward(self, heard_BTH: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, K), in `UNIT`s."""
        return torch.stack([member(heard_BTH) for member in self.members]).mean(0)

    @classmethod
    def load(cls, path: Path) -> "Articulator":
        """Of a safetensors file, sizes as it has them, ready to be used.

        Raises:
            WeightsError: the file is no articulator.
        """
        state = {name: value.float() for name, value in read_state(path).items()}
        first = state.get("members.0.enter.weight")
        network = cls(len(first) if first is not None else 96, max(1, count_blocks(state, "members")))
        fill(network, state, path)
        return network

    @torch.no_grad()
    def tell(self, heard: np.ndarray) -> np.ndarray:
        """Lip coordinates (T, K) of what is heard (T, H)."""
        return UNIT * self(torch.from_numpy(np.ascontiguousarray(heard, np.float32))[None])[0].numpy()


class LipBasis:
    """Lip coordinates and expressions.

    The principal displacements of mouth and chin under the authored lip movements, of unit length: a coordinate of 1
    moves these vertices by one model unit, root mean square.

    Attributes:
        movements: expression per coordinate, shape (K, 64).
    """

    def __init__(self, space: OpenSpace):
        names = [name for name in space.direction_names if name.startswith(LIP_MOVEMENTS)]
        directions = np.stack([space.direction(name) for name in names])
        vertices = [*top.LIPS, *CHIN]
        moved = space.expression[:, vertices].reshape(EXPRESSION, -1) / np.sqrt(len(vertices))
        left, sizes, right = np.linalg.svd(directions @ moved, full_matrices=False)
        self.movements = (left[:, :COORDINATES] / sizes[:COORDINATES]).T @ directions
        self._projection = moved @ right[:COORDINATES].T

    @classmethod
    @cache
    def load(cls) -> "LipBasis":
        """Of the shipped face space."""
        return cls(OpenSpace.load())

    def coordinates(self, expression: np.ndarray) -> np.ndarray:
        """The nearest lips: expression (..., 64) -> (..., K)."""
        return expression @ self._projection

    def expression(self, coordinates: np.ndarray) -> np.ndarray:
        """Lip coordinates (..., K) -> expression (..., 64)."""
        return coordinates @ self.movements
