"""The Ray side of preparing features: follow every new video, then write the rows that are missing.

The first half hands out videos to workers that hold a face finder (`pipeline.handout`). The second half is a Ray Data
job that reads the plan, makes rows and writes Parquet, with Ray Data's own record of written rows: one row in, one row
out, each with its id, which is what that record needs.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ray
import ray.data

from pipeline import storage
from pipeline.environment import set_up_worker
from pipeline.errors import MissingError
from pipeline.features import Origin
from pipeline.handout import Handout, settings
from pipeline.prepare import ACCEPTED, FAILED, PrepareConfig, Verdict, look, make_row
from pipeline.repeating import repeating
from pipeline.samples import PLAN
from pipeline.scores import to_parquet
from pipeline.talking_videos import TalkingVideo

Look = Callable[[TalkingVideo, str, PrepareConfig], Verdict]
KILLED = Verdict(FAILED, "the worker died twice on this video", "look for what is unusual about it; too large, perhaps")
SHARD_BYTES = 2**26  # most that a task gathers before it writes; rows have some 4 MB


def follow_videos(
    videos: list[tuple[TalkingVideo, str]], config: PrepareConfig, tell: Callable[[str], None], work: Look = look
) -> dict[str, Verdict]:
    """Verdicts of videos, by id; needs `handout.cluster`.

    Args:
        videos: with the names of their verdicts.
        tell: is given a progress line now and then, and one for each video that is not accepted.
        work: other work than the real one.
    """
    handout = Handout(config.flow.workers, config, tell, config.flow.progress_every_s)
    verdicts: dict[str, Verdict] = {}
    for number, verdict in handout.results(videos, partial(_follower, config, work), "videos followed"):
        verdicts[videos[number][0].id] = verdict
        if verdict.outcome != ACCEPTED:
            tell(f"{verdict.outcome}: {verdict.error} ({verdict.hint})")
    for video, _ in videos:
        if video.id not in verdicts:
            verdicts[video.id] = KILLED
            tell(f"{FAILED}: {video.video}: {KILLED.error}")
    return verdicts


def write_plan(rows: list[tuple[str, Origin]], config: PrepareConfig) -> None:
    """Write down which rows there shall be. What else lies in the folder, of earlier plans, isn't learned from.

    Args:
        rows: the URI of each row's video, and what the row is.
    """
    planned = [
        {"row_id": origin.row_id, "video": uri, "origin": json.dumps(vars(origin))}  # as text: Ray would take it apart
        for uri, origin in rows
    ]
    if planned:
        storage.write_atomic(config.path(PLAN), to_parquet(planned))


def write_rows(count: int, config: PrepareConfig, tell: Callable[[str], None]) -> None:
    """Write those of the plan's `count` rows that are not written yet; needs `handout.cluster`.

    Afterwards `written_rows` says which there are, and `failure_of` why another one is missing.
    """
    from ray.data import TaskPoolStrategy
    from ray.data.checkpoint import CheckpointConfig

    files, plan_path = storage.arrow_place(config.path(PLAN))
    record = CheckpointConfig(
        "row_id",
        storage.arrow_place(config.path("rows"))[1],
        override_filesystem=files,
        delete_checkpoint_on_success=False,  # it is what the next run subtracts
    )
    shards = -(-count // config.flow.rows_per_shard)

    def tell_shards() -> None:
        tell(f"{len(storage.list_names(config.path('features')))} of about {shards} shards written")

    with (
        settings(checkpoint_config=record, target_max_block_size=SHARD_BYTES, max_errored_blocks=-1),
        repeating(config.flow.progress_every_s, tell_shards),
    ):
        data = ray.data.read_parquet(plan_path, filesystem=files)
        data.repartition(target_num_rows_per_block=config.flow.rows_per_shard).map_batches(
            partial(_make_rows, config=config),
            batch_size=None,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(),
            num_cpus=1,
        ).write_parquet(storage.arrow_place(config.path("features"))[1], filesystem=files, compression="zstd")


def written_rows(config: PrepareConfig) -> set[str]:
    """Ids of the rows whose shards are complete, by Ray Data's own record."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: set[str] = set()
    for name in storage.list_names(config.path("rows")):
        if name.endswith(".parquet") and ".pending" not in name:
            data = storage.read_bytes(config.path("rows", name))
            # not read_table, whose reader threads abort one interpreter exit in a hundred
            found.update(pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)["row_id"].to_pylist())
    return found


def _make_rows(table: Any, config: PrepareConfig) -> Iterator[Any]:
    """Rows of the plan to rows of features, one table each; a row that can't be made is left out."""
    import pyarrow as pa

    set_up_worker(config)
    for row in table.to_pylist():
        try:
            made = make_row(row["video"], Origin(**json.loads(row["origin"])), config).to_row()
        except Exception as error:  # one row must not take its shard with it
            storage.write_atomic(_failure_uri(row["row_id"], config), f"{type(error).__name__}: {error}".encode())
            continue
        yield pa.Table.from_pylist([made], schema=row_schema())


def failure_of(row_id: str, config: PrepareConfig) -> str:
    """Why a row was left out the last time."""
    try:
        return storage.read_bytes(_failure_uri(row_id, config)).decode()
    except MissingError:
        return "its worker died"


def _failure_uri(row_id: str, config: PrepareConfig) -> str:
    return config.path("failed", f"{row_id}.txt")


def row_schema() -> Any:
    """Arrow types of a row of features."""
    import pyarrow as pa

    from pipeline.features import ARRAYS

    kinds = {str: pa.string(), int: pa.int32()}
    meta = [pa.field(name, kinds[item.type]) for name, item in Origin.__dataclass_fields__.items()]
    arrays = [pa.field(name, pa.binary()) for name in ARRAYS]
    return pa.schema([*meta, *arrays, pa.field("crops", pa.list_(pa.binary()))])


def _follower(config: PrepareConfig, work: Look) -> Callable[[tuple[TalkingVideo, str]], Verdict]:
    """What a worker does with each video."""
    return lambda video: work(*video, config)
