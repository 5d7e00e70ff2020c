"""Joins the committed parts of long clips, and closes the books of a run. Safe to repeat, and to do twice at once."""

import hashlib
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline import storage
from pipeline.commit import Output, PartName
from pipeline.config import RenderConfig
from pipeline.errors import RenderError, TalkfarmError
from pipeline.manifest import Clip
from pipeline.plan import Plan, Task
from pipeline.records import Record

Join = Callable[[list[Path], Clip, int, Path, RenderConfig], None]


def join_if_complete(record: Record, task: Task, config: RenderConfig, join: Join) -> Record | None:
    """Make the video of a long clip once its last part has been committed.

    Args:
        record: of the part that was committed last, as far as this process knows.
        join: makes one file of several, as `stages.join`.
    Returns:
        The commit record of the clip; None if parts are missing yet.
    Raises:
        TalkfarmError: the parts are complete but can't be joined.
    """
    output = Output(config.out)
    names = [PartName(part, record.parts) for part in range(record.parts)]
    if not set(names) <= set(output.parts(record.clip_id, record.spec_hash)):
        return None
    try:
        records = [output.read_part(record.clip_id, record.spec_hash, name) for name in names]
        return _join(records, replace(records[0], run=record.run), task, config, output, join)
    except TalkfarmError:
        # another process may have joined the clip, and removed its parts, under our hands
        if storage.exists(output.index_uri(record.clip_id, record.spec_hash)):
            return output.read(record.clip_id, record.spec_hash)
        raise


def _join(records: list[Record], first: Record, task: Task, config: RenderConfig, output: Output, join: Join) -> Record:
    frames = sum(part.frames for part in records)
    with tempfile.TemporaryDirectory(prefix="talkfarm-") as name:
        folder = Path(name)
        parts = [_local(output.path(part.uri), folder / f"{part.part}.mp4") for part in records]
        joined = folder / "joined.mp4"
        join(parts, task.clip, frames, joined, config)
        with joined.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        whole = replace(
            first,
            part=0,
            parts=1,
            uri="",
            attempt=uuid.uuid4().hex[:12],
            frames=frames,
            duration_s=sum(part.duration_s for part in records),
            size_bytes=joined.stat().st_size,
            sha256=sha256,
            seconds_render=sum(part.seconds_render for part in records),
            seconds_write=sum(part.seconds_write for part in records),
            attempts=max(part.attempts for part in records),
        )
        if config.quality.check:
            from pipeline.ladder import judge_joined

            told = [(part.frames, part.quality) for part in records]
            whole = replace(whole, quality=judge_joined(joined, frames, told, config))
        whole = replace(whole, uri=output.place(whole, joined))
        output.commit(whole, task.superseded)
    output.drop_parts(whole.clip_id, whole.spec_hash)
    return output.read(whole.clip_id, whole.spec_hash)


def _local(uri: str, path: Path) -> Path:
    """A part as a local file; a copy at `path` if it is remote."""
    here = storage.local_path(uri)
    if here:
        return here
    storage.download(uri, path)
    return path


def close(plan: Plan, config: RenderConfig, run_id: str, join: Join) -> None:
    """Bring every clip of a plan to its end: in index/ or in failed/, and in one of them only."""
    output = Output(config.out)
    committed, failed, split = output.committed(), output.failed(), output.split()
    for task in plan.tasks:
        clip_id, ours = task.clip.id, task.spec_hash
        record = task.record(config, run_id)
        if ours not in committed.get(clip_id, set()):
            for count in {name.parts for name in split.get(clip_id, {}).get(ours, ())}:
                try:
                    if join_if_complete(replace(record, parts=count), task, config, join):
                        committed.setdefault(clip_id, set()).add(ours)
                        break
                except TalkfarmError as error:
                    output.fail(record.failed_by(error, "write"), task.superseded)
                    failed.add(clip_id)
        if ours in committed.get(clip_id, set()):
            if clip_id in failed:
                output.settle(clip_id, ours)
            if clip_id in split:
                output.drop_parts(clip_id, ours)  # of another job on the same folder that was slower
        elif clip_id not in failed:
            lost = RenderError("the clip was lost on its way", "run again, and report it if it stays")
            output.fail(record.failed_by(lost, "write"), task.superseded)
