"""Which function makes the outputs of which golden.

A runner builds the network from `golden.args`, fills it with the golden's weights and returns its outputs by the
golden's names:

    @runner("mapping", "full_mapping_229")
    def run_mapping(golden: Golden) -> Outputs:
        ...

Everything goes by the JSON and the tensors: goldens with other sizes, batches, weights and seeds run through the same
functions. A runner may make more outputs than a golden holds, and leaves out those whose inputs it lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tests.parity.golden import Golden

Outputs = Mapping[str, Tensor | np.ndarray | Sequence[int]]


@dataclass(frozen=True)
class Limit:
    """How far an output may be from the golden, where its JSON alone doesn't say.

    Args:
        atol: of every number; used if the JSON gives none.
        mean: of the mean absolute error, on top of the others.
    """

    atol: float | None = None
    mean: float | None = None


@dataclass(frozen=True)
class Runner:
    """A function that makes a golden's outputs, and the limits of outputs by their names (`fnmatch` patterns)."""

    run: Callable[[Golden], Outputs]
    limits: Mapping[str, Limit]


RUNNERS: dict[str, Runner] = {}


def runner(
    *cases: str, limits: Mapping[str, Limit] | None = None
) -> Callable[[Callable[[Golden], Outputs]], Callable[[Golden], Outputs]]:
    """Register a function for cases.

    Args:
        cases: names of golden files, without their endings, or of modules in their JSON.
        limits: per output.
    Raises:
        ValueError: if a case has a runner already.
    """

    def register(run: Callable[[Golden], Outputs]) -> Callable[[Golden], Outputs]:
        for case in cases:
            if case in RUNNERS:
                raise ValueError(f"case {case!r} has two runners: {RUNNERS[case].run.__name__} and {run.__name__}")
            RUNNERS[case] = Runner(run, limits or {})
        return run

    return register


def find_runner(case: str, facts: Any) -> Runner | None:
    """Who runs a case: by the file's name, by the module that its JSON names, or by how one of them begins.

    Args:
        case: the file's name, without its ending.
        facts: the JSON's content.
    """
    module = facts.get("module") if isinstance(facts, dict) else None
    names = [case, *([module] if isinstance(module, str) else [])]
    for name in names:
        if name in RUNNERS:
            return RUNNERS[name]
    begun = [known for known in RUNNERS for name in names if name.startswith(f"{known}_")]
    return RUNNERS[max(begun, key=len)] if begun else None
