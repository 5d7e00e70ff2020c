"""Talking videos checked and brought into step. Run: pytest tests/pipeline/test_take.py"""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from models.facespace import camera
from models.facespace.eye_motion import eye_motion
from models.facespace.open import OpenSpace
from pipeline import ffmpeg
from pipeline.audio import SpeechFile
from pipeline.errors import AudioError, VideoError
from pipeline.speech import decode_speech
from pipeline.take import Take, TakeChecks, check_file, find_cut, follow, longest_run, measure_sync, runs_of
from tests.media_files import write_wav
from tests.pipeline.talking_takes import make_take, write_video

CHECKS = TakeChecks()


def landmarks_of(frames: int) -> np.ndarray:
    return make_take(frames).landmarks


def test_a_cut_is_a_change_that_stands_out():
    landmarks = landmarks_of(100)
    calm = np.full(99, 2.0)
    assert find_cut(calm, landmarks) is None
    cut = calm.copy()
    cut[40] = 40.0
    assert find_cut(cut, landmarks) == 41
    assert find_cut(np.full(99, 30.0), landmarks) is None, "a restless camera is no cut"


def test_a_face_that_jumps_is_another_face():
    landmarks = landmarks_of(60)
    landmarks[30:] += 80
    assert find_cut(np.full(59, 2.0), landmarks) == 30
    landmarks[28:33] = np.nan
    assert find_cut(np.full(59, 2.0), landmarks) is None, "nothing is known of a gap"


def test_headers_are_enough_to_refuse(tmp_path: Path):
    silent = tmp_path / "silent.mp4"
    subprocess.run(ffmpeg.command("-v", "error", "-f", "lavfi", "-i", "testsrc=d=3:s=64x64", str(silent)), check=True)
    with pytest.raises(AudioError, match="no sound track"):
        check_file(silent, CHECKS)
    with pytest.raises(VideoError, match="no video stream"):
        check_file(write_wav(tmp_path / "a.wav", np.zeros(64000)), CHECKS)
    with pytest.raises(VideoError, match=r"is 1\.00 s long, 2 s are needed"):
        check_file(write_video(tmp_path / "short.mp4", 1.0), CHECKS)
    slow = tmp_path / "slow.mp4"
    picture, sound = ["-i", "testsrc=d=3:s=64x64:r=10"], ["-i", "sine=d=3"]
    subprocess.run(ffmpeg.command("-v", "error", "-f", "lavfi", *picture, "-f", "lavfi", *sound, str(slow)), check=True)
    with pytest.raises(VideoError, match="10 frames per second"):
        check_file(slow, CHECKS)


def test_eye_motion_is_of_the_expression_alone():
    space = OpenSpace.load()
    shut = space.direction("blink_L") + space.direction("blink_R")
    motion = eye_motion(space, np.stack([np.zeros(64), 0.5 * shut, shut]))
    assert motion.shape == (3, 21)
    assert motion[0] == pytest.approx([1.0, *[0.0] * 20])
    assert motion[0, 0] > motion[1, 0] > motion[2, 0] and motion[2, 0] < 0.35
    raised = eye_motion(space, space.direction("brow_up")[None]) if "brow_up" in space.direction_names else None
    if raised is not None:
        assert raised[0, 2::2].mean() < -0.01, "up is negative"


def test_takes_are_stored_whole():
    take = make_take(80, lag=3)
    again = Take.loads(take.dumps())
    assert again.frames == 77 and again.lag == 3
    np.testing.assert_array_equal(again.eye_motion, take.eye_motion)


