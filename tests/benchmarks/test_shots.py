"""What benchmarks of motion read of prepared features. Run: pytest tests/benchmarks/test_shots.py"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import heads, lips
from benchmarks.lips import read_shots
from models.teachers.visemes import LABELLED
from pipeline import features
from pipeline.audio import SpeechFile
from pipeline.features import Features
from pipeline.speech import decode_speech
from tests.media_files import chirps, write_wav
from tests.pipeline.made_features import FRAMES, make_features

LAG = 2


def write_rows(folder: Path, rows: list[Features], *, sound: bool = True) -> None:
    (folder / "features").mkdir(parents=True)
    table = pa.Table.from_pylist([row.to_row() for row in rows])
    pq.write_table(table if sound else table.drop_columns(["sound"]), folder / "features" / "0.parquet")


def of(row: Features, **changes) -> Features:
    return replace(row, origin=replace(row.origin, **changes))


def two_stretches(name: str) -> list[Features]:
    """A video of two rows, the later one first."""
    rows = [make_features(number) for number in (5, 2)]
    return [of(row, video_id=name, sha256="", start=start, lag=LAG) for row, start in zip(rows, (7 + FRAMES, 7))]


def samples_of(shot) -> np.ndarray:
    return np.rint(shot.speech.samples(0, shot.speech.frames) * 32768).astype(np.int16)


def test_sound_comes_with_the_features(tmp_path: Path):
    rows = two_stretches("a/b: ü")
    labelled = of(make_features(8), speaker=f"{LABELLED}en", video_id="labelled")
    write_rows(tmp_path, [*rows, labelled, make_features(0)])
    (shot,) = read_shots(tmp_path, None, "validation", tmp_path)
    assert shot.name == "a/b: ü" and len(shot.expression) == len(shot.pose) == shot.speech.frames == 2 * FRAMES
    assert np.array_equal(samples_of(shot), np.concatenate([rows[1]["sound"], rows[0]["sound"]]).reshape(-1))
    with pytest.raises(SystemExit, match="no video of the split 'test' has 90 frames"):
        read_shots(tmp_path, None, "test", tmp_path)


@pytest.mark.parametrize("listed", ["no id.csv", "ids.jsonl", "folder"])
def test_without_a_column_of_sound_the_videos_are_heard(tmp_path: Path, listed: str, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # for the cache
    (tmp_path / "videos").mkdir()
    name = "1001" if listed == "ids.jsonl" else "talk"
    wave = write_wav(tmp_path / "videos" / "talk.wav", chirps(10.0))
    wave.rename(wave.with_suffix(".mp4"))  # what is in it decides
    if listed == "no id.csv":
        (tmp_path / listed).write_text("video,speaker\nvideos/talk.mp4,ann\n")
    elif listed == "ids.jsonl":
        (tmp_path / listed).write_text(json.dumps({"video": "videos/talk.mp4", "id": 1001}))
    write_rows(tmp_path, two_stretches(name), sound=False)
    place = str(tmp_path / ("videos" if listed == "folder" else listed))
    (shot,) = read_shots(tmp_path, place, "validation", tmp_path)
    decode_speech(tmp_path / "videos" / "talk.mp4", tmp_path / "whole.pcm")
    first = 7 + LAG
    expected = features.sound_of(SpeechFile(tmp_path / "whole.pcm"), first, first + 2 * FRAMES)
    assert np.array_equal(samples_of(shot), expected.reshape(-1)) and expected.any()


def test_what_cannot_be_used_is_told_in_a_sentence(tmp_path: Path):
    write_rows(tmp_path, two_stretches("talk"), sound=False)
    with pytest.raises(SystemExit, match="'talk' have no column 'sound': name its --videos"):
        read_shots(tmp_path, None, "validation", tmp_path)
    (tmp_path / "videos.csv").write_text("video,idd\na.mp4,1\n")
    with pytest.raises(SystemExit, match="idd"):
        read_shots(tmp_path, f"{tmp_path}/videos.csv", "validation", tmp_path)
    (tmp_path / "videos.csv").write_text("video\nother.mp4\n")
    with pytest.raises(SystemExit, match=r"--videos=.*videos\.csv lists has 90 frames"):
        read_shots(tmp_path, f"{tmp_path}/videos.csv", "validation", tmp_path)
    (tmp_path / "videos.csv").write_text("video\ntalk.mp4\n")
    with pytest.raises(SystemExit, match=r"talk\.mp4"):
        read_shots(tmp_path, f"{tmp_path}/videos.csv", "validation", tmp_path)
    write_rows(tmp_path / "bfm", [of(row, space="bfm") for row in two_stretches("talk")])
    with pytest.raises(SystemExit, match="space 'bfm'"):
        read_shots(tmp_path / "bfm", None, "validation", tmp_path)


@pytest.mark.parametrize("benchmark", [lips, heads], ids=["lips", "heads"])
def test_the_benchmarks_run_without_videos(tmp_path: Path, benchmark, monkeypatch, capsys):
    write_rows(tmp_path, two_stretches("talk"))
    words = ["--features", str(tmp_path), "--systems", "envelope", "--json", str(tmp_path / "scores.json")]
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    benchmark.main()
    assert "1 videos" in capsys.readouterr().out
    assert "envelope" in json.loads((tmp_path / "scores.json").read_text())
