"""Features of several videos: the table, the work, what a rerun does. Run: pytest tests/pipeline/test_prepare.py"""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.config import load_settings
from pipeline.errors import SetupError
from pipeline.features import META_COLUMNS, Features, Origin
from pipeline.prepare import ACCEPTED, ALIKE, PrepareConfig, Verdict, check_pack
from pipeline.prepare_plan import plan_rows
from pipeline.reserved import reserve
from pipeline.samples import read_rows as read_listed
from pipeline.speakers import SPLITS, Speaker
from pipeline.talking_videos import read_videos, warnings_of
from tests.fakes import notes
from tests.pipeline.talking_takes import pretend_to_look, write_video


def config_for(folder: Path, out: str, *words: str) -> PrepareConfig:
    settings = [f"videos={folder}/videos.csv", f"out={out}", f"cache.dir={folder}/cache", "flow.rows_per_shard=2"]
    return load_settings(PrepareConfig, [*settings, "checks.least_s=2", *words])


def write_table(folder: Path, lines: list[str]) -> None:
    (folder / "videos.csv").write_text("\n".join(["video,id,speaker,language,split", *lines]))


def test_problems_of_the_table_are_told_together(tmp_path: Path):
    write_table(
        tmp_path, ["a.mp4,x,ann,en,train", "b.mp4,x,ann,en,validation", "c.mp4,y,bob,en,practice", ",z,bob,en,"]
    )
    with pytest.raises(SetupError) as found:
        read_videos(f"{tmp_path}/videos.csv")
    said = "\n".join(found.value.problems)
    assert "line 3: the id 'x' is taken" in said and "line 3: speaker 'ann' is in two splits" in said
    assert "'practice'" in said and "line 5" in said


def test_rows_are_completed(tmp_path: Path):
    write_table(tmp_path, ["sub/a.mp4,,,,", "s3://bucket/b.mp4,b,bob,de,test"])
    first, second = read_videos(f"{tmp_path}/videos.csv")
    assert (first.video, first.id, first.speaker) == (f"{tmp_path}/sub/a.mp4", "a", "video:a")
    assert (second.video, second.split) == ("s3://bucket/b.mp4", "test")