def test_runs():
    assert runs_of(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [slice(0, 2), slice(3, 4), slice(6, 7)]
    assert longest_run(np.array([1, 0, 1, 1, 0, 1, 1], bool)) == slice(2, 4)
    assert longest_run(np.zeros(3, bool)) is None


class Speaker:
    """A face finder that "sees" a head whose jaw moves as the real sound of a clip wants, in known poses."""

    def __init__(self, landmarks_px: np.ndarray):
        self._points = landmarks_px

    def find(self, image):
        return []

    def track(self, frames):
        for t, _ in enumerate(frames):
            yield self._points[t]


@pytest.fixture(scope="module")
def real_clip(shared_data: Path) -> Path:
    return shared_data / "talking" / "grid_s31_lbwo3s.mp4"


def test_a_real_clip_passes_and_foreign_sound_does_not(real_clip: Path, shared_data: Path, tmp_path: Path):
    from pipeline.face import FaceFinder

    finder, pcm = FaceFinder(), tmp_path / "speech.s16"
    decode_speech(real_clip, pcm)
    take = follow(real_clip, SpeechFile(pcm), finder, CHECKS)
    assert int(take.lag) == 0 and float(take.confidence) > 0.3
    assert take.frames in (74, 75) and take.seen.all()
    assert 0.6 < np.median(take.eye_motion[:, 0]) < 1.4, "eyes are open most of the time"
    decode_speech(shared_data / "talking" / "gohd_royblunt.mp4", pcm)
    with pytest.raises(AudioError, match=r"the lips don't follow|too short to tell"):
        follow(real_clip, SpeechFile(pcm), finder, CHECKS)


def test_late_sound_is_found_and_brought_forward(shared_data: Path, tmp_path: Path):
    """The sound of a synced clip delayed by 10 frames; landmarks are seen once, and pretended the second time."""
    from pipeline.face import FaceFinder
    from pipeline.media import video_frames
    from pipeline.observation import tracked_size

    clip = shared_data / "talking" / "ad_env_hick_1.mp4"
    points = list(FaceFinder().track(video_frames(clip, 25, tracked_size(clip))))
    pcm = tmp_path / "speech.s16"
    decode_speech(clip, pcm)
    in_step = follow(clip, SpeechFile(pcm), Speaker(np.array(points)), CHECKS)
    late = tmp_path / "late.s16"
    late.write_bytes(bytes(2 * 640 * 10) + pcm.read_bytes())
    delayed = follow(clip, SpeechFile(late), Speaker(np.array(points)), CHECKS)
    assert int(in_step.lag) == 0
    assert abs(int(delayed.lag) - 10) <= 1
    # the windows of the two takes hear the same
    windows = SpeechFile(pcm).mel_windows(50, 60)
    shifted = SpeechFile(late).mel_windows(50 + 10, 60 + 10)
    assert np.abs(windows - shifted).max() < 0.05


def test_sound_that_drifts_is_refused(shared_data: Path, tmp_path: Path):
    """A clip in whose middle eight frames of silence are put between the words."""
    from pipeline.face import FaceFinder
    from pipeline.media import video_frames
    from pipeline.observation import tracked_size

    clip, pcm = shared_data / "talking" / "hdtf_rdradio18.mp4", tmp_path / "speech.s16"
    decode_speech(clip, pcm)
    points = np.stack(list(FaceFinder().track(video_frames(clip, 25, tracked_size(clip)))))
    landmarks = OpenSpace.load().ibug(points)[..., :2]
    assert abs(measure_sync(clip, landmarks, SpeechFile(pcm), CHECKS).lag) <= 2
    sound, half = pcm.read_bytes(), len(points) // 2 * 2 * 640
    pcm.write_bytes(sound[:half] + bytes(8 * 2 * 640) + sound[half:])
    with pytest.raises(AudioError, match=r"the sound drifts: it is [-+][012] frames late in the first half, \+\d+ in"):
        measure_sync(clip, landmarks, SpeechFile(pcm), CHECKS)


def test_a_large_lag_must_be_sure(shared_data: Path, tmp_path: Path):
    """0.8 s late, which is beyond what the probe looks for: what it finds instead is not believed."""
    from pipeline.face import FaceFinder

    clip, pcm = shared_data / "hostile" / "vid_audio_late_800ms.mp4", tmp_path / "speech.s16"
    decode_speech(clip, pcm)
    with pytest.raises(AudioError, match="the lips hardly follow it then"):
        follow(clip, SpeechFile(pcm), FaceFinder(), CHECKS)


def test_the_speaker_of_these_tests_is_posed_by_the_camera():
    """`make_take` places its landmarks as the camera would."""
    take = make_take(5)
    space = OpenSpace.load()
    points = camera.project(space.vertices(np.zeros(80), take.expression), take.pose, 80.0, np.array([128.0, 120.0]))
    assert take.landmarks == pytest.approx(space.ibug(points)[..., :2], abs=1e-3)
