"""What the metric networks are given, and what is said without them."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline import ffmpeg
from pipeline.cache import hash_file
from pipeline.config import CacheConfig
from pipeline.errors import SetupError
from pipeline.evidence import Evidence
from pipeline.instruments import Instruments, WeightsConfig
from pipeline.networks import NetworkScores
from pipeline.observation import Observation
from tests.media_files import chirps, write_wav


class Listener:
    """Keeps what it is given."""

    def score(self, frames, landmarks, samples=None, real=None, source=None, strange=None):
        self.frames, self.landmarks, self.samples, self.strange = list(frames), landmarks, samples, strange
        self.real = list(real) if real is not None else None
        return NetworkScores({})


@pytest.fixture
def clip(tmp_path) -> Path:
    sound = write_wav(tmp_path / "speech.wav", 0.01 * chirps(1))
    pictures = ["-v", "error", "-f", "lavfi", "-i", "testsrc=s=640x480:r=25:d=1", "-i", str(sound)]
    subprocess.run(ffmpeg.command(*pictures, "-c:a", "flac", str(tmp_path / "clip.mkv")), check=True)
    return tmp_path / "clip.mkv"


@pytest.fixture
def instruments(clip, tmp_path) -> Instruments:
    digest = hash_file(clip)
    seen = [np.full((25, *shape), 100.0, np.float32) for shape in ((68, 2), (64,), (6,), (2,))]
    stored = tmp_path / "evidence" / "faces" / digest[:2] / f"{digest}.1.npz"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(Observation(*seen, np.array([256, 192])).dumps())
    cache = CacheConfig(dir=str(tmp_path / "cache"))
    return Instruments(Evidence(str(tmp_path / "evidence"), cache.folder), WeightsConfig(), cache)


def test_landmarks_are_in_the_pixels_of_the_frames(clip, instruments):
    instruments.networks = listener = Listener()
    instruments.look(str(clip), str(clip), str(clip), str(clip))
    assert len(listener.frames) == len(listener.real) == 25
    assert listener.frames[0].shape == (384, 512, 3)
    assert listener.landmarks == pytest.approx(200)


def test_sound_is_given_as_it_was_recorded(clip, instruments):
    instruments.networks = listener = Listener()
    instruments.look(str(clip), str(clip))
    assert len(listener.samples) == 16000
    assert listener.samples == pytest.approx(0.01 * chirps(1), abs=1e-4)  # not brought up
    assert listener.real is None and listener.strange is None


def test_without_weights_nothing_is_read(instruments):
    scores = instruments.look("/no/such/file.mp4", "/no/such/file.mp4")
    assert {value.note for value in scores.values.values()} == {"no weights"}


def test_wrong_weights_are_told_at_once(tmp_path):
    (tmp_path / "syncnet_v2.model").write_bytes(b"not a network")
    with pytest.raises(SetupError, match="syncnet"):
        WeightsConfig(dir=str(tmp_path)).load(CacheConfig(dir=str(tmp_path / "cache")))
