"""The quality gate: made clips with a fault each, the ladder, a job. Run: pytest tests/pipeline/test_quality.py"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.inputs import write_portrait, write_speech
from jobs import render
from jobs.command import SOME_MISSING
from models import registry
from models.controls import Controls
from models.facespace import camera
from models.facespace.open import OpenSpace
from models.interfaces import FPS, Motion
from pipeline import prep
from pipeline.audio import SpeechFile
from pipeline.commit import Output
from pipeline.config import QualityConfig, RenderConfig, load_config
from pipeline.encoder import Encoder, Soundtrack
from pipeline.errors import QualityError, SetupError
from pipeline.ladder import judge_joined, rungs
from pipeline.manifest import Clip, spec_hash
from pipeline.metrics import sync
from pipeline.quality import Inspector, Scores, find_faults, most_spoken, real_band
from pipeline.records import REJECTED, Record
from pipeline.speech import decode_speech
from pipeline.stages import RenderStage
from tests.media_files import RATE, chirps, write_wav

FRAMES = 30
SETTINGS = QualityConfig(check=True, face_every=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """face.png, speech.wav of 30 frames, silence.wav."""
    folder = tmp_path_factory.mktemp("quality")
    write_portrait(folder / "face.png", side_px=160)
    write_wav(folder / "speech.wav", chirps(FRAMES / FPS))
    write_wav(folder / "silence.wav", np.zeros(FRAMES * RATE // FPS))
    return folder


@pytest.fixture(scope="module")
def nodding(folder: Path) -> np.ndarray:
    """A face that moves up and down, uint8, shape (30, 160, 160, 3)."""
    from PIL import Image

    face = np.asarray(Image.open(folder / "face.png"))
    return np.stack([np.roll(face, round(4 * np.sin(number)), axis=0) for number in range(FRAMES)])


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return Inspector(SETTINGS)


def speech_file(sound: Path, folder: Path) -> SpeechFile:
    pcm = folder / f"{sound.stem}.s16"
    decode_speech(sound, pcm)
    return SpeechFile(pcm)


def faults_of(inspector: Inspector, frames: np.ndarray, sound: Path, tmp_path: Path) -> tuple[list[str], Scores]:
    path = tmp_path / "clip.mp4"
    with Encoder(path, (160, 160), len(frames), Soundtrack(sound)) as encoder:
        encoder.write(frames)
    scores = inspector.inspect(path, speech_file(sound, tmp_path), 0, FRAMES)
    return [fault.found for fault in find_faults(scores, SETTINGS)], scores


def test_a_good_clip_passes_and_is_too_short_for_a_sync_score(inspector, nodding, folder, tmp_path) -> None:
    faults, scores = faults_of(inspector, nodding, folder / "speech.wav", tmp_path)
    assert not faults
    assert (scores.black, scores.faces, scores.sync) == (0, 1, None)
    assert scores.frames_off < 1 and scores.frozen < 0.2
    assert scores.loudness_lufs is not None and -45 < scores.loudness_lufs < -10


def test_black_frames(inspector, nodding, folder, tmp_path) -> None:
    frames = nodding.copy()
    frames[11:14] = 5
    faults, scores = faults_of(inspector, frames, folder / "speech.wav", tmp_path)
    assert faults == ["black: a share of 0.1 of the frames, at most 0 wanted"]
    assert scores.black == 0.1


def test_frozen_frames(inspector, nodding, folder, tmp_path) -> None:
    frames = nodding.copy()
    frames[8:] = frames[8]
    faults, scores = faults_of(inspector, frames, folder / "speech.wav", tmp_path)
    assert len(faults) == 1 and faults[0].startswith("frozen: a share of 0.")
    assert 0.65 < scores.frozen < 0.8


def test_a_small_face_that_talks_is_not_frozen(inspector, folder, tmp_path) -> None:
    frames = np.full((FRAMES, 160, 160, 3), 90, np.uint8)
    frames[::2, 60:66, 60:66] = 140
    _, scores = faults_of(inspector, frames, folder / "speech.wav", tmp_path)
    assert scores.frozen == 0


def test_no_face(inspector, folder, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (FRAMES, 20, 20, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    faults, _ = faults_of(inspector, noise, folder / "speech.wav", tmp_path)
    assert faults == ["face: found in a share of 0 of the frames, 0.95 to 1 wanted"]


def test_a_silent_sound_track(inspector, nodding, folder, tmp_path) -> None:
    faults, scores = faults_of(inspector, nodding, folder / "silence.wav", tmp_path)
    assert faults == ["loudness: -70 LUFS, -45 to -5 wanted"]
    assert not find_faults(replace(scores, loudness_lufs=None), SETTINGS)


def test_too_short(inspector, nodding, folder, tmp_path) -> None:
    faults, scores = faults_of(inspector, nodding[:25], folder / "speech.wav", tmp_path)
    assert faults == ["duration: 5 frames beside the speech, at most 1 wanted"]
    assert scores.frames_off == 5


class Speaker:
    """A face finder that "sees" a mean face with given openings of the jaw, one per frame."""

    def __init__(self, opening: np.ndarray):
        self._opening = opening

    def track(self, frames):
        space = OpenSpace.load()
        for opening, _ in zip(self._opening, frames):
            points = space.mean.copy()
            points[:468] = space.vertices(np.zeros(80), opening * space.direction("jaw_open"))
            yield camera.project(points, np.zeros(6), 40.0, np.array([64.0, 64.0]))


def test_lips_are_followed_where_most_is_said_and_held_against_the_sound(nodding, tmp_path) -> None:
    sound = np.concatenate(
        [np.zeros(3 * RATE), chirps(5) * np.repeat(np.random.default_rng(1).uniform(0, 1, 50), 1600)]
    )
    speech = speech_file(write_wav(tmp_path / "speech.wav", sound), tmp_path)
    assert most_spoken(speech, 0, 200, 100) == range(100, 200)
    path = tmp_path / "clip.mp4"
    with Encoder(path, (160, 160), 200) as encoder:
        encoder.write(np.tile(nodding, (7, 1, 1, 1))[:200])
    predicted = sync.sound_context(sync.log_mel(speech.samples(100, 200))) @ sync.Probe.load().weights
    obedient = np.clip(predicted[:, 0] - predicted[:, 0].min(), 0, None)
    aimless = np.random.default_rng(0).uniform(0, 1, 100)
    settings = QualityConfig(check=True, face_every=1000, sync_seconds=4)
    found = []
    for opening in (obedient, aimless):
        inspector = Inspector(settings)
        inspector._finder = Speaker(np.concatenate([[0.0], opening]))  # type: ignore[assignment]
        found.append(inspector.inspect(path, speech, 0, 200))
    assert found[0].sync_frames == 100 and found[0].lag_frames in (-1, 0, 1)
    assert found[0].sync is not None and found[1].sync is not None and found[0].sync > 0.4 > found[1].sync
    silent = Inspector(settings).inspect(path, speech, 0, 200, has_words=False)
    assert silent.sync is None


def test_too_good_is_suspicious_as_well() -> None:
    least, most = real_band(150)
    assert 0.1 < least < 0.3 < 0.7 < most < 1

    def faults(**measured: float) -> list[str]:
        return [fault.found for fault in find_faults(Scores(0, 0, 0, sync_frames=150, **measured), SETTINGS)]

    assert not faults(sync=0.5, lag_frames=1)
    assert faults(sync=0.05) == [f"sync: probe confidence 0.05, {least:g} to {most:g} wanted"]
    assert faults(sync=0.95) == [f"sync: probe confidence 0.95, {least:g} to {most:g} wanted"]
    assert faults(lag_frames=-9) == ["sync: the sound is -9 frames late, -5 to 5 wanted"]


def test_settings_are_checked() -> None:
    with pytest.raises(SetupError) as error:
        load_config(["manifest=m.jsonl", "quality.ladder=[sed,calm]", "quality.most_blck=1", "quality.face_every=0"])
    said = "\n".join(error.value.problems)
    assert "'quality.ladder'" in said and "'seed' or 'calm' or 'system'" in said
    assert "did you mean 'quality.most_black'" in said and "'quality.face_every' is 0" in said
    with pytest.raises(SetupError, match=r"'least_sync' is 0\.6, above 'most_sync'"):
        load_config(["manifest=m.jsonl", "quality.least_sync=0.6", "quality.most_sync=0.5"])
    assert load_config(["manifest=m.jsonl", "quality.ladder=[]"]).quality.ladder == ()


# ---- the ladder


class Sleepyhead:
    """Motion that stands still for one seed, and for a sleepy system for all."""

    def __init__(self, frozen_seed: int | None):
        self._frozen_seed = frozen_seed

    def generate(self, speech: SpeechFile, face: object, controls: Controls, seed: int) -> Motion:
        frames = speech.frames
        pose = np.zeros((frames, 6), np.float32)
        if seed != self._frozen_seed and self._frozen_seed is not None:
            pose[:, 3] = controls.pose.scale * np.sin(np.arange(frames) + seed % 7)
        return Motion("open", np.zeros((frames, 64), np.float32), pose, np.zeros((frames, 2), np.float32))


class Shifter:
    """A renderer that moves the picture."""

    def prepare(self, portrait, face):
        x, y, width, height = portrait.view
        return portrait.image[y : y + height, x : x + width]

    def frames(self, prepared, motion, start, stop):
        yield np.stack([np.roll(prepared, round(6 * float(shift)), axis=1) for shift in motion.pose[start:stop, 3]])


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = {"sleepyhead": 7, "sleeper": None, "awake": -1}
    entries = {name: registry.Entry("open", lambda seed=seed: Sleepyhead(seed)) for name, seed in systems.items()}
    monkeypatch.setattr(registry, "MOTION_SYSTEMS", entries)
    monkeypatch.setattr(registry, "RENDERERS", {"shifter": registry.Entry("open", lambda device: Shifter())})


def gated(folder: Path, tmp_path: Path, *words: str, system: str = "sleepyhead") -> tuple[RenderConfig, prep.Prepped]:
    places = [f"portrait={folder}/face.png", f"audio={folder}/speech.wav", f"cache.dir={tmp_path}/cache"]
    settings = ["controls.seed=7", "renderer=shifter", f"motion.system={system}", "quality.check=true", *words]
    config = load_config([*places, *settings])
    return config, prep.prep(
        Clip(id="a", portrait=config.portrait, audio=config.audio, controls=config.controls), config
    )


def render_gated(config: RenderConfig, prepped: prep.Prepped, out: Path):
    stage = RenderStage(config)
    return stage.render(prepped, stage._generate(prepped, config.motion.system), out, with_audio=True)


@pytest.mark.usefixtures("fakes")
def test_another_seed_helps_and_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    config, prepped = gated(folder, tmp_path)
    made = render_gated(config, prepped, tmp_path / "one.mp4")
    settled = made.settled
    assert settled["rung"] == "seed" and settled["seed"] not in (7, prepped.clip.seed)
    assert settled["weights"] == "open:sleepyhead+shifter"
    quality = json.loads(settled["quality"])
    assert (quality["attempt"], quality["rung"], quality["faults"]) == (2, "seed", [])
    assert quality["frozen"] < 0.5 and [each["rung"] for each in quality["before"]] == ["as asked"]
    assert quality["before"][0]["frozen"] > 0.9 and "frozen" in quality["before"][0]["faults"][0]
    again = render_gated(config, prepped, tmp_path / "two.mp4")
    assert again.settled == settled
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


@pytest.mark.usefixtures("fakes")
def test_another_system_is_the_last_rung(folder: Path, tmp_path: Path) -> None:
    config, prepped = gated(folder, tmp_path, system="sleeper")
    monkeyed = config.quality.model_copy(update={"ladder": ("calm", "system")})
    config = config.model_copy(update={"quality": monkeyed})
    settled = render_gated(config, replace_seed(prepped, 3), tmp_path / "clip.mp4").settled
    assert (settled["rung"], settled["seed"], settled["weights"]) == ("system", 3, "open:sleepyhead+shifter")
    assert json.loads(settled["quality"])["attempt"] == 3


def replace_seed(prepped: prep.Prepped, seed: int) -> prep.Prepped:
    controls = prepped.clip.controls.model_copy(update={"seed": seed})
    return replace(prepped, clip=prepped.clip.model_copy(update={"controls": controls}))


@pytest.mark.usefixtures("fakes")
def test_what_no_rung_helps_is_rejected_with_everything_measured(folder: Path, tmp_path: Path) -> None:
    config, prepped = gated(folder, tmp_path, "quality.ladder=[seed,calm]", system="sleeper")
    with pytest.raises(QualityError) as caught:
        render_gated(config, prepped, tmp_path / "clip.mp4")
    record = Record("a", "0").failed_by(caught.value, "render")
    assert (record.outcome, record.stage) == (REJECTED, "quality")
    assert record.error == "frozen: a share of 1 of the frames repeat the last one, at most 0.5 wanted; tried " + (
        "as asked, seed, calm"
    )
    assert "quality.most_frozen" in record.hint
    quality = json.loads(record.quality)
    assert quality["attempt"] == 3 and len(quality["before"]) == 2 and quality["pose_scale"] == 0.5


@pytest.mark.usefixtures("fakes")
def test_parts_and_faults_of_the_sound_are_not_rendered_again(folder: Path, tmp_path: Path) -> None:
    config, prepped = gated(folder, tmp_path)
    stage = RenderStage(config)
    motion = stage._generate(prepped, "sleepyhead")
    with pytest.raises(QualityError) as caught:
        stage.render(prepped, motion[10:25], tmp_path / "part.mp4", with_audio=False, start=10)
    assert json.loads(caught.value.quality)["attempt"] == 1
    config, prepped = gated(folder, tmp_path, "quality.quietest_lufs=-6", "controls.seed=8")
    with pytest.raises(QualityError, match=r"^loudness") as caught:
        render_gated(config, prepped, tmp_path / "clip.mp4")
    assert json.loads(caught.value.quality)["attempt"] == 1


@pytest.mark.usefixtures("fakes")
def test_rungs_build_on_each_other(folder: Path) -> None:
    def tries(*ladder: str, **pose: object) -> list:
        quality = {"check": True, "ladder": ladder}
        motion = {"system": "awake"}
        config = RenderConfig(manifest="m", renderer="shifter", quality=quality, motion=motion)  # type: ignore[arg-type]
        return rungs(Clip(id="a", portrait="p", audio="s", controls=Controls(pose=pose)), config)  # type: ignore[arg-type]

    first, seed, calm, system = tries("seed", "calm", "system")
    assert (first.name, first.system) == ("", "awake") and first.clip.controls.seed is None
    assert seed.clip.seed != first.clip.seed and seed.clip.controls.pose.scale == 1
    assert calm.clip.seed == seed.clip.seed and calm.clip.controls.pose.scale == 0.5
    assert system.clip == calm.clip and system.system == "sleepyhead"
    assert len({each.clip.seed for each in tries("seed", "seed", "seed")}) == 4
    assert [each.name for each in tries("calm", "system", "system", still=True)] == ["", "system"]
    assert [each.name for each in tries()] == [""]


def test_only_an_open_gate_leaves_spec_hashes_alone() -> None:
    clip = Clip(id="a", portrait="p", audio="s")

    def hashed(**quality: object) -> str:
        return spec_hash(clip, RenderConfig(manifest="m", quality=QualityConfig.model_validate(quality)))

    assert hashed() == hashed(face_every=3, ladder=[], most_frozen=0.1)
    closed = hashed(check=True)
    assert closed != hashed() and closed == hashed(check=True)
    assert len({closed, hashed(check=True, ladder=["seed"]), hashed(check=True, most_sync=0.6)}) == 3


def test_a_joined_clip_has_the_means_of_its_parts(folder: Path, nodding: np.ndarray, tmp_path: Path) -> None:
    config = RenderConfig(manifest="m", quality=SETTINGS)
    path = tmp_path / "joined.mp4"
    with Encoder(path, (160, 160), FRAMES, Soundtrack(folder / "speech.wav")) as encoder:
        encoder.write(nodding)
    parts = [(20, {"frozen": 0.1, "faces": 1.0, "sync": None}), (10, {"frozen": 0.4, "faces": 0.7, "sync": 0.5})]
    told = [(frames, json.dumps({"frames_off": 0, "black": 0, "rung": "as asked", **own})) for frames, own in parts]
    quality = json.loads(judge_joined(path, FRAMES, told, config))
    assert (quality["frozen"], quality["faces"], quality["sync"], quality["parts"]) == (0.2, 0.9, 0.5, 2)
    assert quality["loudness_lufs"] > -45 and quality["rung"] == "as asked"
    with pytest.raises(QualityError, match=r"duration: 20\.?\d* frames"):
        judge_joined(path, FRAMES + 20, told, config)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_rejected_clip_has_its_row_and_the_others_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_portrait(tmp_path / "face.png", side_px=192)
    write_speech(tmp_path / "good.wav", seconds=0.8)
    write_speech(tmp_path / "long.wav", seconds=2.2)
    write_wav(tmp_path / "silent.wav", np.zeros(RATE))
    rows = [{"id": name, "portrait": "face.png", "audio": f"{name}.wav"} for name in ("good", "long", "silent")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [f"manifest={tmp_path}/m.jsonl", f"out={tmp_path}/out", f"cache.dir={tmp_path}/cache"]
    words += ["quality.check=true", "quality.most_frozen=0.9", "max_part_seconds=1.5"]
    assert render.main(words) == SOME_MISSING
    said = capfd.readouterr().out
    assert "1 rejected: loudness: -70 LUFS, -45 to -5 wanted" in said and "quality.quietest_lufs" in said
    output = Output(f"{tmp_path}/out")
    assert set(output.committed()) == {"good", "long"} and output.failed() == {"silent"}
    made = {row["clip_id"]: row for row in pq.read_table(f"{tmp_path}/out/index").to_pylist()}
    quality = {name: json.loads(row["quality"]) for name, row in made.items()}
    assert made["good"]["rung"] == "" and quality["good"]["rung"] == "as asked" and quality["good"]["faces"] == 1
    assert quality["long"]["parts"] == 2 and quality["long"]["loudness_lufs"] > -45
    failed = output.read_failed("silent")
    assert (failed.outcome, failed.stage) == (REJECTED, "quality") and not list((tmp_path / "out/parts").glob("*"))
    assert json.loads(failed.quality)["loudness_lufs"] == -70
    assert render.main(words) == SOME_MISSING
    assert "2 done already, 1 to do" in capfd.readouterr().out


def test_one_clip_says_why(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f"portrait={folder}/face.png", f"audio={folder}/silence.wav", f"cache.dir={tmp_path}/cache"]
    assert render.main([*words, f"out={tmp_path}/clip.mp4", "quality.check=true"]) == SOME_MISSING
    assert "loudness: -70 LUFS" in capfd.readouterr().err
    assert not (tmp_path / "clip.mp4").exists()
