"""Jobs with the real stages: everything on S3; every hostile file among good ones.

Run: pytest tests/pipeline/test_real_jobs.py
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.inputs import write_portrait, write_speech
from pipeline import prep, storage
from pipeline.commit import Output
from pipeline.config import load_config
from pipeline.flow import Stages
from pipeline.job import run_job
from pipeline.records import Record
from tests import fakes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# files of which nothing can be made, whatever a program does
HOPELESS = {
    *("aud_missing_wav_header.wav", "aud_no_samples.wav", "aud_one_sample.wav", "aud_text.wav", "aud_zero_bytes.wav"),
    *("img_1x1.png", "img_24px.png", "img_bomb_1600MP.png", "img_flat.png", "img_noface_dark.png"),
    *("img_noface_dogs.jpg", "img_noface_landscape.jpg", "img_noise.jpg", "img_panorama.jpg", "img_text.jpg"),
    *("img_tiny_face_hd.jpg", "img_zero_bytes.png", "vid_audio_only.mp4", "vid_no_audio.mp4"),
}
# a fringe of hair; a photograph of a photograph: faces like any other
UNREMARKABLE = {"img_hair_dim.jpg", "img_photo_of_screen.jpg"}
TO_BE_FLAGGED = (
    "flag",
    "no speech",
    "noise only",
    "digital silence",
    "white noise -20",
    "440 Hz",
    "more data than present",
)


def test_everything_on_s3(s3: str, tmp_path: Path) -> None:
    write_portrait(tmp_path / "face.png", side_px=256)
    write_speech(tmp_path / "one.wav", seconds=0.6)
    write_speech(tmp_path / "two.wav", seconds=2.2)
    for name in ("face.png", "one.wav", "two.wav"):
        storage.write_atomic(f"{s3}/in/{name}", tmp_path / name)
    rows = [{"id": name, "portrait": "face.png", "audio": f"{name}.wav"} for name in ("one", "two", "three")]
    storage.write_atomic(f"{s3}/in/clips.jsonl", "\n".join(map(json.dumps, rows)).encode())
    words = [f"manifest={s3}/in/clips.jsonl", f"out={s3}/out", f"cache.dir={tmp_path}/cache", "max_part_seconds=1"]
    report = run_job(load_config(words), lambda line: None)
    outcomes = {record.clip_id: record for record in report.records}
    assert [outcomes[name].outcome for name in ("one", "two", "three")] == ["rendered", "rendered", "rejected"]
    assert outcomes["three"].error.startswith(f"{s3}/in/three.wav")
    output = Output(f"{s3}/out")
    for record in (outcomes["one"], outcomes["two"]):
        video = storage.read_bytes(output.path(record.uri))
        assert hashlib.sha256(video).hexdigest() == record.sha256
        assert len(video) == record.size_bytes and video[4:8] == b"ftyp"
    assert outcomes["two"].frames == 55 and not output.split()
    assert storage.exists(f"{s3}/out/report.html") and storage.exists(f"{s3}/out/config.yaml")
    again = run_job(load_config(words), lambda line: None)
    assert again.numbers["this_run"]["clips"] == 1, "only the one that failed is tried again"


@pytest.mark.slow
def test_every_hostile_file_among_good_ones(shared_data: Path, tmp_path: Path) -> None:
    rows = [
        {"id": f"good{n}", "portrait": str(shared_data / portrait), "audio": str(shared_data / speech)}
        for n, (portrait, speech) in enumerate(
            [
                ("portraits/p_man_suit.jpg", "speech/en_arctic.wav"),
                ("portraits/p_woman_happy.png", "speech/dt_spanish1.wav"),
                ("portraits/art_mona_lisa.jpg", "speech/en_ack.m4a"),
            ]
        )
        if (shared_data / portrait).exists()
    ]
    notes = _hostile_rows(shared_data, rows)
    rows += [row for row, _ in notes.values()]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [f"manifest={tmp_path}/m.jsonl", f"out={tmp_path}/out", f"cache.dir={tmp_path}/cache"]
    config = load_config([*words, "flow.prep_cpus=0.25", "max_part_seconds=3600"])
    work = Stages(prep=prep.prep, motion=fakes.FakeMotion, render=fakes.FakeRender, join=fakes.join)
    report = run_job(config, lambda line: None, work)
    records = {record.clip_id: record for record in report.records}
    assert len(records) == len(rows)
    faults = [record for record in records.values() if record.outcome not in ("rendered", "rejected")]
    assert not faults, "\n".join(f"{record.clip_id}: {record.outcome} {record.error}" for record in faults)
    assert all(records[row["id"]].outcome == "rendered" for row in rows if row["id"].startswith("good"))
    wrong = [complaint for name, (_, note) in notes.items() if (complaint := _judge(name, note, records[name]))]
    assert not wrong, "\n".join(wrong)
    output = Output(f"{tmp_path}/out")
    assert set(output.committed()) | output.failed() == set(records)
    assert not set(output.committed()) & output.failed()


def _hostile_rows(shared_data: Path, good: list[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], str]]:
    """Name -> manifest row, and what index.csv says must happen."""
    with (shared_data / "index.csv").open(encoding="utf-8") as file:
        found = [entry for entry in csv.DictReader(file) if entry["file"].startswith("hostile/")]
    rows = {}
    for entry in found:
        name = Path(entry["file"]).name
        path = str(shared_data / entry["file"])
        if name.startswith("aud") or name == "vid_no_audio.mp4":
            row = {"portrait": good[0]["portrait"], "audio": path}
        else:
            row = {"portrait": path, "audio": good[0]["audio"]}
        rows[name] = ({"id": name, **row}, entry["note"])
    return rows


def _judge(name: str, note: str, record: Record) -> str:
    """A complaint if the outcome isn't what the note asks for."""
    said = f"{name} ({note}): {record.outcome} {record.error} {record.warnings}"
    if record.outcome == "rejected":
        has_reason = record.error and record.hint and name in record.error
        is_fine = "accept" in note and "reject" not in note
        return said if not has_reason or is_fine else ""
    asks_for_doubt = any(words in note for words in TO_BE_FLAGGED) and name not in UNREMARKABLE
    return said if name in HOPELESS or (asks_for_doubt and not record.warnings) else ""
