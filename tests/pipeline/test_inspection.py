"""Every distinct input is looked at once, and none can stop the others."""

import os
import signal
from pathlib import Path

import pytest

from models.controls import Controls, FaceChoice
from pipeline.config import RenderConfig, load_config
from pipeline.inspection import Finding, Source, inspect
from pipeline.manifest import Clip


@pytest.fixture
def config(tmp_path: Path) -> RenderConfig:
    return load_config(["manifest=m.jsonl", f"cache.dir={tmp_path}"])


def note(source: Source, config: RenderConfig) -> Finding:
    with (config.cache.folder / "notes").open("a") as notes:
        notes.write(f"{source.uri}\n")
    if source.uri == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return Finding(source, warnings=("seen",), duration_s=2.0)


def test_each_distinct_input_is_looked_at_once(config: RenderConfig):
    left = Controls(face=FaceChoice(pick="leftmost"))
    clips = [Clip(id=f"c{n}", portrait="anna", audio=f"a{n % 2}") for n in range(4)]
    clips.append(Clip(id="c4", portrait="anna", audio="a0", controls=left))
    told = []
    findings = inspect(clips, config, lambda done, total: told.append((done, total)), note)
    seen = (config.cache.folder / "notes").read_text().splitlines()
    assert sorted(seen) == ["a0", "a1", "anna", "anna"], "another face of a picture is another question"
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [finding.source.uri for finding in findings] == ["anna", "a0", "a1", "anna"]
    assert findings[0].clips == ("c0", "c1", "c2", "c3")
    assert findings[1].clips == ("c0", "c2", "c4")
    assert findings[3].clips == ("c4",)


def test_an_input_that_kills_its_reader_is_named(config: RenderConfig):
    clips = [Clip(id=f"c{n}", portrait="killer" if n == 1 else f"p{n}", audio="a") for n in range(5)]
    findings = inspect(clips, config, lambda done, total: None, note)
    assert [finding.source.uri for finding in findings] == ["p0", "a", "killer", "p2", "p3", "p4"]
    assert [finding.error for finding in findings if finding.error] == ["killer kills the process that reads it"]
    assert findings[2].clips == ("c1",)
