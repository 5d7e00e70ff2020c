"""Kill -9 in the middle of a job: every clip comes out exactly once. Run: pytest tests/pipeline/test_kill_and_resume.py

The stages are fakes, Ray and the commit protocol are real.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commit import Output
from tests.conftest import ROOT
from tests.fakes import notes

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CLIPS = 40
WORKERS = 2


class Job:
    """The same job again and again, on one output folder."""

    def __init__(self, folder: Path):
        self.folder, self.log, self.output = folder, folder / "log", Output(str(folder / "out"))
        self.log.mkdir()
        rows = [{"id": f"clip {n:02d}", "portrait": "/ok", "audio": f"/{20 + n}"} for n in range(CLIPS)]
        # ten of them are split into parts of a second
        rows = [{**row, "audio": "/60"} if n % 4 == 0 else row for n, row in enumerate(rows)]
        (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.fake_job", f"manifest={self.folder}/m.jsonl", f"out={self.output.uri}"]
        command += ["max_part_seconds=1", f"cache.dir={self.folder}/cache", "flow.progress_every_s=1"]
        command += [f"flow.render_actors={WORKERS}"]
        environment = {**os.environ, "TALKFARM_FAKE_LOG": str(self.log), "TALKFARM_FAKE_SECONDS": "0.15"}
        environment.pop("RAY_ADDRESS", None)
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def committed(self) -> int:
        return len(self.output.committed())

    def renders(self) -> Counter:
        return Counter(notes(self.log, "render"))


def is_running(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 90
    while not is_so():
        assert process is None or process.poll() is None, "the job ended too early"
        assert time.monotonic() < deadline, "the job made no progress"
        time.sleep(0.05)


def test_every_clip_exactly_once(tmp_path: Path) -> None:
    job = Job(tmp_path)

    first = job.start()
    wait_until(lambda: job.committed() >= 8, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    workers_first = set(notes(job.log, "worker"))
    wait_until(lambda: not any(is_running(pid) for pid in workers_first))
    done_first = set(job.output.committed())
    rendered_first = job.renders()
    assert 8 <= len(done_first) < CLIPS

    second = job.start()
    wait_until(lambda: job.committed() >= len(done_first) + 8, second)
    victim = next(int(pid) for pid in notes(job.log, "worker") if pid not in workers_first and is_running(pid))
    os.kill(victim, signal.SIGKILL)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said

    committed = job.output.committed()
    assert len(committed) == CLIPS and all(len(hashes) == 1 for hashes in committed.values())
    assert not job.output.failed()
    records = [job.output.read(clip_id, spec_hash) for clip_id, (spec_hash,) in committed.items()]
    for record in records:
        assert hashlib.sha256(Path(job.output.path(record.uri)).read_bytes()).hexdigest() == record.sha256
    videos = {str(path.relative_to(job.output.uri)) for path in Path(job.output.uri, "videos").rglob("*.mp4")}
    orphans = videos - {record.uri for record in records}
    assert len(orphans) <= WORKERS, "at most what was being written when the job was killed"

    renders = job.renders()
    assert all(renders[clip_id] == rendered_first[clip_id] for clip_id in done_first), "finished clips were redone"
    parts = sum(-(-record.frames // 25) for record in records)
    # what was between the first frame and the commit when the job died is done again
    assert sum(renders.values()) - parts <= parts // 3
    assert Path(job.output.uri, "parts").exists() is False or not list(Path(job.output.uri, "parts").rglob("*.mp4"))

    began = time.monotonic()
    third = job.start()
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 0 and "nothing was left to do" in said
    assert time.monotonic() - began < 10
    assert job.renders() == renders
