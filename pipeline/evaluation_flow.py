"""An evaluation over Ray's workers: look and listen once per content, then score every video.

Rows are small; pictures and sound are read on the machine that needs them. A video that kills its worker twice gets a
row that says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.evaluation import SCORED, EvaluateConfig, Task, accompany, blank_row, gather, score, sources
from pipeline.handout import Handout, cluster

KILLED = "the worker died twice on this clip"
KILLED_HINT = "look for what is unusual about its files; too large for the memory, perhaps"


@dataclass(frozen=True)
class Work:
    """What the workers do; importable by them. Tests put fakes here.

    Args:
        gather: (source, instruments) -> bool.
        score: (task, instruments) -> row.
    """

    gather: Callable[..., bool] = gather
    score: Callable[..., dict[str, Any]] = score


def run(
    tasks: list[Task], config: EvaluateConfig, tell: Callable[[str], None], work: Work | None = None
) -> list[dict[str, Any]]:
    """Score all tasks on the announced Ray cluster, or on one started for this; a row per task, in their order.

    Args:
        tell: is given a progress line now and then.
        work: other work than the real one.
    """
    work = work or Work()
    handout = Handout(config.flow.workers, config, tell, config.flow.progress_every_s)
    with cluster():
        wanted = sources(tasks)
        gathered = handout.results(wanted, partial(_with_instruments, config, work.gather), "faces and sounds")
        tasks = accompany(tasks, {wanted[number] for number, is_usable in gathered if is_usable})
        rows: dict[int, dict[str, Any]] = {}
        for number, row in handout.results(tasks, partial(_with_instruments, config, work.score), "videos scored"):
            rows[number] = row
            if row["outcome"] != SCORED:
                tell(f"{row['outcome']}: {row['run']} / {row['clip_id']}: {row['error']}")
    lost = {"error": KILLED, "hint": KILLED_HINT}
    return [rows.get(number) or blank_row(task) | lost for number, task in enumerate(tasks)]


def _with_instruments(config: EvaluateConfig, do: Callable[..., Any]) -> Callable[[Any], Any]:
    """What a worker does with each item, with instruments of its own."""
    instruments = config.instruments()
    return lambda item: do(item, instruments)
