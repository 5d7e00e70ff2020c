"""Handing out items of work, one at a time, to workers that are expensive to set up; the Ray side of it.

An item that kills its worker is tried once more; if it kills again it is left out, and the rest goes on.
"""

import logging
import math
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.cluster import connected, free_cpus, hundredths
from pipeline.environment import WorkerConfig, set_up_worker
from pipeline.flow import configure_ray_data

Do = Callable[[Any], Any]


@dataclass(frozen=True)
class Handout:
    """How items are handed out, and how that is told.

    Args:
        workers: processes; 0: one per CPU of the cluster.
        config: of the job.
        tell: is given a progress line now and then.
        every_s: seconds between the lines.
    """

    workers: int
    config: WorkerConfig
    tell: Callable[[str], None]
    every_s: float

    def results(self, items: Sequence[Any], build: Callable[[], Do], what: str) -> Iterator[tuple[int, Any]]:
        """(number of the item, result) as they come, without the items whose workers died twice; needs `cluster`.

        Args:
            build: called once in each worker; gives what is done with an item.
            what: the results, in words, such as "videos scored".
        """
        began = told = time.monotonic()
        done = 0
        for done, result in enumerate(self._spread(items, build), start=1):
            yield result
            now = time.monotonic()
            if now - told > self.every_s and done < len(items):
                told = now
                left_s = (now - began) / done * (len(items) - done)
                self.tell(f"{done}/{len(items)} {what} | about {left_s:.0f} s left")
        self.tell(f"{done}/{len(items)} {what}")

    def _spread(self, items: Sequence[Any], build: Callable[[], Do]) -> Iterator[tuple[int, Any]]:
        from ray.data import ActorPoolStrategy

        if not items:
            return
        room = self.workers or max(1, math.floor(ray.cluster_resources().get("CPU", 1)))
        worker: Any = _Worker  # Ray's types know functions only
        rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
        with warnings.catch_warnings(), settings(max_errored_blocks=-1):
            # Ray's newer names for these settings come with the version that drops the old ones
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
            done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                worker,
                fn_constructor_kwargs={"build": build, "config": self.config},
                # one at a time: a second item waiting in a worker would be charged with the first one's crash
                compute=ActorPoolStrategy(size=min(room, len(rows)), max_tasks_in_flight_per_actor=1),
                num_cpus=min(1.0, hundredths(free_cpus() / room)),
                ray_remote_args_fn=lambda: {"max_task_retries": 1},  # by default a killer is tried for ever
            )
        for row in done.iter_rows():
            yield row["number"], pickle.loads(row["result"])


class _Worker:
    def __init__(self, build: Callable[[], Do], config: WorkerConfig):
        set_up_worker(config)
        self._do = build()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "result": pickle.dumps(self._do(pickle.loads(row["item"])))}


@contextmanager
def cluster() -> Iterator[None]:
    """The Ray cluster that is announced, or one of our own, with quiet logs."""
    with connected():
        configure_ray_data()
        # tells of every dead worker with a traceback; what became of the item will say it
        logging.getLogger("ray.data._internal.execution.streaming_executor_state").setLevel(logging.CRITICAL)
        yield


@contextmanager
def settings(**values: Any) -> Iterator[None]:
    """Ray Data's settings changed for a block."""
    from ray.data import DataContext

    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in values}
    try:
        for name, value in values.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
