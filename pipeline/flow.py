"""The Ray Data graph: prep -> motion -> split -> render -> write.

A row is a clip, or a part of one, on its way: its record, its task, and what the last stage has made of it. Rows
stay small: pictures and sound are fetched on the machine that needs them, frames go straight into the encoder,
and a video above `flow.max_row_mb` goes to storage first. A stage never raises: what goes wrong with a clip is
written into its record, and the clip goes on to the sink.
"""

import hashlib
import logging
import os
import pickle
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.interfaces import FPS
from pipeline import prep as preparation
from pipeline import stages
from pipeline.cluster import SMALL_CPUS, Pools, is_alive, size_pools
from pipeline.commit import Output, PartName
from pipeline.config import RenderConfig
from pipeline.environment import set_up_worker
from pipeline.ledger import MOST_KILLS, Ledger, Progress
from pipeline.plan import Plan, Task
from pipeline.records import QUARANTINED, RENDERED, Record
from pipeline.repeating import repeating

Row = dict[str, Any]
Made = list[tuple[Record, Any]]  # what a stage makes of one row: records and what goes with them
STALL_S = 4 * 3600  # a part takes minutes; waiting for spot machines may take hours
MOST_BLOCKS = 20_000  # one clip per block up to here: the finest retry, at some milliseconds each


@dataclass(frozen=True)
class Stages:
    """What the workers do; all of it must be importable by them. Tests put fakes here.

    Args:
        prep: (clip, config) -> Prepped.
        motion: config -> object with `generate(prepped) -> Motion`.
        render: config -> object with `render(prepped, motion, out, with_audio, start) -> Rendered`.
        join: (videos of the parts, clip, frames, out, config) -> None.
    """

    prep: Callable[..., Any] = preparation.prep
    motion: Callable[..., Any] = stages.MotionStage
    render: Callable[..., Any] = stages.RenderStage
    join: Callable[..., Any] = stages.join


def run(plan: Plan, config: RenderConfig, run_id: str, work: Stages, tell: Callable[[str], None]) -> None:
    """Do what a plan has left to do, on the Ray cluster that this process is connected to.

    Afterwards the clips have records in the output folder, except long ones whose last parts were written at the
    same moment, which `assemble.close` joins.

    Args:
        run_id: unique name of this run.
        tell: is given a progress line now and then.
    """
    from pipeline.sink import ClipSink

    lengths = {task.clip.id: task.guess_s for task in plan.tasks}
    parts = sum(len(stages.split(max(1, int(seconds * FPS)), config.max_part_seconds)) for seconds in lengths.values())
    # beside the driver, without which the run ends anyway: no lost worker machine takes the score with it
    here = NodeAffinitySchedulingStrategy(_node(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    ledger = ray.remote(_RunLedger).options(**options).remote(config, lengths)
    progress = Progress(len(plan.tasks))

    def tell_score() -> None:
        for line in progress.lines(ray.get(ledger.score.remote())):
            tell(line)

    with repeating(config.flow.progress_every_s, tell_score):
        rows = _graph(plan, config, run_id, work, ledger, size_pools(config, parts))
        rows.write_datasink(ClipSink(config, ledger, work.join), ray_remote_args={"num_cpus": SMALL_CPUS})
    tell_score()


def _graph(plan: Plan, config: RenderConfig, run_id: str, work: Stages, ledger: Any, pools: Pools) -> Any:
    import ray.data
    from ray.data import ActorPoolStrategy

    configure_ray_data()
    motion_worker: Any = MotionWorker  # Ray's types know functions only
    render_worker: Any = RenderWorker
    prepare: Any = _prepare
    rows = [_pack(task.record(config, run_id), task, None) for task in plan.tasks]
    common = {"config": config, "ledger": ledger}
    return (
        ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS))
        .map(prepare, fn_kwargs={**common, "prep": work.prep}, num_cpus=pools.prep_cpus)
        .flat_map(
            motion_worker,
            fn_constructor_kwargs={**common, "build": work.motion},
            compute=ActorPoolStrategy(size=pools.motion_actors),
            num_cpus=SMALL_CPUS,
        )
        .map(
            render_worker,
            fn_constructor_kwargs={**common, "build": work.render},
            compute=ActorPoolStrategy(min_size=pools.render_actors, max_size=pools.most_render_actors),
            num_cpus=pools.render_cpus,
            num_gpus=pools.render_gpus,
        )
    )


def configure_ray_data() -> None:
    """Settings of Ray Data for rows that are work to do, and a quiet terminal."""
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # advertises progress bars
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.issue_detectors_config.detectors = []  # they fill the terminal with hints for other users of Ray Data
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # a row is a block: the parts of a long clip spread over all workers
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = STALL_S
    context.max_consecutive_actor_init_deaths = 3  # by default the first one ends the job
    context.actor_init_retry_on_errors = True
    # rows waiting for their tar are charged to the renderer, which must not stop for that
    context.override_object_store_memory_limit_fraction = 0.8


