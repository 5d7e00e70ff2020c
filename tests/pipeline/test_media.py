"""What a media file says about itself, its frames, and portraits taken from videos."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from pipeline import ffmpeg
from pipeline.encoder import Encoder, Soundtrack
from pipeline.errors import PictureError, VideoError
from pipeline.media import parse_description, probe, read_portrait, video_frames
from tests.media_files import chirps, moving_bar, write_wav


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    sound = write_wav(folder / "a.wav", np.stack([chirps(2.0, 44_100)] * 2, 1), 44_100)
    with Encoder(folder / "a.mp4", (64, 48), 50, Soundtrack(sound)) as encoder:
        encoder.write(moving_bar(50))
    return folder / "a.mp4"


def turned(video, out):
    """The same video with a display matrix of a quarter turn."""
    arguments = ["-display_rotation", "90", *ffmpeg.source(video), "-c", "copy", str(out)]
    subprocess.run(ffmpeg.command("-v", "error", *arguments), check=True)
    return out


def test_probe(video):
    info = probe(video)
    assert (info.width, info.height, info.fps, info.rotation) == (64, 48, 25, 0)
    assert (info.has_video, info.has_audio, info.sample_rate, info.channels) == (True, True, 48_000, 2)
    assert info.duration_s == pytest.approx(2.0, abs=0.03)


def test_probe_reads_rotation_aspect_and_cover_pictures(tmp_path):
    text = """Duration: 01:02:03.50, start: 0.000000, bitrate: 1 kb/s
      Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p, 720x576 [SAR 16:15 DAR 4:3], 29.97 fps
          Display Matrix: rotation of -90.00 degrees
      Stream #0:1: Audio: ac3, 48000 Hz, 5.1(side), fltp, 448 kb/s"""
    info = parse_description(tmp_path / "a.mov", text)
    assert (info.width, info.height, info.rotation) == (576, 768, 270)
    assert (info.duration_s, info.fps, info.channels) == (3723.5, 29.97, 6)
    song = """Duration: 00:00:03.00
      Stream #0:0: Audio: mp3 (mp3float), 44100 Hz, stereo, fltp, 128 kb/s
      Stream #0:1: Video: mjpeg (Baseline), yuvj420p, 600x600, 90k tbr, 90k tbn (attached pic)"""
    assert not parse_description(tmp_path / "a.mp3", song).has_video


def test_frames_stream_in_order(video):
    frames = np.array(list(video_frames(video)))
    assert frames.shape == (50, 48, 64, 3)
    assert np.abs(frames.astype(int) - moving_bar(50)).mean() < 4


def test_frames_at_another_rate_and_size(video):
    frames = list(video_frames(video, fps=10, size=(32, 24), limit_s=1.0))
    assert len(frames) == 10 and frames[0].shape == (24, 32, 3)


def test_leaving_early_ends_the_process(video):
    frames = video_frames(video)
    next(frames)
    frames.close()  # would hang or leave a zombie if the process were not ended and reaped


def test_rotation_flag_is_honoured(video, tmp_path):
    upright = turned(video, tmp_path / "turned.mp4")
    assert (probe(upright).width, probe(upright).height) == (48, 64)
    frame = next(video_frames(upright))
    assert frame.shape == (64, 48, 3)
    assert np.abs(np.rot90(frame, -1).astype(int) - moving_bar(1)[0]).mean() < 6


def test_portrait_from_a_video(video):
    candidates = list(read_portrait(video))
    assert len(candidates) == 10  # two seconds, five per second
    assert np.abs(candidates[0].image.astype(int) - moving_bar(1)[0]).mean() < 4


def test_portrait_from_a_large_video_is_reduced(video):
    candidate = next(read_portrait(video, max_pixels=1000))
    assert candidate.image.shape[0] * candidate.image.shape[1] <= 1000 and candidate.warnings == ("downscaled",)


def test_portrait_from_one_frame(tmp_path):
    with Encoder(tmp_path / "a.mp4", (64, 48), 1) as encoder:
        encoder.write(moving_bar(1))
    assert len(list(read_portrait(tmp_path / "a.mp4"))) == 1
    assert len(list(video_frames(tmp_path / "a.mp4"))) == 1


def test_portrait_from_a_picture(tmp_path):
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "a.mp4", format="PNG")
    assert len(list(read_portrait(tmp_path / "a.mp4"))) == 1


def test_what_is_no_portrait(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture\n" * 100)
    (tmp_path / "phone.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(64))
    sound = write_wav(tmp_path / "sound.wav", chirps(0.5))
    for path, kind, words in [
        (tmp_path / "empty.jpg", PictureError, "empty"),
        (tmp_path / "text.jpg", PictureError, "neither a picture nor a video"),
        (tmp_path / "phone.heic", PictureError, "HEIC"),
        (sound, VideoError, "no pictures"),
    ]:
        with pytest.raises(kind, match=words):
            next(read_portrait(path))
    with pytest.raises(VideoError, match="no video stream"):
        next(video_frames(sound))


def test_awkward_names(video, tmp_path):
    for name in ("-y.mp4", "a:b.mp4", "50%03d.mp4", "it's \u00e4 name.mp4"):
        copy = tmp_path / name
        copy.write_bytes(video.read_bytes())
        assert probe(copy).has_video and next(video_frames(copy)).shape == (48, 64, 3)


def test_network_is_out_of_reach(tmp_path):
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        probe(tmp_path / "list.m3u8")


def test_hostile_videos_as_portraits(shared_data):
    for path in sorted((shared_data / "hostile").glob("vid_*")):
        if path.name == "vid_audio_only.mp4":
            with pytest.raises(VideoError):
                next(read_portrait(path))
        else:
            assert next(read_portrait(path)).image.size > 0
