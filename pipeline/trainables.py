"""What the training loop needs to know of a network that can be trained, and the list of those that can.

A trainable says how its networks are built, what a sample is and what the losses are. Everything else (workers,
precision, clipping, averages, checkpoints, curves, previews, export) is the loop's. To add one: write a class that fits
`Trainable`, and name it in `TRAINABLES`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from models.interfaces import Motion
from models.packs import Pack
from pipeline.config import Section

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from pipeline.features import Features

Sample = dict[str, np.ndarray]  # arrays of one shape per name, the same in all samples
Batch = dict[str, "Tensor"]  # the same, stacked, on the device of the networks
Networks = Mapping[str, "nn.Module"]

TOTAL = "total"  # the loss that is minimised; others are shown


@dataclass(frozen=True)
class Data:
    """What a trainable may know before it is built: of the features, and of what else there is.

    Args:
        space: coefficient space of expression and pose.
        styles: number of style numbers in the training split.
        crops: whether rows have face crops.
        pack: opens the pack that the weights are added to, for networks that learn with others of it; None: nothing is
            in it yet. Raises PackError.
        weights: the user's file of a network of `pipeline.weights.CATALOGUE`; None without one.
        fetch: a file on this machine, of a path or URI.
    """

    space: str
    styles: int
    crops: bool = True
    pack: Callable[[], Pack | None] = lambda: None
    weights: Callable[[str], Path | None] = lambda name: None
    fetch: Callable[[str], Path] = Path


@dataclass(frozen=True)
class Turn:
    """One optimiser (Adam) and its step on every batch.

    Args:
        networks: names of those whose weights it moves.
        learning_rate: by default; the configuration may set another one, which scales all turns alike.
        betas: of Adam.
        weight_decay: decoupled, as in AdamW.
    """

    networks: tuple[str, ...]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Preview:
    """What networks make of consecutive frames of a row.

    Args:
        start: the first of them.
        made: their motion, to be rendered, or pictures uint8, shape (T, H, W, 3).
        real: pictures to hold made ones against, of their shape; None: the row's crops.
    """

    start: int
    made: Motion | np.ndarray
    real: np.ndarray | None = None


class Trainable(Protocol):
    """Networks that can be trained.

    Its class has a pydantic model `Options` of its own settings (`options.NAME=...`); the object is made of them and of
    the `Data`, in every worker, and holds no weights itself.
    """

    Options: type[Section]

    columns: tuple[str, ...]  # arrays of `pipeline.features.ARRAYS`, and "crops", that it reads of a row
    turns: Mapping[str, Turn]  # taken in this order on every batch
    average: float  # decay of the exponential moving average of the weights, which is what is kept; 0 for none
    clip: float  # largest norm of a gradient by default; 0 for none
    batch: int  # samples per step by default, all workers together
    score: str  # of `metrics`: the checkpoint with the lowest one is the best

    def __init__(self, options: Any, data: Data): ...

    def build(self) -> dict[str, "nn.Module"]:
        """The networks by name, with fresh weights."""
        ...

    def samples(self, features: "Features", rng: np.random.Generator) -> Iterator[Sample]:
        """What is learned from one row of features; none where it doesn't suit."""
        ...

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: "Generator") -> dict[str, "Tensor"]:
        """Scalars by name, "total" among them, means over the batch.

        Args:
            turn: whose step is about to be made.
            generator: of everything random, on the batch's device.
        """
        ...

    def metrics(self, networks: Networks, batch: Batch, generator: "Generator") -> dict[str, "Tensor"]:
        """Scalars by name, means over a batch of the validation split; without gradients."""
        ...

    def preview(self, networks: Networks, features: "Features") -> Preview | None:
        """What the networks make of a row of the validation split; None where it doesn't suit."""
        ...

    def export(self, networks: Networks) -> dict[str, dict[str, "Tensor"]]:
        """The files of the pack: tensors by the names that inference loads, by file name without extension."""
        ...


@runtime_checkable
class Sized(Protocol):
    """A trainable whose networks' sizes their tensors don't tell."""

    def sizes(self) -> dict[str, dict[str, Any]]:
        """Arguments of networks' constructors that differ from the published sizes, by file name of `export`."""
        ...


@runtime_checkable
class Warned(Protocol):
    """A trainable that can learn with less than it would like."""

    def warnings(self) -> list[str]:
        """What is lacking, what that means and how to mend it: told before the training starts, a sentence each."""
        ...


TRAINABLES = {
    "articulator": "pipeline.articulator_training:ArticulatorTrainable",
    "expnet": "pipeline.expnet_training:ExpNetTrainable",
    "posevae": "pipeline.posevae_training:PoseVAETrainable",
    "facevid2vid": "pipeline.facevid2vid_training:FaceVid2VidTrainable",
    "mapping": "pipeline.mapping_training:MappingTrainable",
}


def trainable_class(name: str) -> type[Trainable]:
    """A class of `TRAINABLES`, or of any module that workers can import ("module:Class")."""
    module, _, entry = TRAINABLES.get(name, name).partition(":")
    return getattr(import_module(module), entry)


def halved(state: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """A state dict in half precision, as weights are shipped; whole numbers stay what they are."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
