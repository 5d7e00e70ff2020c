"""The articulator's network: half a second to either side of a frame is heard, and the lips of that frame are told.

A small temporal convolutional network. Lips are coordinates in an orthonormal basis of lip shapes, so that the squared
error of the coordinates is that of the mouth's vertices.

Legend: B clips, T frames, H heard (156), W channels, K lip coordinates.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from models.articulator.hearing import HEARD
from models.articulator.inference import DILATIONS, GROUPS
from models.articulator.lip_basis import COORDINATES
from models.checkpoint import count_blocks, fill, read_state

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
