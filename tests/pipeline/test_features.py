"""Rows of training features. Run: pytest tests/pipeline/test_features.py"""

import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline import ffmpeg
from pipeline.audio import SpeechFile
from pipeline.errors import VideoError
from pipeline.features import (
    ARRAYS,
    CROP,
    Features,
    Origin,
    crop_square,
    extract,
    mask_boxes,
    sound_of,
    stretch_frames,
    stretches,
)
from pipeline.media import video_frames
from pipeline.speech import decode_speech
from tests.pipeline.talking_takes import make_take, write_video

SIZE = (64, 48)


def origin_of(start: int, frames: int, lag: int = 0) -> Origin:
    return Origin("row", "video", "ab" * 32, "ann", "en", "train", 0, 0, "open", start, frames, lag)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 8)


@pytest.fixture(scope="module")
def speech(clip: Path) -> SpeechFile:
    pcm = clip.with_suffix(".s16")
    decode_speech(clip, pcm)
    return SpeechFile(pcm)


def test_a_row_is_whole_and_can_be_read_back(clip: Path, speech: SpeechFile):
    take = make_take(200, lag=3)
    made = extract(clip, take, speech, origin_of(60, 90, lag=3))
    row = made.to_row()
    again = Features.from_row(row)
    assert len(again) == 90 and len(again.crops) == 90
    for name, (_, shape) in ARRAYS.items():
        assert again[name].shape == (90, *shape), name
    np.testing.assert_array_equal(again["expression"], take.expression[60:150])
    expected = speech.mel_windows(63, 153)
    assert np.abs(again["mel"].astype(np.float32) - expected).max() < 2e-3, "half precision, sound in step"
    assert (again["sound"].reshape(-1) == np.rint(32768 * speech.samples(63, 153))).all()
    assert again.image(0).shape == (CROP, CROP, 3)
    some = Features.from_row({name: row[name] for name in (*vars(made.origin), "mel")})
    assert set(some.arrays) == {"mel"} and not some.crops


def test_sound_that_a_lag_puts_beyond_the_recording_is_silence(speech: SpeechFile):
    frames = speech.frames
    early, late = sound_of(speech, -3, 4), sound_of(speech, frames - 2, frames + 5)
    assert early.shape == late.shape == (7, 640) and not early[:3].any() and not late[2:].any()
    assert (early[3:] == sound_of(speech, 0, 4)).all() and early[3:].any()
    assert not sound_of(speech, frames + 1, frames + 3).any()


def test_without_crops_no_frame_is_decoded(clip: Path, speech: SpeechFile, monkeypatch):
    monkeypatch.setattr("pipeline.features.stretch_frames", None)
    made = extract(clip, make_take(200), speech, origin_of(0, 50), with_crops=False)
    assert not made.crops and made["landmarks"].shape == (50, 68, 2)


def test_another_space_reads_the_pictures(clip: Path, speech: SpeechFile):
    class Reader:
        """Tells how many pictures it was shown, and where their noses are."""

        def read_frames(self, frames):
            shown = [(frame.shape, points[30]) for frame, points in frames]
            noses = np.array([nose for _, nose in shown])
            return np.tile(np.arange(64.0), (len(shown), 1)), np.tile(noses[:, :1], (1, 6))

    take = make_take(200)
    take.landmarks[20] = take.pose[20] = np.nan
    made = extract(clip, take, speech, origin_of(0, 40), bfm=Reader())  # pyright: ignore[reportArgumentType]
    assert len(made.crops) == 40 and not made["seen"][20]
    assert np.isnan(made["expression"][20]).all() and made["expression"][21, 5] == 5
    assert made["pose"][3, 0] == pytest.approx(take.landmarks[3, 30, 0] * 96 / 256, abs=0.5), "pixels of the picture"


def test_crops_show_the_face_where_the_landmarks_say():
    landmarks = make_take(50).landmarks * 2  # of a face 160 px between the eyes
    landmarks[10:20] = np.nan
    corner, side = crop_square(landmarks, (512, 512))
    assert (corner >= 0).all() and (corner + side <= 512).all()
    inside = (landmarks - corner) / side
    seen = np.isfinite(inside[:, 0, 0])
    assert (inside[seen] > 0).all() and (inside[seen] < 1).all()
    eyes = np.linalg.norm(inside[0, 45] - inside[0, 36])
    assert 0.15 < eyes < 0.5
    boxes = mask_boxes(landmarks)
    assert boxes.shape == (50, 4, 4) and np.isnan(boxes[12]).all()
    mouth = boxes[0, 3]
    assert (landmarks[0, 48:] > mouth[:2]).all() and (landmarks[0, 48:] < mouth[2:]).all()


def test_stretches_cover_every_frame_once():
    assert stretches(5, 105) == [(5, 105)]
    parts = stretches(3, 1003)
    assert parts[0][0] == 3 and parts[-1][1] == 1003
    assert all(a[1] == b[0] for a, b in pairwise(parts)) and max(b - a for a, b in parts) <= 250


@pytest.mark.parametrize(
    "name, options, source",
    [
        ("25.mp4", ["-g", "15"], "testsrc=s=64x48:r=25:d=8"),
        ("30.mkv", ["-g", "300"], "testsrc=s=64x48:r=30:d=8"),
        ("late.mkv", [], "testsrc=s=64x48:r=30:d=8"),
    ],
)
def test_a_stretch_is_what_decoding_everything_gives(tmp_path: Path, name: str, options: list[str], source: str):
    path = tmp_path / name
    inputs = ["-f", "lavfi", "-i", "sine=d=9"] if "late" in name else []
    inputs += ["-itsoffset", "0.37"] if "late" in name else []
    made = ["-v", "error", *inputs, "-f", "lavfi", "-i", source, *options, "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(ffmpeg.command(*made), check=True)
    whole = np.stack(list(video_frames(path, 25, SIZE)))
    for start, stop in ((0, 10), (100, 130)):
        np.testing.assert_array_equal(np.stack(list(stretch_frames(path, start, stop, SIZE))), whole[start:stop])
    with pytest.raises(VideoError, match="it has changed"):
        list(stretch_frames(path, 150, 260, SIZE))
