"""One pass over a video with made-up networks: which frames each one sees, what is undefined and why."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SetupError
from pipeline.networks import MetricNetworks
from pipeline.weights import Weights

FRAMES, SIDE = 60, 64


class Sync:
    """Finds sound and picture at the same place: every frame carries its number, the sound a rising loudness."""

    def __init__(self):
        self.calls = 0

    def video(self, windows: np.ndarray) -> np.ndarray:
        self.calls += 1
        return windows[:, 0, 100:110, 100:110, 0].mean((1, 2))[:, None]

    def audio(self, windows: np.ndarray) -> np.ndarray:
        return np.zeros((len(windows), 1))


class Likeness:
    """The vector of a face points at how bright it is."""

    def embed(self, faces: np.ndarray) -> np.ndarray:
        angle = faces[:, 60:64, 54:58].mean((1, 2, 3)) / 255 * np.pi / 2
        vectors = np.zeros((len(faces), 512), np.float32)
        vectors[:, 0], vectors[:, 1] = np.cos(angle), np.sin(angle)
        return vectors


class Features:
    def features(self, frames: np.ndarray) -> np.ndarray:
        return frames[:, 0, 0, :1].astype(np.float32)


class Distance:
    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a.astype(float) - b).mean((1, 2, 3))


class Mood:
    def features(self, crops: np.ndarray):
        return np.ones((len(crops), 512)), np.ones(len(crops))

    def classify(self, features: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        return np.eye(8)[len(features) % 8]


def networks(**given) -> MetricNetworks:
    return MetricNetworks(**given)  # made-up networks stand in for real ones


@pytest.fixture
def video() -> np.ndarray:
    return np.arange(FRAMES, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def landmarks() -> np.ndarray:
    face = np.random.default_rng(0).uniform(20, 44, (68, 2))
    return np.repeat(face[None], FRAMES, 0)


def test_without_weights_everything_says_so_and_torch_stays_out():
    code = (
        "import sys, numpy as np\n"
        "from pipeline.networks import MetricNetworks\n"
        "scores = MetricNetworks().score(np.zeros((9, 8, 8, 3), np.uint8), np.zeros((9, 68, 2)), np.zeros(9000))\n"
        "assert {v.note for v in scores.values.values()} == {'no weights'}, scores\n"
        "assert all(np.isnan(v.value) for v in scores.values.values())\n"
        "assert scores.features is None and scores.emotion is None\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sync_is_scored_from_two_seconds_on(video, landmarks):
    sound = np.random.default_rng(0).normal(size=FRAMES * 640) * 0.1
    scores = networks(syncnet=Sync()).score(iter(video), landmarks, sound)
    assert scores.values["lse_d"].frames == FRAMES - 5
    assert np.isfinite(scores.values["lse_c"].value)
    short = networks(syncnet=Sync()).score(iter(video), landmarks, sound[: 40 * 640])
    assert short.values["av_offset"].note == "shorter than 2 s"
    assert networks(syncnet=Sync()).score(iter(video), landmarks).values["lse_c"].note == "no sound"
    faceless = networks(syncnet=Sync()).score(iter(video), np.full((FRAMES, 68, 2), np.nan), sound)
    assert faceless.values["lse_c"].note == "no face"


def test_a_strange_sound_is_scored_beside_the_own(video, landmarks):
    sound = np.random.default_rng(0).normal(size=FRAMES * 640) * 0.1
    syncnet = Sync()
    scores = networks(syncnet=syncnet).score(iter(video), landmarks, sound, strange=sound[: 52 * 640])
    assert syncnet.calls == -(-(FRAMES - 5) // 8)
    assert scores.values["lse_d"].frames == FRAMES - 5
    assert scores.strange["lse_d"].frames == 47
    only = networks(syncnet=Sync()).score(iter(video), landmarks, strange=sound)
    assert only.values["lse_d"].note == "no sound"
    assert only.strange["lse_d"].frames == FRAMES - 5


def test_others_see_all_frames_though_the_sound_ends_early(video, landmarks):
    scores = networks(syncnet=Sync(), inception=Features()).score(iter(video), landmarks, np.zeros(640 * 12))
    np.testing.assert_array_equal(scores.features[:, 0], np.arange(0, FRAMES, 5))


def test_csim_against_first_face_or_source_with_misses_as_zero(video, landmarks):
    landmarks[[5, 10]] = np.nan
    likeness = Likeness()
    seen = [n for n in range(0, FRAMES, 5) if n not in (5, 10)]
    angles = np.array(seen) / 255 * np.pi / 2
    scores = networks(identity=likeness).score(iter(video), landmarks)
    assert scores.values["csim"].value == pytest.approx(np.cos(angles).sum() / 12, rel=1e-3)
    assert scores.values["csim"].frames == 12
    assert scores.face_misses == 2
    source = networks(identity=likeness).identify(video[30], landmarks[30])
    scores = networks(identity=likeness).score(iter(video), landmarks, source=source)
    assert scores.values["csim"].value == pytest.approx(np.cos(angles - 30 / 255 * np.pi / 2).sum() / 12, rel=1e-3)
    nobody = networks(identity=likeness).score(iter(video), np.full((FRAMES, 68, 2), np.nan))
    assert nobody.values["csim"].note == "no face"
    assert networks(identity=likeness).identify(video[0], landmarks[5]) is None


def test_lpips_of_pairs_and_of_their_changes(video, landmarks):
    real = np.repeat(video[:, :32, :32], 2, axis=0)[:FRAMES]  # half the speed, half the size
    scores = networks(lpips=Distance()).score(iter(video), landmarks, real=iter(real))
    numbers = np.arange(0, FRAMES, 5)
    assert scores.values["lpips"].value == pytest.approx((numbers - numbers // 2).mean())
    changes = [abs(1 - ((n + 1) // 2 - n // 2)) for n in numbers]
    assert scores.values["t_lpips"].value == pytest.approx(np.mean(changes))
    same = networks(lpips=Distance()).score(iter(video), landmarks, real=iter(video))
    assert same.values["lpips"].value == same.values["t_lpips"].value == 0
    assert networks(lpips=Distance()).score(iter(video), landmarks).values["lpips"].note == "no real clip"
    shorter = networks(lpips=Distance()).score(iter(video), landmarks, real=iter(video[:21]))
    assert shorter.values["lpips"].frames == 5


def test_emotion_is_of_all_faces_of_the_clip(video, landmarks):
    landmarks[0] = np.nan
    assert networks(emotion=Mood()).score(iter(video), landmarks).emotion[11 % 8] == 1
    assert networks(emotion=Mood()).score(iter(video), landmarks * np.nan).emotion is None


def test_wrong_files_are_all_told(tmp_path: Path):
    paths = {name: tmp_path / f"{name}.pth" for name in ("syncnet", "emotion")}
    for path in paths.values():
        path.write_bytes(b"nothing")
    with pytest.raises(SetupError) as caught:
        MetricNetworks.load({name: Weights(name, path, "0" * 64, None) for name, path in paths.items()})
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith(
        f"weights of syncnet: {paths['syncnet']}: holds more than tensors, or is no torch"
    )
