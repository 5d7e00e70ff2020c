"""Run goldens and say per output how far our networks are from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tests.parity.golden import read_golden
from tests.parity.registry import RUNNERS, Limit

NO_CASES = frozenset({"official_keys"})  # JSON files beside the cases that describe something else
ATOL = 1e-6  # of floating-point outputs for which nobody gives a tolerance; whole numbers agree exactly


@dataclass(frozen=True)
class Row:
    """One output of one case.

    Args:
        error: largest absolute error; NaN where nothing could be compared.
        tolerance: in words.
        problem: why it fails; "" if it doesn't.
    """

    case: str
    output: str
    error: float
    tolerance: str
    problem: str = ""


def find_cases(folder: Path) -> list[str]:
    """Names of all cases of a folder, in order."""
    return sorted(path.stem for path in folder.glob("*.json") if path.stem not in NO_CASES)


@torch.inference_mode()
def check(folder: Path, case: str) -> Iterator[Row]:
    """Run one case; one row per output of the golden."""
    if case not in RUNNERS:
        yield Row(case, "-", float("nan"), "-", "no runner")
        return
    golden = read_golden(folder / f"{case}.json")
    found = RUNNERS[case].run(golden)
    for unknown in sorted(set(found) - set(golden.outputs)):
        yield Row(case, unknown, float("nan"), "-", "not in the golden")
    for name, expected in sorted(golden.outputs.items()):
        if name not in found:
            yield Row(case, name, float("nan"), "-", "not made by the runner")
            continue
        given = golden.tolerances.get(name, {})
        yield _compare(
            case, name, torch.as_tensor(found[name]), expected, given, RUNNERS[case].limits.get(name, Limit())
        )


def _compare(case: str, name: str, found: Tensor, expected: Tensor, given: Mapping[str, float], limit: Limit) -> Row:
    if found.shape != expected.shape:
        shapes = f"shape {tuple(found.shape)}, not {tuple(expected.shape)}"
        return Row(case, name, float("nan"), "-", shapes)
    default = ATOL if expected.is_floating_point() else 0.0
    atol = given.get("atol", default if limit.atol is None else limit.atol)
    rtol = given.get("rtol", 0.0)
    expected = expected.double()
    error = (found.double() - expected).abs()
    worst = float(error.max()) if error.numel() else 0.0
    inside = bool((error <= atol + rtol * expected.abs()).all())  # false for NaN
    tolerance = f"{atol:.1e}" + (f" + {rtol:g}|x|" if rtol else "")
    if limit.mean is not None:
        inside = inside and float(error.mean()) <= limit.mean
        tolerance += f", mean {limit.mean:.1e}"
    return Row(case, name, worst, tolerance, "" if inside else "above tolerance")
