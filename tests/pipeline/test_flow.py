"""Whole jobs on a small cluster, with fake stages. Run: pytest tests/pipeline/test_flow.py"""

import hashlib
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.commit import Output
from pipeline.config import load_config
from pipeline.job import run_job
from pipeline.report import Report
from tests.fakes import STAGES, notes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def run(folder: Path, rows: list[dict[str, Any]], *words: str) -> tuple[Report, list[str]]:
    """Run a job; its report and what it said."""
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said: list[str] = []
    settings = [f"manifest={folder}/m.jsonl", f"out={folder}/out", f"cache.dir={folder}/cache", *words]
    return run_job(load_config(["flow.progress_every_s=0.5", *settings]), said.append, STAGES), said


def row(clip_id: str, portrait: str = "/ok", frames: int = 20, **controls: Any) -> dict[str, Any]:
    return {"id": clip_id, "portrait": portrait, "audio": f"/{frames}", "controls": controls}


def test_what_goes_wrong_with_a_clip_stays_with_it(tmp_path: Path, fake_log: Path) -> None:
    rows = [row(f"good{n}") for n in range(8)] + [row("long", frames=110), row("doubtful", "/dark")]
    rows += [row("rejected", "/bad"), row("failing", "/bug"), row("killer", "/kill")]
    report, said = run(tmp_path, rows, "max_part_seconds=1")
    output = Output(str(tmp_path / "out"))
    outcomes = {record.clip_id: record.outcome for record in report.records}
    assert outcomes.pop("rejected") == "rejected"
    assert outcomes.pop("failing") == "failed"
    assert outcomes.pop("killer") == "quarantined"
    assert set(outcomes.values()) == {"rendered"} and len(outcomes) == 10
    assert output.failed() == {"rejected", "failing", "killer"}
    assert set(output.committed()) == set(outcomes)

    by_id = {record.clip_id: record for record in report.records}
    assert by_id["rejected"].error == "/bad shows no face" and by_id["rejected"].hint == "use another picture"
    assert "IndexError" in by_id["failing"].error and by_id["failing"].stage == "render"
    assert by_id["killer"].attempts == 3 and "crashes" in by_id["killer"].hint
    assert by_id["doubtful"].warnings == ("dark",)
    renders = Counter(notes(fake_log, "render"))
    assert renders["killer"] == 2 and renders["good0"] == 1

    long = by_id["long"]
    video = Path(output.path(long.uri)).read_bytes()
    assert (long.frames, long.parts, renders["long"]) == (110, 1, 5)
    assert hashlib.sha256(video).hexdigest() == long.sha256
    assert not output.split()

    assert any("a worker died on clip 'killer'" in line for line in said)
    assert said[-1].startswith("10/13 done, 3 failed")
    written = json.loads((tmp_path / "out/report.json").read_text())
    assert written["clips"] == {"total": 13, "rendered": 10, "rejected": 1, "failed": 1, "quarantined": 1}
    assert "/bad" not in written["failures"][0]["error"]
    assert (tmp_path / "out/report.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "out/run.json").read_text())["clips"] == 13


def test_resume_does_what_is_new_only(tmp_path: Path, fake_log: Path) -> None:
    first = [row("kept"), row("changed"), row("repaired", "/bad")]
    run(tmp_path, first)
    old = Output(str(tmp_path / "out")).committed()["changed"]
    second = [row("kept"), row("changed", pose={"still": True}), row("repaired", "/now good"), row("added")]
    report, said = run(tmp_path, second)
    output = Output(str(tmp_path / "out"))
    assert said[0] == "4 clips: 1 done already, 3 to do"
    assert report.all_rendered and not output.failed()
    assert output.committed()["changed"] != old and len(output.committed()["changed"]) == 1
    assert Counter(notes(fake_log, "render"))["kept"] == 1
    videos = [path.name for path in (tmp_path / "out/videos").rglob("*.mp4")]
    assert len(videos) == 4, "the superseded video is gone"
    again, said = run(tmp_path, second)
    assert again.numbers["this_run"]["clips"] == 0 and "0 to do" in said[-1]


def test_a_job_makes_do_with_what_others_leave_free(tmp_path: Path) -> None:
    import ray

    held = ray.remote(_Holder).options(num_cpus=1.2).remote()  # as `ray job submit --entrypoint-num-cpus` does
    ray.get(held.ready.remote())
    report, _ = run(tmp_path, [row(f"clip{n}") for n in range(4)], "flow.render_actors=2")
    ray.kill(held)
    assert report.all_rendered


class _Holder:
    def ready(self) -> None:
        pass


def test_tar_layout(tmp_path: Path) -> None:
    rows = [row(f"ep.{n:02d}") for n in range(5)] + [row("rejected", "/bad"), row("long", frames=60)]
    report, _ = run(tmp_path, rows, "layout=tar", "flow.rows_per_tar=4", "max_part_seconds=1")
    records = {record.clip_id: record for record in report.records if record.outcome == "rendered"}
    assert len(records) == 6
    tars = list((tmp_path / "out/videos").glob("part-*.tar"))
    assert 1 <= len(tars) <= 3
    for tar_path in tars:
        with tarfile.open(tar_path) as tar:
            names = tar.getnames()
        stems = [name.rsplit(".", 1)[0] for name in names]
        assert stems[::2] == stems[1::2] and all("." not in stem for stem in stems), "WebDataset pairs"
    for record in records.values():
        data = (tmp_path / "out" / record.uri).read_bytes()[max(record.offset, 0) :][: record.size_bytes]
        assert hashlib.sha256(data).hexdigest() == record.sha256
    assert records["long"].offset == -1, "joined clips are files of their own"


def test_large_videos_bypass_ray(tmp_path: Path) -> None:
    report, _ = run(tmp_path, [row("large", frames=200)], "flow.max_row_mb=0.01")
    assert report.all_rendered
    record = report.records[0]
    assert record.size_bytes > 10_000
    assert hashlib.sha256((tmp_path / "out" / record.uri).read_bytes()).hexdigest() == record.sha256
