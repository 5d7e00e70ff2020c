"""Videos scored from end to end: in this process with real pictures, on a small cluster with fakes."""

import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.inputs import write_portrait
from jobs import evaluate
from jobs.command import SOME_MISSING
from models.facespace import camera
from models.facespace.open import OpenSpace
from pipeline import appearance, ffmpeg
from pipeline.cache import hash_file
from pipeline.config import CacheConfig
from pipeline.errors import SetupError
from pipeline.evaluation import EvaluateConfig, Task, accompany, gather, plan_tasks, score, sources
from pipeline.evidence import Evidence
from pipeline.hearing import hear
from pipeline.instruments import Instruments, WeightsConfig
from pipeline.observation import observe
from pipeline.pairs import Pair
from tests.fake_scores import WORK
from tests.media_files import chirps, write_wav

SECONDS = 4


class Actor:
    """A face finder that "sees" a nodding mean face whose jaw follows a rhythm."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)

    def track(self, frames):
        space = OpenSpace.load()
        jaw = space.direction("jaw_open")
        for t, _ in enumerate(frames):
            points = space.mean.copy()
            points[:468] = space.vertices(np.zeros(80), 0.4 * abs(np.sin(t / 3)) * jaw)
            pose = np.array([0.1 * np.sin(t / 9), 0.2 * np.cos(t / 7), 0.02 * self._rng.normal(), 0, 0, 0])
            yield camera.project(points, pose, 50.0, np.array([64.0, 60.0]))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """a.mp4 and b.mp4, moving test pictures with sound, and broken.mp4."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name, pattern in (("a", "testsrc=s=128x128"), ("b", "testsrc2=s=128x128")):
        sound = write_wav(folder / f"{name}.wav", chirps(SECONDS) * rng.uniform(0.5, 1, SECONDS * 16000))
        arguments = ["-v", "error", "-f", "lavfi", "-i", f"{pattern}:r=25:d={SECONDS}", "-i", str(sound)]
        subprocess.run(ffmpeg.command(*arguments, "-pix_fmt", "yuv420p", str(folder / f"{name}.mp4")), check=True)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def instruments(clips, tmp_path_factory) -> Instruments:
    """Faces and sounds that were "seen" before, stored as the real ones are."""
    store = tmp_path_factory.mktemp("evidence")
    for seed, name in enumerate(("a", "b")):
        path = clips / f"{name}.mp4"
        digest = hash_file(path)
        for kind, made in (("faces", observe(path, Actor(seed))), ("sounds", hear(path))):
            (store / kind / digest[:2]).mkdir(parents=True, exist_ok=True)
            (store / kind / digest[:2] / f"{digest}.1.npz").write_bytes(made.dumps())
    cache = tmp_path_factory.mktemp("cache")
    return Instruments(Evidence(str(store), cache), WeightsConfig(), CacheConfig(dir=str(cache)))


def task(clips: Path, video: str, reference: str | None, partner: str | None = None) -> Task:
    def pair(name: str, real: str | None) -> Pair:
        return Pair(id=name, video=f"{clips}/{name}.mp4", reference=f"{clips}/{real}.mp4" if real else None)

    other = pair(partner, partner) if partner else None
    return Task("run", pair(video, reference), other, (other.sound,) if other else ())


def test_a_video_against_itself_is_perfect(clips, instruments):
    row = score(task(clips, "a", "a", "b"), instruments)
    assert row["outcome"] == "scored", row["error"]
    assert row["frames"] == 100
    for name in ("f_lmd", "m_lmd", "lvd", "mld", "gaze_error", "var_p_ratio"):
        assert row[name] == pytest.approx(0, abs=1e-6)
        assert row[f"{name}_frames"] == 100
    assert row["psnr"] == row["psnr_real"] == 100
    assert row["ssim"] == row["ssim_e"] == row["ssim_p"] == pytest.approx(1)
    assert row["psnr_scrambled"] < 20
    assert row["f_lmd_scrambled"] > 0
    assert row["cpbd"] == row["cpbd_real"] > 0
    assert np.isfinite([row["sync"], row["sync_scrambled"], row["beat_align"]]).all()
    assert row["blink_rate_note"] == "less than 10 s"
    assert row["bilabial_closure_note"] == "no phones given"
    assert np.isnan(row["lse_c"]) and row["lse_c_note"] == "no weights"
    assert row["features_note"] == row["emotions_note"] == "no weights"


def test_without_a_real_clip_only_paired_metrics_are_missing(clips, instruments):
    row = score(task(clips, "a", None), instruments)
    assert row["outcome"] == "scored"
    assert np.isnan(row["f_lmd"]) and row["f_lmd_note"] == "no real clip"
    assert np.isnan(row["psnr"]) and row["psnr_note"] == "no real clip"
    assert np.isnan(row["sync_scrambled"])
    assert np.isfinite([row["sync"], row["jitter"], row["cpbd"]]).all()


