"""What is left to do, and the end of every clip. Run: pytest tests/pipeline/test_plan_of_work.py"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from models.controls import Controls
from pipeline import assemble
from pipeline.commit import Output, PartName
from pipeline.config import RenderConfig
from pipeline.manifest import Clip, spec_hash
from pipeline.plan import plan
from pipeline.records import FAILED, RENDERED, Record
from pipeline.stages import split


@pytest.fixture
def config(tmp_path: Path) -> RenderConfig:
    return RenderConfig(manifest="m.jsonl", out=str(tmp_path / "out"))


@pytest.fixture
def output(config: RenderConfig) -> Output:
    return Output(config.out)


def clip(clip_id: str, audio: str = "/speech.wav") -> Clip:
    return Clip(id=clip_id, portrait="/face.png", audio=audio, controls=Controls())


def commit(output: Output, of: Clip, config: RenderConfig, **changes) -> Record:
    record = Record(of.id, spec_hash(of, config), outcome=RENDERED, attempt="one", sha256="0", **changes)
    record = replace(record, uri=output.place(record, b"frames"))
    output.commit(record)
    return record


def test_committed_clips_are_left_out(config: RenderConfig, output: Output) -> None:
    done, new = clip("done"), clip("new.one")
    commit(output, done, config)
    todo = plan([done, new], config, output)
    assert todo.done == ["done"] and [task.clip for task in todo.tasks] == [new]
    assert todo.tasks[0].attempts == 0


def test_failed_clips_are_tried_again_and_counted(config: RenderConfig, output: Output) -> None:
    again = clip("again")
    output.fail(Record("again", spec_hash(again, config), outcome=FAILED, attempts=2))
    (task,) = plan([again], config, output).tasks
    assert task.attempts == 2 and task.record(config, "run").attempts == 3


def test_other_settings_are_another_video(config: RenderConfig, output: Output) -> None:
    same = clip("same")
    old = commit(output, same, config)
    sharper = config.model_copy(update={"encode": config.encode.model_copy(update={"crf": 12})})
    (task,) = plan([same], sharper, output).tasks
    assert task.superseded == (old.spec_hash,)


def test_long_clips_come_first(config: RenderConfig, output: Output, tmp_path: Path) -> None:
    for name, size in {"short.wav": 1000, "long.wav": 900_000, "opus.opus": 600_000}.items():
        (tmp_path / name).write_bytes(bytes(size))
    clips = [clip(name, str(tmp_path / name)) for name in ("short.wav", "missing.wav", "long.wav", "opus.opus")]
    tasks = plan(clips, config, output).tasks
    assert [task.clip.id for task in tasks] == ["opus.opus", "long.wav", "short.wav", "missing.wav"]


def test_an_interrupted_clean_up_is_finished(config: RenderConfig, output: Output) -> None:
    both = clip("both")
    record = commit(output, both, config)
    old = replace(record, spec_hash="0" * 16, attempt="older")
    old = replace(old, uri=output.place(old, b"old"))
    output._create(output.index_uri("both", old.spec_hash), old)
    plan([both], config, output)
    assert output.committed() == {"both": {record.spec_hash}}
    assert not Path(output.path(old.uri)).exists() and Path(output.path(record.uri)).exists()


def test_parts_that_are_done_are_known(config: RenderConfig, output: Output) -> None:
    long = clip("long")
    commit(output, long, config, part=1, parts=3)
    (task,) = plan([long], config, output).tasks
    assert task.done == (PartName(1, 3),)


def test_closing_joins_what_is_complete_and_names_what_is_lost(config: RenderConfig, output: Output) -> None:
    long, lost = clip("long"), clip("lost")
    for part in (0, 1):
        commit(output, long, config, part=part, parts=2, frames=10, duration_s=0.4)
    todo = plan([long, lost], config, output)
    joined: list[int] = []

    def join(parts: list[Path], of: Clip, frames: int, out: Path, _: RenderConfig) -> None:
        joined.append(frames)
        out.write_bytes(b"".join(part.read_bytes() for part in parts))

    for _ in range(2):  # closing twice is closing once
        assemble.close(todo, config, "run", join)
    assert joined == [20]
    record = output.read("long", spec_hash(long, config))
    assert (record.parts, record.frames, record.duration_s) == (1, 20, 0.8)
    assert Path(output.path(record.uri)).read_bytes() == b"framesframes"
    assert not output.split() and output.failed() == {"lost"}
    assert output.read_failed("lost").portrait == "/face.png"


@pytest.mark.parametrize(("frames", "seconds"), [(1, 60.0), (1500, 60.0), (1501, 60.0), (90_000, 60.0), (7, 0.1)])
def test_parts_are_whole_and_short_enough(frames: int, seconds: float) -> None:
    parts = split(frames, seconds)
    assert parts[0][0] == 0 and parts[-1][1] == frames
    assert all(stop == start for (_, stop), (start, _) in pairwise(parts))
    lengths = [stop - start for start, stop in parts]
    assert max(lengths) <= max(1, int(seconds * 25)) and max(lengths) - min(lengths) <= 1
