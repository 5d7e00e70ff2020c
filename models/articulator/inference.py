"""The articulator's network at work, in NumPy: a clip needs no torch, which takes seconds and memory to import.

The same sums as `models.articulator.network`, whose weights it reads. Legend as there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.special import erf

from models.articulator.hearing import HEARD
from models.articulator.lip_basis import COORDINATES, UNIT

DILATIONS = (1, 1, 2, 2, 4)
GROUPS = 8
EPSILON = 1e-5  # of the norms

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TrainedArticulator:
    """A trained articulator.

    Args:
        members: tensors of each network by name, float32.
    """

    members: tuple[State, ...]

    @classmethod
    def load(cls, path: Path) -> "TrainedArticulator":
        """Of a safetensors file, sizes as it has them.

        Raises:
            WeightsError: the file is no articulator.
        """
        try:
            reader = cls(tuple(_members(load_file(path))))
            silence = reader.tell(np.zeros((1, HEARD), np.float32))
            if silence.shape != (1, COORDINATES):
                raise ValueError(f"tells {silence.shape[1]} coordinates")
            return reader
        except (OSError, SafetensorError, KeyError, ValueError):
            from models.articulator.network import Articulator

            Articulator.load(path)  # tells what is wrong with the file
            raise

    def tell(self, heard_TH: np.ndarray) -> np.ndarray:
        """Lip coordinates (T, K) of what is heard (T, H)."""
        opinions = [_tell(member, heard_TH.T.astype(np.float32)).T for member in self.members]
        return UNIT * np.mean(opinions, axis=0)


def _members(state: State) -> list[State]:
    """One state per member; at least one."""
    count = len({name.split(".")[1] for name in state})
    parts = [f"members.{number}." for number in range(max(1, count))]
    return [
        {name.removeprefix(part): tensor.astype(np.float32) for name, tensor in state.items() if name.startswith(part)}
        for part in parts
    ]


def _tell(state: State, heard_HT: np.ndarray) -> np.ndarray:
    flow_WT = _gelu(_convolved(state, "enter", heard_HT, 1))
    for number, dilation in enumerate(DILATIONS):
        flow_WT = flow_WT + _gelu(
            _normed(state, f"norms.{number}", _convolved(state, f"layers.{number}", flow_WT, dilation))
        )
    return _convolved(state, "leave", flow_WT, 1)


def _convolved(state: State, name: str, flow_WT: np.ndarray, dilation: int) -> np.ndarray:
    """A convolution over time that keeps the length, zeros beyond the ends."""
    weight, frames = state[f"{name}.weight"], flow_WT.shape[1]
    taps = weight.shape[2]
    padded = np.pad(flow_WT, ((0, 0), (dilation * (taps // 2),) * 2))
    shifted = (padded[:, tap * dilation : tap * dilation + frames] for tap in range(taps))
    total = sum(weight[:, :, tap] @ part for tap, part in enumerate(shifted))
    return total + state[f"{name}.bias"][:, None]


def _normed(state: State, name: str, flow_WT: np.ndarray) -> np.ndarray:
    """Group normalisation: one mean and variance per group of channels, over all frames."""
    grouped = flow_WT.reshape(GROUPS, -1)
    mean, variance = grouped.mean(1, keepdims=True), grouped.var(1, keepdims=True)
    normed = ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(flow_WT.shape)
    return normed * state[f"{name}.weight"][:, None] + state[f"{name}.bias"][:, None]


def _gelu(values: np.ndarray) -> np.ndarray:
    return (0.5 * values * (1 + erf(values / np.float32(np.sqrt(2))))).astype(np.float32)
