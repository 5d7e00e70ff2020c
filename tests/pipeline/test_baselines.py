"""The parts of the baseline table that are made here: pairs and repeated first frames."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline import ffmpeg
from pipeline.baselines import BaselineConfig, held_against_itself, make_stills, run_baselines, run_names, write_pairs
from pipeline.errors import SetupError
from pipeline.evidence import Evidence
from pipeline.media import probe, video_frames
from pipeline.pairs import Pair, read_run
from tests.media_files import chirps, write_wav


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """talking.mp4, 1.2 s of moving pictures with sound, and mute.mp4."""
    folder = tmp_path_factory.mktemp("videos")
    sound = write_wav(tmp_path_factory.mktemp("sound") / "speech.wav", chirps(1.2))
    pictures = ["-v", "error", "-f", "lavfi", "-i", "testsrc=s=320x240:r=30:d=1.2"]
    subprocess.run(ffmpeg.command(*pictures, "-i", str(sound), "-shortest", str(folder / "talking.mp4")), check=True)
    subprocess.run(ffmpeg.command(*pictures, str(folder / "mute.mp4")), check=True)
    return folder


def test_stills_repeat_the_first_frame_for_as_long_as_it_sounds(videos, tmp_path):
    pairs = [held_against_itself(pair) for pair in read_run("videos", str(videos))]
    config = BaselineConfig(videos=str(videos), out=str(tmp_path / "out"))
    evidence = Evidence(str(tmp_path / "evidence"), tmp_path / "cache")
    said: list[str] = []
    (still,) = make_stills(pairs, config, evidence, said.append)
    assert said[0].startswith("mute: ") and "has no sound track" in said[0]
    assert said[1] == "1 of 2 first frames repeated"
    assert still.reference == still.audio == f"{videos}/talking.mp4"
    info = probe(Path(still.video))
    assert (info.width, info.height, info.has_audio) == (256, 192, True)
    frames = np.stack(list(video_frames(Path(still.video)))).astype(int)
    assert len(frames) == 30
    assert np.abs(frames - frames[0]).mean() < 1
    first = next(video_frames(videos / "talking.mp4", size=(256, 192)))
    assert np.abs(frames[0] - first).mean() < 6
    before = Path(still.video).stat().st_mtime_ns
    make_stills(pairs, config, evidence, said.append)
    assert Path(still.video).stat().st_mtime_ns == before


def test_columns_of_the_table():
    assert run_names(BaselineConfig(videos="v")) == ["real", "still", "envelope"]
    with pytest.raises(ValueError, match="must be 'articulator'"):
        BaselineConfig(videos="v", system="sadtalkr")


def test_pairs_survive_their_table(tmp_path):
    pairs = [Pair(id="a", video="/a.mp4", reference="/r.mp4", speaker="ann", seams=[3]), Pair(id="b", video="/b.mp4")]
    write_pairs(str(tmp_path / "pairs.jsonl"), pairs)
    assert read_run("x", str(tmp_path / "pairs.jsonl")) == pairs


def test_a_remote_folder_is_refused():
    with pytest.raises(SetupError, match="a folder on this machine"):
        run_baselines(BaselineConfig(videos="v", out="s3://bucket/x"), print)


def test_several_systems_make_one_table_each_once():
    config = BaselineConfig(videos="v", system="articulator,envelope")  # pyright: ignore[reportArgumentType]
    assert run_names(config) == ["real", "still", "envelope", "articulator"]
