"""The last operator of the graph: places videos, writes commit records and rows of failed/.

A write task may run twice, at the same time even; `commit.py` says why that does no harm.
"""

import tempfile
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.data import Datasink
from ray.data.block import BlockAccessor

from pipeline import assemble, storage
from pipeline.commit import Output
from pipeline.config import RenderConfig
from pipeline.environment import set_up_worker
from pipeline.errors import TalkfarmError
from pipeline.flow import unpack
from pipeline.plan import Task
from pipeline.records import RENDERED, Record
from pipeline.shards import write_tar

Delivery = tuple[Record, Task, Any]


class ClipSink(Datasink):
    """Writes finished rows.

    Args:
        config: of the job.
        ledger: actor that keeps the score.
        join: joins the parts of long clips, as `stages.join`.
    """

    def __init__(self, config: RenderConfig, ledger: Any, join: assemble.Join):
        self._config, self._ledger, self._join = config, ledger, join
        self._output = Output(config.out)

    @property
    def min_rows_per_write(self) -> int | None:
        return self._config.flow.rows_per_tar if self._config.layout == "tar" else None

    def write(self, blocks: Iterable[Any], ctx: Any) -> int:
        """Deliver the rows of some blocks; returns how many there were."""
        set_up_worker(self._config)
        deliveries = [
            unpack(row) for block in blocks for row in BlockAccessor.for_block(block).iter_rows(public_row_format=True)
        ]
        if self._config.layout == "tar":
            deliveries = self._pack(deliveries)
        for record, task, video in deliveries:
            self._deliver(record, task, video)
        return len(deliveries)

    def _deliver(self, record: Record, task: Task, video: Any) -> None:
        began = time.perf_counter()
        if record.outcome == RENDERED:
            try:
                if not record.uri:
                    record = replace(record, uri=self._output.place(record, video))
                record = record.spent("write", time.perf_counter() - began)
                self._output.commit(record, task.superseded)
                if record.parts > 1:
                    record = assemble.join_if_complete(record, task, self._config, self._join) or record
            except TalkfarmError as error:
                record = record.failed_by(error, "write")
        if record.outcome != RENDERED:
            self._output.fail(record, task.superseded)
        self._ledger.end.remote(replace(record, thumbnail=b""))

    def _pack(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Put the videos of whole clips into one tar; parts and videos in storage already stay as they are."""
        inside = [item for item in deliveries if item[0].outcome == RENDERED and item[0].parts == 1 and item[2]]
        if not inside:
            return deliveries
        outside = [item for item in deliveries if item not in inside]
        began = time.perf_counter()
        uri = f"videos/part-{uuid.uuid4().hex[:12]}.tar"
        with tempfile.TemporaryDirectory(prefix="talkfarm-") as folder:
            path = Path(folder) / "shard.tar"
            offsets = write_tar(path, [(record, video) for record, _, video in inside])
            storage.create_once(self._output.path(uri), path)
        seconds = (time.perf_counter() - began) / len(inside)
        packed = [
            (replace(record, uri=uri, offset=offset).spent("write", seconds), task, None)
            for (record, task, _), offset in zip(inside, offsets)
        ]
        return outside + packed
