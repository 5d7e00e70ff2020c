"""Records survive their way, and reports say what happened. Run: pytest tests/pipeline/test_report.py"""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

from pipeline.commit import Output
from pipeline.errors import FaceError, TransientError
from pipeline.plan import Plan
from pipeline.records import FAILED, REJECTED, RENDERED, Record, from_parquet, to_parquet
from pipeline.report import build_report, write_report
from pipeline.shards import write_tar

SPEC = "a" * 16


def test_records_travel() -> None:
    record = Record("ép/1", SPEC, warnings=("dark", "blurred"), thumbnail=bytes(range(256)), seconds_render=1.5)
    assert Record.loads(record.dumps()) == record
    assert from_parquet(to_parquet([record, Record("b", SPEC)])) == [record, Record("b", SPEC)]


def test_the_error_decides_the_outcome() -> None:
    record = Record("a", SPEC)
    rejected = record.failed_by(FaceError("f.png shows no face", "use another"), "prep")
    assert (rejected.outcome, rejected.error, rejected.hint) == (REJECTED, "f.png shows no face", "use another")
    assert record.failed_by(TransientError("timed out", "run again"), "prep").outcome == FAILED
    bug = record.failed_by(KeyError("x"), "render")
    assert (bug.outcome, bug.stage) == (FAILED, "render") and "KeyError" in bug.error and bug.hint


def test_a_report_groups_failures_by_reason(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    hashes = {}
    for n in range(9):
        portrait = f"/in/face{n}.png"
        record = Record(f"bad{n}", SPEC, portrait=portrait, audio="/in/a.wav", run="now")
        output.fail(record.failed_by(FaceError(f"{portrait} shows no face", "use another"), "prep"))
        hashes[record.clip_id] = SPEC
    good = Record(
        "<good>", SPEC, outcome=RENDERED, attempt="one", frames=50, duration_s=2.0, run="now", warnings=("dark",)
    )
    good = replace(good, uri=output.place(good, b"video"))
    output.commit(good)
    report = build_report(Plan({"<good>": SPEC, **hashes}, [], []), output, "now", 4.0)
    assert not report.all_rendered
    assert report.numbers["clips"] == {"total": 10, "rendered": 1, "rejected": 9}
    assert report.numbers["this_run"]["video_s_per_s"] == 0.5
    (failure,) = report.numbers["failures"]
    assert failure["error"] == "the portrait shows no face" and len(failure["clips"]) == 9
    table = report.table()
    assert "9 rejected: the portrait shows no face" in table and "use another" in table and "and 4 more" in table
    assert "dark (1)" in table

    write_report(report, output)
    assert json.loads((tmp_path / "report.json").read_text()) == report.numbers
    page = (tmp_path / "report.html").read_text()
    assert "&lt;good&gt;" in page and "<good>" not in page, "names from outside are escaped"


def test_a_tar_can_be_read_by_offset(tmp_path: Path) -> None:
    clips = [(Record("ep.1", SPEC), b"x" * 1000), (Record("ö" * 90 + "%", SPEC), b"second")]
    offsets = write_tar(tmp_path / "a.tar", clips)
    data = (tmp_path / "a.tar").read_bytes()
    assert [data[offset:][: len(video)] for offset, (_, video) in zip(offsets, clips)] == [b"x" * 1000, b"second"]
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames()[:2] == ["ep%2E1.mp4", "ep%2E1.json"]
        member = tar.extractfile(tar.getnames()[1])
        assert member and json.loads(member.read())["clip_id"] == "ep.1"
