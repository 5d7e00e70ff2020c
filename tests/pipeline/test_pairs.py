"""What a run is made of: tables, folders of videos, outputs of render jobs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.commit import Output
from pipeline.errors import InputError, SetupError
from pipeline.pairs import Pair, read_phones, read_run
from pipeline.records import RENDERED, Record, to_parquet


def test_a_table_is_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("id,video,reference,speaker\n7,a.mp4,/real/a.mp4,ann\nb,s3://x/b.mp4,,\n")
    seven, b = read_run("mine", str(tmp_path / "pairs.csv"))
    assert seven == Pair(id="7", video=f"{tmp_path}/a.mp4", reference="/real/a.mp4", speaker="ann")
    assert b == Pair(id="b", video="s3://x/b.mp4")
    assert b.sound == "s3://x/b.mp4"


def test_every_problem_of_a_table_is_told(tmp_path: Path) -> None:
    rows = [{"id": "a", "video": "a.mp4"}, {"id": "a", "video": "b.mp4"}, {"id": "c", "vidoe": "c.mp4"}, {"id": " "}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SetupError) as caught:
        read_run("mine", str(tmp_path / "pairs.jsonl"))
    said = "\n".join(caught.value.problems)
    assert "line 2: the id 'a' is taken" in said
    assert "unknown key 'vidoe'; did you mean 'video'?" in said
    assert "line 4: 'video' is missing" in said
    assert "'id' is blank" in said


def test_a_folder_gives_its_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.webm", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [pair.id for pair in read_run("mine", str(tmp_path))] == ["a", "b"]
    (tmp_path.parent / "index.csv").write_text(f"file,speaker\n{tmp_path.name}/a.webm,ann\nother/b.mp4,bob\n")
    assert [pair.speaker for pair in read_run("mine", str(tmp_path))] == ["ann", None]
    (tmp_path.parent / "index.csv").unlink()
    with pytest.raises(SetupError, match=r"runs\.none=.* has no video"):
        read_run("none", str(tmp_path / "missing"))


def test_an_output_gives_its_latest_videos(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    index = tmp_path / "index"
    index.mkdir()
    (tmp_path / "config.yaml").write_text("max_part_seconds: 2\n")
    own = Record("own", "1" * 16, RENDERED, "videos/old.mp4", portrait="/v.mp4", audio="/v.mp4", frames=100, run="1")
    cross = replace(own, clip_id="cross", portrait="/p.png", uri="videos/c.mp4", frames=40)
    for record in (own, replace(own, spec_hash="0" * 16, uri="videos/new.mp4", run="2"), cross):
        Path(output.index_uri(record.clip_id, record.spec_hash)).write_bytes(to_parquet([record]))
    first, second = read_run("night", str(tmp_path))
    assert first == Pair(id="cross", video=f"{tmp_path}/videos/c.mp4", audio="/v.mp4")
    assert second == Pair(id="own", video=f"{tmp_path}/videos/new.mp4", audio="/v.mp4", reference="/v.mp4", seams=[50])


def test_phones(tmp_path: Path) -> None:
    path = tmp_path / "phones.csv"
    path.write_text("start_s,end_s,phone\n0.1,0.2,p\n0.2,0.3,a\n")
    assert read_phones(str(path)) == [(0.1, 0.2, "p"), (0.2, 0.3, "a")]
    path.write_text("start,end\n0.1,0.2\n")
    with pytest.raises(InputError, match="can't be read as phones"):
        read_phones(str(path))