def _prepare(row: Row, config: RenderConfig, ledger: Any, prep: Callable[..., Any]) -> Row:
    """The prep stage of one row, in a task."""
    set_up_worker(config)

    def work(record: Record, task: Task, _: None) -> Made:
        prepped = prep(task.clip, config)
        seconds = prepped.frames / FPS
        ledger.expect.remote(record.clip_id, seconds)
        return [(replace(record, warnings=prepped.warnings, frames=prepped.frames, duration_s=seconds), prepped)]

    return _guarded(row, "prep", config, ledger, work)[0]


class MotionWorker:
    """Turns a prepared clip into parts with coefficients."""

    def __init__(self, config: RenderConfig, ledger: Any, build: Callable[..., Any]):
        set_up_worker(config)
        self._config, self._ledger, self._stage = config, ledger, build(config)

    def __call__(self, row: Row) -> list[Row]:
        return _guarded(row, "motion", self._config, self._ledger, self._work)

    def _work(self, record: Record, task: Task, prepped: Any) -> Made:
        motion = self._stage.generate(prepped)
        spans = stages.split(len(motion), self._config.max_part_seconds)
        around = [stages.with_neighbours(span, len(motion), self._config) for span in spans]
        parts = [
            (replace(record, part=part, parts=len(spans)), (prepped, motion[start:stop]))
            for part, (start, stop) in enumerate(around)
        ]
        return [item for item in parts if PartName(item[0].part, item[0].parts) not in task.done]


class RenderWorker:
    """Turns a part with coefficients into a video."""

    def __init__(self, config: RenderConfig, ledger: Any, build: Callable[..., Any]):
        set_up_worker(config)
        self._config, self._ledger, self._stage = config, ledger, build(config)
        self._output = Output(config.out)

    def __call__(self, row: Row) -> Row:
        return _guarded(row, "render", self._config, self._ledger, self._work)[0]

    def _work(self, record: Record, task: Task, payload: Any) -> Made:
        prepped, motion = payload
        with tempfile.TemporaryDirectory(prefix="talkfarm-") as folder:
            path = Path(folder) / "clip.mp4"
            start, stop = span = stages.split(prepped.frames, self._config.max_part_seconds)[record.part]
            first, last = stages.with_neighbours(span, prepped.frames, self._config)
            asked = {} if (first, last) == span else {"keep": (start - first, stop - first)}
            made = self._stage.render(prepped, motion, path, with_audio=record.parts == 1, start=start, **asked)
            video = path.read_bytes()
            record = replace(
                record,
                outcome=RENDERED,
                attempt=uuid.uuid4().hex[:12],
                size_bytes=len(video),
                sha256=hashlib.sha256(video).hexdigest(),
                frames=stop - start,
                duration_s=(stop - start) / FPS,
                width=made.width,
                height=made.height,
                thumbnail=made.thumbnail if record.part == 0 else b"",
                worker=f"{_node()[:8]}:{os.getpid()}",
                **made.settled,
            )
            if len(video) > self._config.flow.max_row_mb * 1e6:
                return [(replace(record, uri=self._output.place(record, path)), None)]
            return [(record, video)]


def _guarded(
    row: Row, stage: str, config: RenderConfig, ledger: Any, work: Callable[[Record, Task, Any], Made]
) -> list[Row]:
    """Do a stage's work on a row; whatever happens, the clip goes on, with its outcome and the time it took."""
    record, task, payload = unpack(row)
    if record.ended:
        return [row]
    kills: Any = ray.get(ledger.start.remote(record.clip_id, record.spec_hash, record.part, stage, _node()))
    record = replace(record, attempts=task.attempts + 1 + kills)
    if kills >= MOST_KILLS:
        note = Output(config.out).crashes_uri(record.clip_id, record.spec_hash)
        record = replace(
            record,
            outcome=QUARANTINED,
            stage=stage,
            error=f"{kills} workers died on this clip",
            hint=f"look for what is unusual about its inputs; to try again, delete {note}",
        )
        ledger.finish.remote(record.clip_id, record.part)
        return [_pack(record, task, None)]
    began = time.perf_counter()
    try:
        made = work(record, task, payload)
    except Exception as error:
        made = [(record.failed_by(error, stage), None)]
    seconds = (time.perf_counter() - began) / max(len(made), 1)
    ledger.finish.remote(record.clip_id, record.part)
    return [_pack(result.spent(stage, seconds), task, cargo) for result, cargo in made]


def _pack(record: Record, task: Task, payload: Any) -> Row:
    cargo = payload if isinstance(payload, bytes) else pickle.dumps(payload, protocol=5)
    return {"record": record.dumps(), "task": pickle.dumps(task, protocol=5), "payload": cargo}


def unpack(row: Row) -> tuple[Record, Task, Any]:
    """Record, task and what the last stage made; the payload of a rendered row is the video itself."""
    record = Record.loads(row["record"])
    payload = row["payload"]
    if record.outcome != RENDERED or record.uri:
        payload = pickle.loads(payload)
    return record, pickle.loads(row["task"]), payload


class _RunLedger(Ledger):
    """The ledger as an actor."""

    def __init__(self, config: RenderConfig, lengths: dict[str, float]):
        set_up_worker(config)
        super().__init__(config.out, is_alive, lengths)


def _node() -> str:
    return ray.get_runtime_context().get_node_id()
