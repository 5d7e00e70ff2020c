"""The Ray Data graph of an evaluation: look and listen once per content, then score every video.

Rows are small; pictures and sound are read on the machine that needs them. A stage never raises. A video that kills
its worker twice is left out by Ray and gets a row that says so.
"""

import logging
import math
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray

from pipeline import storage
from pipeline.cluster import connected
from pipeline.evaluation import SCORED, EvaluateConfig, Task, accompany, blank_row, gather, score, sources
from pipeline.flow import configure_ray_data

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
    with connected(config.cache):
        configure_ray_data()
        ray.data.DataContext.get_current().max_errored_blocks = -1
        # tells of every dead worker with a traceback; the row will say it
        logging.getLogger("ray.data._internal.execution.streaming_executor_state").setLevel(logging.CRITICAL)
        wanted = sources(tasks)
        gathered = _told(_spread(wanted, work.gather, config), len(wanted), "faces and sounds", config, tell)
        tasks = accompany(tasks, {wanted[number] for number, is_usable in gathered if is_usable})
        rows: dict[int, dict[str, Any]] = {}
        for number, row in _told(_spread(tasks, work.score, config), len(tasks), "videos scored", config, tell):
            rows[number] = row
            if row["outcome"] != SCORED:
                tell(f"{row['outcome']}: {row['run']} / {row['clip_id']}: {row['error']}")
    lost = {"error": KILLED, "hint": KILLED_HINT}
    return [rows.get(number) or blank_row(task) | lost for number, task in enumerate(tasks)]


def _spread(items: list[Any], do: Callable[..., Any], config: EvaluateConfig) -> Iterator[tuple[int, Any]]:
    """(number of the item, result) as they come."""
    from ray.data import ActorPoolStrategy

    room = config.flow.workers or max(1, math.floor(ray.cluster_resources().get("CPU", 1)))
    worker: Any = _Worker  # Ray's types know functions only
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
    with warnings.catch_warnings():
        # Ray's newer names for these settings come with the version that drops the old ones
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            worker,
            fn_constructor_kwargs={"config": config, "do": do},
            # one at a time: a second video waiting in a worker would be charged with the first one's crash
            compute=ActorPoolStrategy(size=min(room, len(rows)), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            ray_remote_args_fn=lambda: {"max_task_retries": 1},  # by default a killer is tried for ever
        )
    for row in done.iter_rows():
        yield row["number"], pickle.loads(row["result"])


class _Worker:
    def __init__(self, config: EvaluateConfig, do: Callable[..., Any]):
        storage.configure(config.storage.options, config.storage.retries)
        self._instruments, self._do = config.instruments(), do

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = self._do(pickle.loads(row["item"]), self._instruments)
        return {"number": row["number"], "result": pickle.dumps(result)}


def _told(
    results: Iterator[tuple[int, Any]], total: int, what: str, config: EvaluateConfig, tell: Callable[[str], None]
) -> Iterator[tuple[int, Any]]:
    """The same results, with a line now and then."""
    began = told = time.monotonic()
    done = 0
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if now - told > config.flow.progress_every_s and done < total:
            told = now
            tell(f"{done}/{total} {what} | about {(now - began) / done * (total - done):.0f} s left")
    tell(f"{done}/{total} {what}")
