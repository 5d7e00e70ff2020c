"""Stills that Wav2Lip makes speak, with random weights. Run: pytest tests/pipeline/test_lip_teacher_videos.py"""

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from models.teachers.wav2lip import Wav2Lip
from pipeline import ffmpeg
from pipeline.media import video_frames
from pipeline.talking_videos import read_videos
from scripts.make_lip_teacher_videos import framed, main
from tests.media_files import chirps, write_wav
from tests.models.metrics.networks import randomise
from tests.pipeline.talking_takes import write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "wav2lip.pth"
    torch.save({"state_dict": randomise(Wav2Lip(), gain=0.9)}, path)
    return path


def write_still_video(path: Path, seconds: float) -> None:
    """A face that stands still, with voice-like sound."""
    picture, sound = path.with_suffix(".png"), write_wav(path.with_suffix(".wav"), chirps(seconds))
    Image.fromarray(skimage.data.astronaut()).save(picture)
    arguments = ["-v", "error", "-loop", "1", "-r", "25", "-t", str(seconds), "-i", str(picture), "-i", str(sound)]
    subprocess.run(ffmpeg.command(*arguments, "-pix_fmt", "yuv420p", str(path)), check=True)


def test_nothing_but_lips_moves_and_what_is_there_stays(tmp_path: Path, weights: Path, capsys):
    write_still_video(tmp_path / "ann.mp4", 1.0)
    write_video(tmp_path / "nobody.mp4", 1.0)
    rows = ["video,id,speaker,language,split", "ann.mp4,a,ann,en,train", "nobody.mp4,b,bob,en,"]
    (tmp_path / "videos.csv").write_text("\n".join(rows))
    words = [f"videos={tmp_path}/videos.csv", f"weights={weights}", f"out={tmp_path}/teacher"]
    words.append(f"cache.dir={tmp_path}/cache")
    assert main(words) == 3
    assert "b: " in capsys.readouterr().err
    (row,) = csv.DictReader((tmp_path / "teacher/videos.csv").open())
    assert (row["id"], row["speaker"], row["language"], row["split"]) == ("a", "ann", "en", "train")
    (video,) = read_videos(f"{tmp_path}/teacher/videos.csv")
    frames = np.array(list(video_frames(Path(video.video))), float)
    assert len(frames) == 25
    moved = np.abs(np.diff(frames, axis=0)).mean((0, 3))
    height = len(moved)
    assert moved[int(0.5 * height) : int(0.7 * height)].max() > 4 * moved[: int(0.2 * height)].max()

    before = Path(video.video).stat().st_mtime_ns
    assert main(words) == 3
    assert Path(video.video).stat().st_mtime_ns == before


def test_wrong_weights_start_nothing(tmp_path: Path, capsys):
    write_video(tmp_path / "a.mp4", 0.2)
    torch.save({"a": torch.zeros(1)}, tmp_path / "lips.pth")
    assert main([f"videos={tmp_path}", f"weights={tmp_path}/lips.pth", f"out={tmp_path}/teacher"]) == 2
    assert "lips.pth" in capsys.readouterr().err and not (tmp_path / "teacher").exists()
    assert main([]) == 2
    assert "give videos=... and weights=..." in capsys.readouterr().err


def test_a_face_at_the_border_is_framed():
    part, (x0, y0, x1, y1) = framed(np.zeros((900, 1201, 3), np.uint8), np.array([-20.0, 500.0, 480.0, 910.0]))
    assert part.shape[0] % 2 == 0 and part.shape[1] % 2 == 0 and max(part.shape) <= 384
    assert 0 == x0 < x1 <= part.shape[1] and 0 < y0 < y1 == part.shape[0]
