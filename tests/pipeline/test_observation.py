"""Faces followed through videos, with made-up landmarks of a known face."""

import subprocess

import numpy as np
import pytest

from models.facespace import camera
from models.facespace.open import OpenSpace
from pipeline import ffmpeg
from pipeline.errors import FaceError, VideoError
from pipeline.observation import STRETCH, Observation, observe

FRAMES = 20


class Pretender:
    """A face finder that "sees" the mean face in known poses."""

    def __init__(self, pose: np.ndarray, missed: tuple[int, ...] = ()):
        self._pose, self._missed = pose, missed

    def track(self, frames):
        for t, _ in enumerate(frames):
            pose = self._pose[t % len(self._pose)]
            points = camera.project(OpenSpace.load().mean, pose, 60.0, np.array([80.0, 60.0]))
            yield None if t in self._missed else points


def generate(source, path):
    """A file of one of ffmpeg's own sources."""
    subprocess.run(ffmpeg.command("-v", "error", "-f", "lavfi", "-i", source, str(path)), check=True)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return generate("color=gray:s=160x120:r=25:d=0.8", tmp_path_factory.mktemp("video") / "grey.mp4")


@pytest.fixture
def pose():
    t = np.linspace(0, 1, FRAMES)
    still = np.zeros(FRAMES)
    return np.stack([0.1 * t, 0.3 * t, -0.1 * t, 0.2 * t, still, 0.1 * t], 1)


def test_poses_are_found_and_gaps_are_nan(video, pose):
    seen = observe(video, Pretender(pose, missed=(7, 8)))
    assert len(seen) == FRAMES
    assert np.flatnonzero(~seen.seen).tolist() == [7, 8]
    assert np.abs(seen.pose - pose)[seen.seen].max() < 0.03
    assert np.isnan(seen.landmarks[7]).all()
    assert seen.size.tolist() == [256, 192]
    ibug = OpenSpace.load().ibug(camera.project(OpenSpace.load().mean, pose[3], 60.0, np.array([80.0, 60.0])))
    assert seen.landmarks[3] == pytest.approx(ibug[:, :2] * 256 / 160, abs=1e-3)


def test_stretches_share_person_and_camera(video, pose, monkeypatch):
    whole = observe(video, Pretender(pose))
    monkeypatch.setattr("pipeline.observation.STRETCH", 6)
    pieces = observe(video, Pretender(pose))
    assert STRETCH > FRAMES
    assert pieces.pose == pytest.approx(whole.pose, abs=0.01)


def test_observations_are_stored_whole(video, pose):
    seen = observe(video, Pretender(pose, missed=(0,)))
    again = Observation.loads(seen.dumps())
    for name in ("landmarks", "expression", "pose", "gaze", "size"):
        np.testing.assert_array_equal(getattr(again, name), getattr(seen, name))


def test_no_face_and_no_video_are_the_inputs_fault(video, pose, tmp_path):
    with pytest.raises(FaceError, match="no face in the first 20 frames"):
        observe(video, Pretender(pose, missed=tuple(range(FRAMES))))
    sound = generate("sine=d=0.2", tmp_path / "tone.wav")
    with pytest.raises(VideoError, match="no video stream"):
        observe(sound, Pretender(pose))
