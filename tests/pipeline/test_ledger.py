"""Who killed the worker, and how far are we? Run: pytest tests/pipeline/test_ledger.py"""

import time
from pathlib import Path

import pytest

from pipeline.ledger import MOST_KILLS, Ledger, Progress
from pipeline.records import REJECTED, RENDERED, Record

SPEC = "a" * 16


@pytest.fixture
def nodes() -> set[str]:
    return {"node one", "node two"}


@pytest.fixture
def ledger(tmp_path: Path, nodes: set[str]) -> Ledger:
    return Ledger(str(tmp_path), nodes.__contains__, {"a": 10.0, "b": 20.0})


def test_a_clip_that_ends_is_innocent(ledger: Ledger) -> None:
    for _ in range(5):
        assert ledger.start("a", SPEC, 0, "render", "node one") == 0
        ledger.finish("a", 0)


def test_each_start_without_an_end_is_a_death(ledger: Ledger) -> None:
    kills = [ledger.start("a", SPEC, 0, "render", "node one") for _ in range(MOST_KILLS + 1)]
    assert kills == [0, 1, 2]
    assert ledger.start("b", SPEC, 0, "render", "node one") == 0
    assert ledger.score().deaths == ("a worker died on clip 'a' (render)",) * 2


def test_parts_of_a_clip_run_side_by_side(ledger: Ledger) -> None:
    assert ledger.start("a", SPEC, 0, "render", "node one") == 0
    assert ledger.start("a", SPEC, 1, "render", "node one") == 0


def test_a_lost_machine_is_not_the_clips_fault(ledger: Ledger, nodes: set[str]) -> None:
    ledger.start("a", SPEC, 0, "render", "node two")
    nodes.remove("node two")
    assert ledger.start("a", SPEC, 0, "render", "node one") == 0


def test_the_next_run_remembers(ledger: Ledger, tmp_path: Path, nodes: set[str]) -> None:
    for _ in range(3):
        ledger.start("a", SPEC, 0, "render", "node one")
    later = Ledger(str(tmp_path), nodes.__contains__, {})
    assert later.start("a", SPEC, 0, "render", "node one") == MOST_KILLS
    later.finish("a", 0)
    assert later.start("a", "b" * 16, 0, "render", "node one") == 0, "other controls, another chance"


def test_a_killed_job_accuses_nobody(ledger: Ledger, tmp_path: Path, nodes: set[str]) -> None:
    ledger.start("a", SPEC, 0, "render", "node one")
    later = Ledger(str(tmp_path), nodes.__contains__, {})
    assert later.start("a", SPEC, 0, "render", "node one") == 0


def test_the_score_counts_clips_once(ledger: Ledger) -> None:
    done = Record("a", SPEC, outcome=RENDERED, duration_s=9.0)
    ledger.end(done)
    ledger.end(done)
    ledger.end(Record("b", SPEC, outcome=REJECTED))
    score = ledger.score()
    assert dict(score.ended) == {RENDERED: 1, REJECTED: 1}
    assert score.video_s == 9.0
    assert score.expected_s == 10.0, "a rejected clip takes no more time"


def test_parts_count_as_video_and_the_clip_once_joined(ledger: Ledger) -> None:
    ledger.end(Record("a", SPEC, outcome=RENDERED, duration_s=5.0, part=0, parts=2))
    assert not ledger.score().ended and ledger.score().video_s == 5.0


def test_progress_says_what_is_left(ledger: Ledger) -> None:
    progress = Progress(2)
    assert progress.lines(ledger.score()) == ["0/2 done, workers are starting"]
    ledger.expect("a", 9.0)
    ledger.end(Record("a", SPEC, outcome=RENDERED, duration_s=9.0))
    (line,) = progress.lines(ledger.score())
    assert line.startswith("1/2 done, 0 failed | ") and "s of video per second" in line and line.endswith("left")


def test_progress_tells_each_death_once(ledger: Ledger) -> None:
    progress = Progress(2)
    for _ in range(2):
        ledger.start("a", SPEC, 0, "prep", "node one")
    assert progress.lines(ledger.score())[0] == "a worker died on clip 'a' (prep)"
    assert len(progress.lines(ledger.score())) == 1


def test_a_cluster_without_room_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(2)
    later = time.monotonic() + 120
    monkeypatch.setattr(time, "monotonic", lambda: later)
    (line,) = progress.lines(ledger.score())
    assert "none begun in 2 min" in line and "no CPU or GPU" in line
    ledger.start("a", SPEC, 0, "prep", "node one")
    assert progress.lines(ledger.score()) == ["0/2 done, workers are starting"]
