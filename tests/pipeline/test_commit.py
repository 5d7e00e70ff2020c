"""A clip comes into being exactly once, whoever else is at it. Run: pytest tests/pipeline/test_commit.py"""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.commit import Output, PartName
from pipeline.records import REJECTED, RENDERED, Record


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    return Output(str(tmp_path / "out") if request.param == "local" else request.getfixturevalue("s3"))


def finished(video: bytes, attempt: str, spec_hash: str = "a" * 16, clip_id: str = "ep 01.dé") -> Record:
    sha256 = hashlib.sha256(video).hexdigest()
    return Record(clip_id, spec_hash, outcome=RENDERED, attempt=attempt, sha256=sha256, size_bytes=len(video))


def deliver(output: Output, record: Record, video: bytes, superseded: tuple[str, ...] = ()) -> tuple[Record, bool]:
    placed = replace(record, uri=output.place(record, video))
    return placed, output.commit(placed, superseded)


def videos(output: Output) -> dict[str, bytes]:
    names = storage.list_names(output.path("videos"), recursive=True)
    return {f"videos/{name}": storage.read_bytes(output.path("videos", name)) for name in names}


def test_a_clip_is_found_again(output: Output) -> None:
    placed, is_ours = deliver(output, finished(b"frames", "one"), b"frames")
    assert is_ours
    assert output.committed() == {"ep 01.dé": {"a" * 16}}
    assert output.read("ep 01.dé", "a" * 16) == placed
    assert videos(output) == {placed.uri: b"frames"}
    assert placed.uri.endswith("/ep 01.dé.mp4")


def test_the_second_execution_takes_its_video_away(output: Output) -> None:
    first, _ = deliver(output, finished(b"frames", "one"), b"frames")
    _, is_ours = deliver(output, finished(b"other frames", "two"), b"other frames")
    assert not is_ours
    assert output.read(first.clip_id, first.spec_hash).attempt == "one"
    assert videos(output) == {first.uri: b"frames"}


def test_the_same_execution_may_commit_again(output: Output) -> None:
    # a client that repeats a request whose answer was lost meets its own record
    first, _ = deliver(output, finished(b"frames", "one"), b"frames")
    assert output.commit(first)
    assert videos(output) == {first.uri: b"frames"}


def test_an_orphan_is_never_overwritten(output: Output) -> None:
    orphan = output.place(finished(b"of a killed job", "dead"), b"of a killed job")
    placed, _ = deliver(output, finished(b"frames", "one"), b"frames")
    assert placed.uri != orphan and placed.uri.endswith("ep 01.dé.aaaaaaaa.mp4")
    assert videos(output)[orphan] == b"of a killed job"


def test_an_orphan_with_the_same_frames_is_adopted(output: Output) -> None:
    orphan = output.place(finished(b"frames", "dead"), b"frames")
    placed, is_ours = deliver(output, finished(b"frames", "one"), b"frames")
    assert is_ours and placed.uri == orphan
    # the killed job's zombie wakes up and commits what has been adopted
    zombie = replace(finished(b"frames", "dead"), uri=orphan)
    assert not output.commit(zombie)
    assert videos(output) == {orphan: b"frames"}


def test_a_new_version_replaces_the_old_one(output: Output) -> None:
    old, _ = deliver(output, finished(b"old", "one"), b"old")
    new, _ = deliver(output, finished(b"new", "two", "b" * 16), b"new", superseded=(old.spec_hash,))
    assert output.committed() == {"ep 01.dé": {"b" * 16}}
    assert videos(output) == {new.uri: b"new"}


def test_a_new_version_with_the_same_frames_keeps_the_file(output: Output) -> None:
    old, _ = deliver(output, finished(b"frames", "one"), b"frames")
    new, _ = deliver(output, finished(b"frames", "two", "b" * 16), b"frames", superseded=(old.spec_hash,))
    assert new.uri == old.uri and videos(output) == {new.uri: b"frames"}


def test_a_failed_new_version_leaves_the_index(output: Output) -> None:
    old, _ = deliver(output, finished(b"old", "one"), b"old")
    failed = Record("ep 01.dé", "b" * 16, outcome=REJECTED, error="no face", hint="use another picture")
    output.fail(failed, superseded=(old.spec_hash,))
    assert output.committed() == {} and output.failed() == {"ep 01.dé"}
    assert output.read_failed("ep 01.dé") == failed
    assert videos(output) == {old.uri: b"old"}, "a finished video is not thrown away for a failure"


def test_success_removes_failure_and_crashes(output: Output) -> None:
    record = finished(b"frames", "one")
    output.fail(replace(record, outcome=REJECTED))
    output.write_crashes(record.clip_id, record.spec_hash, 1, "render")
    assert output.crashes(record.clip_id, record.spec_hash) == 1
    deliver(output, record, b"frames")
    assert output.failed() == set() and output.crashes(record.clip_id, record.spec_hash) == 0


def test_a_late_failure_does_not_undo_a_commit(output: Output) -> None:
    record = finished(b"frames", "one")
    deliver(output, record, b"frames")
    output.fail(replace(record, outcome=REJECTED))
    assert output.failed() == set()


def test_parts_are_committed_one_by_one(output: Output) -> None:
    for part in (1, 0):
        deliver(output, replace(finished(b"part", f"try{part}"), part=part, parts=2), b"part")
    assert output.split() == {"ep 01.dé": {"a" * 16: [PartName(0, 2), PartName(1, 2)]}}
    assert output.committed() == {}
    output.drop_parts("ep 01.dé", "a" * 16)
    assert output.split() == {}
    assert storage.list_names(output.path("parts"), recursive=True) == []


def test_a_large_video_goes_in_as_a_file(output: Output, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    path.write_bytes(b"frames")
    record = finished(b"frames", "one")
    uri = output.place(record, path)
    assert storage.read_bytes(output.path(uri)) == b"frames"