def test_a_broken_video_is_one_row(clips, instruments):
    row = score(task(clips, "broken", "a"), instruments)
    assert row["outcome"] == "rejected"
    assert "broken.mp4 is not a video" in row["error"]
    assert row["hint"]
    assert np.isnan(row["psnr"])
    assert not gather(("face", f"{clips}/broken.mp4"), instruments)


def test_pictures_are_decoded_once_per_content(clips, instruments, monkeypatch: pytest.MonkeyPatch):
    first = score(task(clips, "a", "b", "a"), instruments)
    for name in ("inspect", "compare"):
        monkeypatch.setattr(appearance, name, lambda *_: pytest.fail("decoded again"))
    again = score(task(clips, "a", "b", "a"), instruments)
    assert {k: v for k, v in again.items() if k != "seconds"} == pytest.approx(
        {k: v for k, v in first.items() if k != "seconds"}, nan_ok=True
    )


def test_everything_is_looked_at_once(clips):
    tasks = [task(clips, "a", "a"), task(clips, "b", "a")]
    wanted = sources(tasks)
    assert len(wanted) == len(set(wanted)) == 4


def test_partners_have_other_speech_and_files_that_work():
    def pair(name, speaker):
        return Task("run", Pair(id=name, video=name, reference=f"real_{name}", speaker=speaker))

    tasks = [pair("a", "ann"), pair("b", "ann"), pair("c", "cy"), pair("d", "dan")]
    usable = {(kind, f"{real}{name}") for kind in ("face", "sound") for real in ("", "real_") for name in "abcd"}
    a, *_, d = accompany(tasks, usable)
    assert a.partner and a.partner.id == "c"
    assert a.others == ("b", "c", "d")
    assert d.partner and d.partner.id == "a"
    a, *_ = accompany(tasks, usable - {("face", "real_c")})
    assert a.partner and a.partner.id == "d"


def test_nothing_to_score_is_said_before_anything_starts():
    with pytest.raises(SetupError, match="give runs"):
        plan_tasks(EvaluateConfig())
    with pytest.raises(SetupError, match="has no video"):
        plan_tasks(EvaluateConfig(runs={"a": "/nowhere/at/all"}))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_video_that_kills_its_worker_is_one_row(tmp_path):
    from pipeline.evaluation_flow import KILLED, run

    tasks = [Task("run", Pair(id=name, video=name)) for name in ("a", "bug", "kill", "b")]
    config = EvaluateConfig(runs={"run": "x"}, out=str(tmp_path), cache=CacheConfig(dir=str(tmp_path / "cache")))
    said: list[str] = []
    rows = run(tasks, config, said.append, WORK)
    assert [row["clip_id"] for row in rows] == ["a", "bug", "kill", "b"]
    assert [row["outcome"] for row in rows] == ["scored", "scored", "failed", "scored"]
    assert rows[2]["error"] == KILLED
    assert rows[0]["scrambled_with"] == "kill"  # the clip before it is not usable
    assert "3/4 videos scored" in said


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_videos_that_can_not_be_scored_are_a_row_each(clips, tmp_path, capfd):
    """A moving landscape with sound and a file cut off in its middle, between two videos of a face."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write_portrait(tmp_path / "face.png", side_px=128)
    sound = ["-i", f"{clips}/a.wav"]
    sights = {"face": ["-loop", "1", "-r", "25", "-i", f"{tmp_path}/face.png"], "mute_face": ["-loop", "1"]}
    sights["mute_face"] += ["-r", "25", "-i", f"{tmp_path}/face.png"]
    sights["landscape"] = ["-f", "lavfi", "-i", "mandelbrot=s=128x128:r=25"]
    for name, pictures in sights.items():
        heard = [] if name == "mute_face" else sound
        words = [*pictures, *heard, "-t", "2.4", "-pix_fmt", "yuv420p", f"{folder}/{name}.mp4"]
        subprocess.run(ffmpeg.command("-v", "error", *words), check=True)
    whole = (folder / "face.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    words = [f"runs.real={folder}", f"out={tmp_path}/out", f"cache.dir={tmp_path}/cache", "flow.workers=1"]
    assert evaluate.main(words) == SOME_MISSING
    rows = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert {row["clip_id"]: row["outcome"] for row in rows} == {
        "cut": "rejected",
        "face": "scored",
        "landscape": "rejected",
        "mute_face": "scored",
    }
    assert len(rows) == 4
    found = {row["clip_id"]: row for row in rows}
    assert "no face in the first 50 frames" in found["landscape"]["error"] and "facing" in found["landscape"]["hint"]
    assert "cut.mp4" in found["cut"]["error"] and found["cut"]["hint"]
    said = capfd.readouterr().out
    assert said.count("rejected: real / landscape") == said.count("rejected: real / cut") == 1
    assert (tmp_path / "out" / "table.md").read_text().count("rejected: ") == 2
