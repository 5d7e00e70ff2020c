"""Run goldens and say per output how far our networks are from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

from tests.parity.golden import GoldenError, read_facts, read_golden
from tests.parity.registry import Limit, find_runner

NO_CASES = frozenset({"official_keys"})  # JSON files beside the cases that describe something else
NO_RUNNER = "no runner"
LONGEST = 300  # letters of what went wrong
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
def check(folder: Path, case: str, *, raising: bool = False) -> list[Row]:
    """Run one case: one row per output of the golden, or one that says why it can't be run.

    Args:
        raising: let errors through instead.
    """
    try:
        return _check(folder, case)
    except Exception as error:
        if raising:
            raise
        cause = " ".join(str(error).split())
        named = cause if isinstance(error, GoldenError) else f"{type(error).__name__}: {cause}"
        return [_failed(case, "-", f"{named[:LONGEST]}..." if len(named) > LONGEST else named)]


def _check(folder: Path, case: str) -> list[Row]:
    path = folder / f"{case}.json"
    runner = find_runner(case, read_facts(path))
    if runner is None:
        return [_failed(case, "-", NO_RUNNER)]
    golden = read_golden(path)
    rows = [_failed(case, name, "listed in the JSON, but not stored") for name in golden.lost]
    if not golden.outputs:
        return rows or [_failed(case, "-", "the golden has no outputs")]
    found = runner.run(golden)
    for name, expected in sorted(golden.outputs.items()):
        if name not in found:
            rows.append(_failed(case, name, "not made by the runner"))
            continue
        limit = next((limit for pattern, limit in runner.limits.items() if fnmatch(name, pattern)), Limit())
        rows.append(_compare(case, name, torch.as_tensor(found[name]), expected, golden.tolerance(name), limit))
    return rows


def _failed(case: str, output: str, problem: str) -> Row:
    return Row(case, output, float("nan"), "-", problem)


def _compare(case: str, name: str, found: Tensor, expected: Tensor, given: Mapping[str, float], limit: Limit) -> Row:
    if found.shape != expected.shape:
        shapes = f"shape {tuple(found.shape)}, not {tuple(expected.shape)}"
        return _failed(case, name, shapes)
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
