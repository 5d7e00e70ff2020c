"""Manifests in all formats, and what is said about bad ones: `python -m pytest tests/pipeline/test_manifest.py`."""

import json
from pathlib import Path

import pytest

from models.controls import Controls, PoseControls
from pipeline import storage
from pipeline.config import load_config
from pipeline.errors import SetupError
from pipeline.manifest import Clip, read_manifest, single_clip, spec_hash

ROWS = [
    {"id": "ep01", "portrait": "anna.png", "audio": "s3://speech/1.wav", "controls": {"size": 512}},
    {
        "id": "ep02 \u2028 ünï",
        "portrait": "/pictures/bert.png",
        "audio": "2.wav",
        "controls": {"pose": {"yaw": [0, 10]}},
    },
    {"id": "ep03", "portrait": "../anna.png", "audio": "3.wav", "controls": {"pose": {"still": True}}},
]


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def problems_of(uri: str) -> list[str]:
    with pytest.raises(SetupError) as caught:
        read_manifest(uri, Controls())
    return caught.value.problems


def problems_of_text(path: Path, text: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    return problems_of(str(path))


def check_rows(clips: list[Clip], folder: Path) -> None:
    assert [clip.id for clip in clips] == [row["id"] for row in ROWS]
    assert clips[0].portrait == str(folder / "anna.png")
    assert clips[0].audio == "s3://speech/1.wav"
    assert clips[1].portrait == "/pictures/bert.png"
    assert clips[2].portrait == str(folder.parent / "anna.png")
    assert clips[0].controls == Controls(size=512)
    assert clips[1].controls.pose.yaw == [0.0, 10.0]
    assert clips[2].controls.pose.still


def test_jsonl(tmp_path: Path):
    check_rows(read_manifest(write_jsonl(tmp_path / "m.jsonl", ROWS), Controls()), tmp_path)


def test_jsonl_from_any_editor(tmp_path: Path):
    text = "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in ROWS) + "\r\n\r\n"
    (tmp_path / "m.jsonl").write_bytes(text.encode())
    check_rows(read_manifest(str(tmp_path / "m.jsonl"), Controls()), tmp_path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_with_dotted_columns(tmp_path: Path, separator: str, line_end: str):
    header = ["id", "portrait", "audio", "controls.size", "controls.pose.yaw", "controls.pose.still", "", ""]
    cells = [
        ["ep01", "anna.png", "s3://speech/1.wav", "512.0", "", "", "", ""],
        ["ep02 \u2028 ünï", " /pictures/bert.png ", "2.wav", "", '"[0, 10]"', "", "", ""],
        ["", "", "", "", "", "", "", ""],
        ["ep03", "../anna.png", "3.wav", "", "", "True", "", ""],
    ]
    text = "\ufeff" + line_end.join(separator.join(row) for row in [header, *cells])
    (tmp_path / "m.csv").write_bytes(text.encode())
    check_rows(read_manifest(str(tmp_path / "m.csv"), Controls()), tmp_path)


def test_csv_with_a_json_column(tmp_path: Path):
    import csv

    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, ["id", "portrait", "audio", "controls"])
        writer.writeheader()
        writer.writerows({**row, "controls": json.dumps(row["controls"])} for row in ROWS)
    check_rows(read_manifest(str(tmp_path / "m.csv"), Controls()), tmp_path)


@pytest.mark.parametrize("form", ["struct", "json", "dotted"])
def test_parquet(tmp_path: Path, form: str):
    pandas = pytest.importorskip("pandas")
    if form == "struct":
        table = pandas.DataFrame(ROWS)
    elif form == "json":
        table = pandas.DataFrame([{**row, "controls": json.dumps(row["controls"])} for row in ROWS])
    else:
        table = pandas.DataFrame([{key: row[key] for key in ("id", "portrait", "audio")} for row in ROWS])
        table["controls.size"] = [512.0, None, None]  # a gap turns whole numbers into floats
        table["controls.pose.yaw"] = [None, [0, 10], None]
        table["controls.pose.still"] = [None, None, True]
    table.index = [3, 1, 2]  # any index that is not 0, 1, 2 is stored as a column
    table.to_parquet(tmp_path / "m.parquet")
    check_rows(read_manifest(str(tmp_path / "m.parquet"), Controls()), tmp_path)


def test_on_s3(s3: str):
    uri = storage.join(s3, "jobs", "m.jsonl")
    storage.write_atomic(uri, json.dumps({"portrait": "../anna.png", "audio": "a.wav"}).encode())
    (clip,) = read_manifest(uri, Controls())
    assert clip.portrait == storage.join(s3, "anna.png")
    assert clip.audio == storage.join(s3, "jobs", "a.wav")


def test_rows_override_the_jobs_controls_key_by_key(tmp_path: Path):
    defaults = Controls(size=512, pose=PoseControls(scale=2, yaw=[1, 2, 3]))
    rows = [
        {"portrait": "a", "audio": "b", "controls": {"pose": {"scale": 0.5}}},
        {"portrait": "a", "audio": "c", "controls": {"pose": {"yaw": None}}},
        {"portrait": "a", "audio": "d", "controls": None},
    ]
    clips = read_manifest(write_jsonl(tmp_path / "m.jsonl", rows), defaults)
    assert clips[0].controls == Controls(size=512, pose=PoseControls(scale=0.5, yaw=[1, 2, 3]))
    assert clips[1].controls.pose.yaw is None
    assert clips[2].controls == defaults


def test_an_id_follows_from_the_row(tmp_path: Path):
    rows = [{"portrait": "a", "audio": name} for name in ("b", "c")]
    ids = [clip.id for clip in read_manifest(write_jsonl(tmp_path / "m.jsonl", rows), Controls())]
    again = [clip.id for clip in read_manifest(write_jsonl(tmp_path / "n.jsonl", rows[::-1]), Controls())]
    assert len(set(ids)) == 2
    assert ids == again[::-1]


def test_numbers_are_fine_as_ids(tmp_path: Path):
    rows = [{"id": 7, "portrait": "a", "audio": "b"}]
    assert read_manifest(write_jsonl(tmp_path / "m.jsonl", rows), Controls())[0].id == "7"


def test_all_problems_are_told_at_once(tmp_path: Path):
    lines = [
        '{"id": "a", "portrait": "a.png", "audio": "a.wav"}',
        '{"id": "b", "portrait": "a.png", "audio": "a.wav", "controls": {"fraiming": "crop", "size": 300}}',
        '{"id": "c", "portrait": "a.png"}',
        '{"id": "d", "portrait": "a.png", "audio": "a.wav", "controls": {"pose": {"yaw": [1, 99]}}}',
        '{"id": "a", "portrait": "a.png", "audio": "a.wav", "size": 512}',
        '{"id": "a", "portrait": "a.png", "audio": "a.wav"}',
        '{"id": "e", "portrait": "a.png", "audio": ',
        '["f"]',
        '{"id": "g", "portrait": 3, "audio": "", "image": "x"}',
        '{"id": "h", "portrait": "a", "audio": "a", "audio": "b"}',
        '{"portrait": "a", "audio": "a", "controls": {"pose": 3, "gaze": {"mode": "left"}}}',
    ]
    assert problems_of_text(tmp_path / "m.jsonl", "\n".join(lines)) == [
        "m.jsonl line 2 (id 'b'): 'controls.size' is 300, but must be 256 or 512",
        "m.jsonl line 2 (id 'b'): unknown key 'controls.fraiming'; did you mean 'controls.framing'?",
        "m.jsonl line 3 (id 'c'): 'audio' is missing",
        "m.jsonl line 4 (id 'd'): 'controls.pose.yaw' is [1, 99], but must be a number from -60 to 60 or a list, "
        "each item a number from -60 to 60",
        "m.jsonl line 5 (id 'a'): unknown key 'size'; did you mean 'controls.size'?",
        "m.jsonl line 7: broken JSON: expecting value at column 43",
        "m.jsonl line 8: is not a JSON object: write {...}",
        "m.jsonl line 9 (id 'g'): 'portrait' is 3, but must be text that is not empty",
        "m.jsonl line 9 (id 'g'): 'audio' is '', but must be text that is not empty",
        "m.jsonl line 9 (id 'g'): unknown key 'image'",
        "m.jsonl line 10: key 'audio' appears twice",
        "m.jsonl line 11: 'controls.pose' is 3, but must be a group of settings (scale, still, yaw, pitch, "
        "roll, style, reference)",
        "m.jsonl line 11: 'controls.gaze.mode' is 'left', but must be 'source' or 'fixed'",
        "m.jsonl line 1, line 5, line 6: the same id 'a'; ids must be unique, they name videos",
    ]


@pytest.mark.parametrize("bad", ["a/b", "a\\b", "a\0b", ".hidden", "..", "", "é" * 101, "line\nbreak", "\ud800"])
def test_ids_that_cannot_be_file_names(tmp_path: Path, bad: str):
    rows = [
        json.dumps({"id": bad, "portrait": "a", "audio": "b"}),
        json.dumps({"id": "ok", "portrait": "a", "audio": "b"}),
    ]
    (problem,) = problems_of_text(tmp_path / "m.jsonl", "\n".join(rows))
    assert problem.startswith("m.jsonl line 1 (id ")
    assert "'id' is " in problem
    assert "Value error" not in problem


@pytest.mark.parametrize("good", ["a b", "ünï-цод-名前", "a.b", "~a", "a:b::c", "*?[x]", "é" * 100])
def test_ids_that_can(tmp_path: Path, good: str):
    uri = write_jsonl(tmp_path / "m.jsonl", [{"id": good, "portrait": "a", "audio": "b"}])
    assert read_manifest(uri, Controls())[0].id == good


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.jsonl", "", "m.jsonl is empty: write one clip per row"),
        ("m.jsonl", "\n \r\n", "m.jsonl is empty"),
        ("m.csv", "", "m.csv is empty"),
        ("m.csv", "id,portrait,audio\n", "m.csv is empty"),
        ("m.jsonl", '[{"id": 1}]', "is one JSON array"),
        ("m.txt", "x", "unknown kind of manifest '.txt'; it must be one of .jsonl, .ndjson, .csv, .parquet"),
        ("m", "x", "unknown kind of manifest"),
        ("m.parquet", "no parquet", "m.parquet is not a parquet file"),
        ("m.csv", "id,id,audio\na,b,c\n", "two columns called 'id'"),
        ("m.csv", "portrait,audio\na,b,c\n", "m.csv line 2: has 3 cells, the header has 2"),
        ("m.csv", "portrait,audio\na,\n", "m.csv line 2: 'audio' is missing"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, text: str, said: str):
    (problem,) = problems_of_text(tmp_path / name, text)
    assert said in problem


def test_other_encodings_are_named(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes("portrait,audio\na,b\nübel.png,c\n".encode("latin-1"))
    assert problems_of(str(tmp_path / "m.csv")) == ["m.csv line 3 is not UTF-8 text: save the file as UTF-8"]


def test_a_manifest_that_is_not_there(tmp_path: Path, s3: str):
    (tmp_path / "clips.jsonl").touch()
    assert "did you mean 'clips.jsonl'?" in problems_of(str(tmp_path / "clip.jsonl"))[0]
    assert "does not exist" in problems_of(storage.join(s3, "m.jsonl"))[0]
    assert "there is no bucket 'nowhere-at-all'" in problems_of("s3://nowhere-at-all/m.jsonl")[0]


def test_seeds_follow_from_the_id():
    clip = Clip(id="a", portrait="p", audio="a")
    assert clip.seed == Clip(id="a", portrait="q", audio="b").seed != Clip(id="b", portrait="p", audio="a").seed
    assert 0 <= clip.seed < 2**63
    assert clip.model_copy(update={"controls": Controls(seed=5)}).seed == 5


def test_the_spec_hash_changes_with_what_changes_the_video():
    config = load_config(["manifest=m.jsonl"])
    clip = Clip(id="a", portrait="p", audio="a")
    before = spec_hash(clip, config)
    assert len(before) == 16
    same = ["out=elsewhere", "flow.render_actors=3", "storage.retries=1", "cache.dir=/tmp/x", "layout=tar"]
    assert spec_hash(clip, load_config(["manifest=n.jsonl", *same])) == before
    for word in ("encode.crf=30", "limits.max_pixels=1000000", "max_part_seconds=30"):
        assert spec_hash(clip, load_config(["manifest=m.jsonl", word])) != before
    for change in ({"audio": "b"}, {"id": "b"}, {"controls": Controls(size=512)}, {"controls": Controls(seed=1)}):
        assert spec_hash(clip.model_copy(update=change), config) != before


def test_a_single_clip_is_named_after_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    clip = single_clip("faces/anna.jpg", "s3://speech/hello.wav", Controls())
    assert (clip.id, clip.portrait, clip.audio) == (
        "anna_hello",
        str(tmp_path / "faces/anna.jpg"),
        "s3://speech/hello.wav",
    )
    assert len(single_clip("é" * 120 + ".jpg", "a.wav", Controls()).id) == 16


def test_reference_videos_are_named_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    rows = [
        {"id": "own", "portrait": "p.png", "audio": "a.wav", "controls": {"pose": {"reference": "nod.mp4"}}},
        {"id": "remote", "portrait": "p.png", "audio": "a.wav", "controls": {"blink": {"reference": "s3://b/x.mp4"}}},
    ]
    defaults = Controls.model_validate({"pose": {"reference": "job.mp4"}})
    own, remote = read_manifest(write_jsonl(tmp_path / "set" / "m.jsonl", rows), defaults)
    assert own.controls.references == (f"{tmp_path}/set/nod.mp4",)
    assert remote.controls.references == (f"{tmp_path}/job.mp4", "s3://b/x.mp4")
    assert remote.controls.special == ("pose.reference", "blink.reference")