def test_a_folder_s_videos(tmp_path: Path):
    for name in ("ann/1.mp4", "ann/2.MOV", "bob/deep/1.mkv", "alone.mp4", "alone.txt", "ann/.hidden.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    videos = read_videos(str(tmp_path))
    assert [(video.id, video.speaker) for video in videos] == [
        ("alone", "video:alone"),
        ("ann/1", "ann"),
        ("ann/2", "ann"),
        ("bob/deep/1", "bob"),
    ]
    assert warnings_of(videos) == []
    (tmp_path / "index.csv").write_text("file,speaker\nann/2.MOV,cy\n")
    assert {video.id: video.speaker for video in read_videos(str(tmp_path))}["ann/2"] == "cy"
    (tmp_path / "ann/1.webm").touch()
    with pytest.raises(SetupError, match=r"1.mp4 and ann/1.webm share the id 'ann/1': rename one"):
        read_videos(str(tmp_path))


def test_a_place_without_videos_is_named(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    for place in (tmp_path, tmp_path / "missing", tmp_path / "one.mp4"):
        with pytest.raises(SetupError, match=f"videos={place} is no folder with videos"):
            read_videos(str(place))


def test_videos_without_speakers_are_told(tmp_path: Path):
    write_table(tmp_path, ["a.mp4,,,,", "b.mp4,,,,", "c.mp4,,cy,,"])
    (told,) = warnings_of(read_videos(f"{tmp_path}/videos.csv"))
    assert told.startswith("2 of 3 videos name no speaker")


def planned(lines: list[str], folder: Path) -> list[Origin]:
    """The rows of a table whose videos are 3 s long, with speakers that are known."""
    write_table(folder, lines)
    videos = read_videos(f"{folder}/videos.csv")
    verdicts = {video.id: Verdict(ACCEPTED, sha256=f"hash of {video.id}", frames=75) for video in videos}
    everybody = {name: Speaker(number, number, "train") for number, name in enumerate(("ann", "bob", "cy"))}
    return [origin for _, origin in plan_rows(videos, verdicts, everybody, config_for(folder, "out"))]


def test_a_row_is_another_one_when_its_speaker_is_corrected(tmp_path: Path):
    first = planned(["a.mp4,,ann,en,", "b.mp4,,bob,en,"], tmp_path)
    assert first == planned(["a.mp4,,ann,en,", "b.mp4,,bob,en,"], tmp_path)
    corrected = planned(["a.mp4,,ann,en,", "b.mp4,,cy,en,"], tmp_path)
    assert corrected[0].row_id == first[0].row_id and corrected[1].row_id != first[1].row_id


def test_a_folder_holds_features_of_one_kind(tmp_path: Path):
    def ask(*words: str, revision: str = "1") -> None:
        config = config_for(tmp_path, str(tmp_path / "out"), *words)
        reserve(config.out, config, ALIKE, "features", revision=revision)

    ask()
    ask("flow.workers=3", "splits.validation=0.3")
    with pytest.raises(SetupError, match="another setting of crops, checks"):
        ask("crops=false", "checks.least_sync=0.3")
    with pytest.raises(SetupError, match="another setting of the version of the program"):
        ask(revision="2")


def test_the_basel_space_needs_a_pack(tmp_path: Path):
    with pytest.raises(SetupError, match="belong together"):
        config_for(tmp_path, str(tmp_path / "out"), "space=bfm")
    with pytest.raises(SetupError, match="is no pack"):
        check_pack(config_for(tmp_path, str(tmp_path / "out"), "space=bfm", f"pack={tmp_path}"))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_rerun_does_new_videos_only(tmp_path: Path, s3: str, fake_log: Path, monkeypatch):
    """Features on S3; faces are pretended, everything else is real."""
    from pipeline import prepare_flow
    from pipeline.prepare_job import prepare

    real = prepare_flow.follow_videos
    monkeypatch.setattr(prepare_flow, "follow_videos", lambda *asked: real(*asked, pretend_to_look))
    for number, (name, seconds) in enumerate((("ann_300", 12), ("bob_75", 3), ("cy_75", 3))):
        write_video(tmp_path / f"{name}.mp4", seconds, hue=60 * number)
    (tmp_path / "again_75.mp4").write_bytes((tmp_path / "bob_75.mp4").read_bytes())
    lines = [
        "ann_300.mp4,,ann,en,",
        "bob_75.mp4,,bob,en,",
        "again_75.mp4,,bob,en,",
        "bad.mp4,,cy,de,",
        "kill.mp4,,cy,de,",
    ]
    for name in ("bad", "kill"):
        (tmp_path / f"{name}.mp4").write_text(name)
    write_table(tmp_path, lines)
    said: list[str] = []
    config = config_for(tmp_path, s3)
    card = prepare(config, said.append)
    assert card["videos"] == {"listed": 5, "accepted": 2, "duplicate": 1, "failed": 1, "rejected": 1}
    assert card["rows"] == 3 and card["minutes"] == pytest.approx(375 / 1500, abs=1e-3)
    assert {who["split"] for who in card["speakers"].values()} == {"train", "validation"}
    assert any("has a second shot" in line for line in said) and any("worker died twice" in line for line in said)
    shards = storage.list_names(f"{s3}/features")

    write_table(tmp_path, [*lines, "cy_75.mp4,,cy,de,"])
    again = prepare(config, said.append)
    looks = Counter(notes(fake_log, "look"))
    assert looks["ann_300"] == looks["bob_75"] == looks["cy_75"] == looks["bad"] == 1
    assert looks["kill"] == 4, "what failed is tried again"
    assert set(shards) < set(storage.list_names(f"{s3}/features")), "old shards stay, new ones come"
    assert again["rows"] == 4 and again["hash"] != card["hash"]
    assert {k: v for k, v in again["speakers"].items() if k != "cy"} == card["speakers"]
    assert "4 rows: 3 written already, 1 to write" in said
    assert json.loads(storage.read_bytes(f"{s3}/datacard.json"))["hash"] == again["hash"]
    assert "| de |" in storage.read_bytes(f"{s3}/datacard.md").decode()

    rows = read_rows(f"{s3}/features")
    assert len(rows) == len({row.origin.row_id for row in rows}) == 4
    ann = sorted((row.origin for row in rows if row.origin.speaker == "ann"), key=lambda origin: origin.start)
    assert [(origin.start, origin.frames) for origin in ann] == [(0, 150), (150, 150)]
    assert all(len(row.crops) == row.origin.frames for row in rows)

    # Bob was Ann, and Cy is taken off the table: what is learned from is what the card says
    write_table(tmp_path, [lines[0], "bob_75.mp4,,ann,en,", *lines[3:]])
    third = prepare(config, said.append)
    assert Counter(notes(fake_log, "look"))["bob_75"] == 1 and third["rows"] == 3
    listed = [row.origin for split in SPLITS for row in read_listed(f"{s3}", split, META_COLUMNS)]
    assert {(origin.video_id, origin.speaker) for origin in listed} == {("ann_300", "ann"), ("bob_75", "ann")}
    assert len(listed) == 3 and len({origin.split for origin in listed}) == 1
    assert len(read_rows(f"{s3}/features")) == 5, "earlier rows stay in the shards"


def read_rows(folder: str) -> list[Features]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for name in storage.list_names(folder):
        table = pq.ParquetFile(pa.BufferReader(storage.read_bytes(f"{folder}/{name}"))).read(use_threads=False)
        rows += [Features.from_row(row) for row in table.to_pylist()]
    return rows
