"""Videos are complete, exact in length, reproducible, and leave nothing behind when something fails."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoder import Encoder, Encoding, Soundtrack, join_parts
from pipeline.errors import RenderError
from pipeline.media import probe, video_frames
from tests.media_files import chirps, moving_bar, sound_of, write_wav

DEFAULT = Encoding()


def encode(out, frames, soundtrack=None, encoding=DEFAULT):
    height, width = frames.shape[1:3]
    with Encoder(out, (width, height), len(frames), soundtrack, encoding) as encoder:
        for start in range(0, len(frames), 16):
            encoder.write(frames[start : start + 16])
    return out


def test_round_trip_keeps_colours_and_count(tmp_path):
    frames = moving_bar(60)
    decoded = np.array(list(video_frames(encode(tmp_path / "a.mp4", frames, encoding=Encoding(crf=5)))))
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 2
    assert abs((decoded.astype(int) - frames)[:, :, 20:].mean()) < 1  # a wrong colour matrix shifts the mean


def test_playable_everywhere(tmp_path):
    from pipeline import ffmpeg

    path = encode(tmp_path / "a.mp4", moving_bar(30), Soundtrack(write_wav(tmp_path / "a.wav", chirps(2))))
    words = ffmpeg.describe(path)
    assert "h264" in words and "yuv420p(tv, bt709" in words and "aac (LC)" in words and "48000 Hz" in words
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart


@pytest.mark.parametrize("seconds", [0.5, 1.2, 3.0])
def test_sound_is_as_long_as_the_pictures(tmp_path, seconds):
    sound = write_wav(tmp_path / "a.wav", chirps(seconds))
    path = encode(tmp_path / "a.mp4", moving_bar(30), Soundtrack(sound))
    assert probe(path).duration_s == pytest.approx(1.2, abs=0.03)
    assert len(sound_of(path)) / 16_000 == pytest.approx(1.2, abs=0.03)


def test_sound_is_in_time(tmp_path):
    clicks = np.zeros(32_000)
    clicks[16_000:16_080] = 0.9
    path = encode(tmp_path / "a.mp4", moving_bar(50), Soundtrack(write_wav(tmp_path / "a.wav", clicks)))
    assert np.abs(sound_of(path)[:, 0]).argmax() == pytest.approx(16_040, abs=48)  # 3 ms


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels(tmp_path, channels):
    sound = write_wav(tmp_path / "a.wav", np.stack([chirps(1.0)] * channels, 1))
    info = probe(encode(tmp_path / "a.mp4", moving_bar(25), Soundtrack(sound)))
    assert info.channels == min(channels, 2)


def test_raw_and_repaired_soundtracks(tmp_path):
    voice = chirps(1.0)
    sound = write_wav(tmp_path / "a.wav", np.stack([voice, -voice], 1))
    raw = tmp_path / "a.pcm"
    raw.write_bytes((voice * 32767).astype("<i2").tobytes())
    for track in (Soundtrack(sound, "pan=mono|c0=c0"), Soundtrack(raw, is_raw=True)):
        heard = sound_of(encode(tmp_path / "a.mp4", moving_bar(25), track))
        assert heard.std() == pytest.approx(voice.std(), rel=0.1)


def test_same_input_same_bytes(tmp_path):
    sound = Soundtrack(write_wav(tmp_path / "a.wav", chirps(1.0)))
    paths = [encode(tmp_path / name, moving_bar(25), sound) for name in ("a.mp4", "b.mp4")]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1


def test_parts_join_without_a_lost_or_doubled_frame(tmp_path):
    frames = moving_bar(90)
    cuts = [(0, 31), (31, 32), (32, 70), (70, 90)]
    parts = [encode(tmp_path / f"it's part {start}.mp4", frames[start:stop]) for start, stop in cuts]
    sound = Soundtrack(write_wav(tmp_path / "a.wav", chirps(4.0)))
    join_parts(parts, tmp_path / "all.mp4", 90, sound)
    joined = np.array(list(video_frames(tmp_path / "all.mp4"))).astype(int)
    assert len(joined) == 90
    assert max(np.abs(joined[k] - frames[k]).mean() for k in range(90)) < 6  # another frame differs by 30
    assert len(sound_of(tmp_path / "all.mp4")) / 16_000 == pytest.approx(3.6, abs=0.03)
    with pytest.raises(RenderError, match="90 frames, not 91"):
        join_parts(parts, tmp_path / "bad.mp4", 91, sound)
    assert not (tmp_path / "bad.mp4").exists()


def test_too_few_frames_leave_no_file(tmp_path):
    with (
        pytest.raises(RenderError, match="5 frames were rendered, 6 announced"),
        Encoder(tmp_path / "a.mp4", (64, 48), 6) as encoder,
    ):
        encoder.write(moving_bar(5))
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_leaves_no_file_and_keeps_the_old_one(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(KeyError), Encoder(tmp_path / "a.mp4", (64, 48), 9) as encoder:
        encoder.write(moving_bar(5))
        raise KeyError
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_wrong_frames_are_refused(tmp_path):
    with pytest.raises(RenderError, match="63 x 48"):
        Encoder(tmp_path / "a.mp4", (63, 48), 9)
    with pytest.raises(RenderError, match="float32"), Encoder(tmp_path / "a.mp4", (64, 48), 9) as encoder:
        encoder.write(moving_bar(9).astype(np.float32))


def test_ffmpeg_dying_early_is_an_error_with_its_words(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    frames = moving_bar(100, 256, 256)
    with (
        pytest.raises(RenderError, match="Invalid data found"),
        Encoder(tmp_path / "a.mp4", (256, 256), 1000, Soundtrack(tmp_path / "a.wav")) as encoder,
    ):
        for _ in range(10):
            encoder.write(frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys, time
from pathlib import Path
from pipeline.encoder import Encoder
from tests.media_files import moving_bar
with Encoder(Path(sys.argv[1]), (64, 48), 1000) as encoder:
    encoder.write(moving_bar(5))
    print(encoder._process._process.pid, flush=True)
    time.sleep(60)
"""


def test_ffmpeg_ends_when_its_parent_is_killed(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "a.mp4")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    encoder_pid = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(encoder_pid):
        time.sleep(0.05)
    assert not _runs(encoder_pid)
    assert not (tmp_path / "a.mp4").exists()


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie that nobody reaps has ended, too
