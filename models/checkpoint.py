"""Weights that users bring: read without running anything in them, checked name by name and shape by shape.

Pickles are opened with `weights_only=True`, so that a file can hold tensors and nothing else.
"""

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.errors import WeightsError

SHOWN = 3  # names of an error message, of each kind
# What batch normalisation counts while it trains: files of torch before 0.4.1 lack it, and nothing here reads it.
UNUSED = ".num_batches_tracked"


def read_state(path: Path, part: str = "state_dict", prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, on the CPU.

    Understands safetensors and torch files, told apart by content; a training checkpoint is reduced to one of its
    state dicts, and the "module." that data-parallel training puts before every name is removed.

    Args:
        path: of the file.
        part: name of the state dict that is wanted of a training checkpoint.
        prefix: of the names that are wanted of a file with several networks; removed. Of safetensors, only these
            are read.
    Raises:
        WeightsError: no such file, neither format, anything but tensors in it, or nothing named as wanted.
    """
    state = _read(path, prefix)
    if isinstance(state, Mapping) and isinstance(state.get(part), Mapping):
        state = state[part]
    if (
        not isinstance(state, Mapping)
        or not (state or prefix)
        or not all(isinstance(t, Tensor) for t in state.values())
    ):
        raise WeightsError(path, "is no state dict: tensors by name are needed, not a whole model or a list")
    names = [str(name) for name in state]
    wrapper = "module." if all(name.startswith("module.") for name in names) else ""
    own = {name.removeprefix(wrapper): tensor for name, tensor in zip(names, state.values())}
    wanted = {name.removeprefix(prefix): tensor for name, tensor in own.items() if name.startswith(prefix)}
    if not wanted:
        raise WeightsError(path, f"holds nothing whose name begins with {prefix!r}")
    return wanted


def parts_of(path: Path) -> list[str]:
    """Names of the state dicts inside a training checkpoint; none of a file that is one state dict itself.

    Raises:
        WeightsError: as `read_state`.
    """
    if _opened(path, _is_safetensors):
        return []
    content = _read(path, "")
    if not isinstance(content, Mapping):
        return []
    return [str(name) for name, part in content.items() if isinstance(part, Mapping)]


@dataclass(frozen=True)
class Differences:
    """How a state dict differs from a network, by name.

    Args:
        missing: the network has them, the file doesn't.
        unexpected: the reverse.
        misshapen: "name (shape in the file) instead of (shape in the network)".
    """

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshapen))
        return "; ".join(_list(kind, names) for kind, names in kinds if names)


def compare(network: nn.Module, state: Mapping[str, Tensor], optional: Iterable[str] = ()) -> Differences:
    """What of a state dict is not as a network wants it. Arguments as in `fill`; the network may be a "meta" one."""
    spared = tuple(optional)
    wanted = {n: t for n, t in network.state_dict().items() if not n.endswith(UNUSED)}
    given = {n: t for n, t in state.items() if not n.endswith(UNUSED)}
    return Differences(
        [n for n in wanted if n not in given and not n.startswith(spared)],
        [n for n in given if n not in wanted and not n.startswith(spared)],
        [
            f"{n} {tuple(given[n].shape)} instead of {tuple(wanted[n].shape)}"
            for n in wanted
            if n in given and given[n].shape != wanted[n].shape
        ],
    )


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, optional: Iterable[str] = ()) -> None:
    """Give a network its weights; every name and every shape must agree.

    Args:
        network: on the CPU; put into evaluation mode, without gradients.
        state: tensors by the network's own names.
        path: of the file they are from, for the message.
        optional: beginnings of names that the file may hold and the network has no use for, or the reverse.
    Raises:
        WeightsError: with the first missing, unexpected and misshapen names.
    """
    differences = compare(network, state, optional)
    if differences:
        raise WeightsError(path, f"is not a checkpoint of {type(network).__name__}: {differences}")
    own = network.state_dict()
    given = {n: t for n, t in state.items() if n in own and not n.endswith(UNUSED)}
    network.load_state_dict(given, strict=False)
    network.eval().requires_grad_(False)


def load_strict(network: nn.Module, path: Path, optional: Iterable[str] = ()) -> None:
    """`fill` a network from a file."""
    fill(network, read_state(path), path, optional)


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks `prefix.0.`, `prefix.1.`, ... a checkpoint has."""
    numbers = {n.removeprefix(f"{prefix}.").partition(".")[0] for n in state if n.startswith(f"{prefix}.")}
    return len(numbers)


def _read(path: Path, prefix: str) -> Any:
    """All that a file holds; of safetensors, the names with a prefix. Raises WeightsError."""
    return _opened(path, lambda path: _tensors(path, prefix) if _is_safetensors(path) else _unpickled(path))


def _opened(path: Path, read: Callable[[Path], Any]) -> Any:
    """What reading a file gives. Raises WeightsError for whatever goes wrong."""
    try:
        return read(path)
    except OSError as error:
        raise WeightsError(path, f"can't be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        problem = "holds more than tensors, or is no torch file; only plain state dicts are loaded"
        raise WeightsError(path, problem) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(path, f"is damaged, or neither a safetensors nor a torch file: {error}") from error


def _tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def _unpickled(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _list(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{kind}: {', '.join(names[:SHOWN])}{more}"


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins like one: the length of the header as eight bytes, then JSON."""
    with Path(path).open("rb") as file:
        return file.read(9)[8:] == b"{"
