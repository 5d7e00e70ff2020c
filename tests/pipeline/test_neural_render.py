"""The render job with SadTalker's motion and face-vid2vid: random weights, tiny networks, everything else real.

Run: pytest tests/pipeline/test_neural_render.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.inputs import write_portrait, write_speech
from models import registry
from models.controls import Controls, FaceChoice
from models.facespace.alignment5 import align
from models.interfaces import Motion
from pipeline import packs, prep, published, stages
from pipeline.commit import Output
from pipeline.config import RenderConfig, load_config
from pipeline.errors import InputError, RenderError, SetupError
from pipeline.framing import EXTENSION, plan
from pipeline.inspection import inspect
from pipeline.job import run_job
from pipeline.ladder import rungs
from pipeline.manifest import clips_of, single_clip
from pipeline.media import probe, read_portrait, video_frames
from pipeline.reference import bridged
from pipeline.single import render_single
from tests.models.tiny_pack import write_pack
from tests.pipeline.talking_takes import write_video

FRAMES = 10
NEURAL = ("motion.system=sadtalker", "renderer=facevid2vid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """face.png, speech.wav and long.wav, tiny/ (a pack) and a cache that the tests share."""
    made = tmp_path_factory.mktemp("neural")
    write_portrait(made / "face.png", side_px=256)
    write_speech(made / "speech.wav", FRAMES / 25)
    write_speech(made / "long.wav", 1.2)
    write_pack(made / "tiny")
    return made


def configured(folder: Path, out: Path, *words: str) -> RenderConfig:
    inputs = (f"portrait={folder}/face.png", f"audio={folder}/speech.wav")
    return load_config([*inputs, f"out={out}", f"pack={folder}/tiny", f"cache.dir={folder}/cache", *NEURAL, *words])


def silent(line: str) -> None:
    pass


def still_picture(folder: Path) -> np.ndarray:
    return next(iter(read_portrait(folder / "face.png", 10**6))).image


@pytest.mark.parametrize("framing", ["crop", "extcrop", "resize", "full", "extfull"])
def test_every_framing_becomes_a_video(folder: Path, tmp_path: Path, framing: str):
    record = render_single(configured(folder, tmp_path / "clip.mp4", f"controls.framing={framing}"), silent)
    assert (record.frames, record.width, record.height) == (FRAMES, 256, 256)
    assert record.weights.startswith("tiny@") and record.weights.endswith(":sadtalker+facevid2vid")
    info = probe(tmp_path / "clip.mp4")
    assert info.has_video and info.has_audio
    frame = next(video_frames(tmp_path / "clip.mp4")).astype(int)
    if framing in ("full", "extfull", "resize"):  # far from the head it is the picture itself
        assert np.abs(frame[-8:, -8:] - still_picture(folder)[-8:, -8:]).mean() < 8


def test_own_motion_goes_with_another_pack_s_renderer(folder: Path, tmp_path: Path):
    mine = write_pack(tmp_path / "mine", ("expnet", "posevae"), name="mine").where
    record = render_single(configured(folder, tmp_path / "clip.mp4", f"motion.pack={mine}"), silent)
    assert record.frames == FRAMES and record.weights.startswith("mine@") and "+tiny@" in record.weights


def test_512_pixels_come_from_networks_of_their_own(folder: Path, tmp_path: Path):
    record = render_single(configured(folder, tmp_path / "clip.mp4", "controls.size=512"), silent)
    assert (record.width, record.height) == (512, 512)


def test_the_same_clip_twice_is_the_same_video(folder: Path, tmp_path: Path):
    words = ("controls.pose.yaw=[-10,10]", "controls.pose.style=3")
    first, again = (render_single(configured(folder, tmp_path / f"{n}.mp4", *words), silent) for n in "ab")
    other = render_single(configured(folder, tmp_path / "c.mp4", *words, "controls.seed=5"), silent)
    assert first.sha256 == again.sha256 != other.sha256


def test_a_manifest_in_parts_on_a_cluster(folder: Path, tmp_path: Path, ray_cluster: None):
    rows: list[dict[str, Any]] = [
        {"id": "crop", "portrait": "face.png", "audio": "long.wav"},
        {"id": "full", "portrait": "face.png", "audio": "speech.wav", "controls": {"framing": "full"}},
        {"id": "wild", "portrait": "face.png", "audio": "speech.wav", "controls": {"pose": {"style": 40}}},
    ]
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [f"manifest={folder}/clips.jsonl", f"out={tmp_path}/out", f"cache.dir={folder}/cache"]
    config = load_config([*words, f"pack={folder}/tiny", *NEURAL, "max_part_seconds=1", "flow.render_actors=1"])
    records = {record.clip_id: record for record in run_job(config, silent).records}
    assert [records[name].outcome for name in ("crop", "full", "wild")] == ["rendered", "rendered", "rejected"]
    assert records["wild"].error == "pose.style is 40, but these weights know 0 to 4"
    assert records["crop"].weights.startswith("tiny@")
    video = Path(Output(f"{tmp_path}/out").path(records["crop"].uri))
    assert probe(video).has_audio and len(list(video_frames(video))) == 30
    settled = load_config([f"config={tmp_path}/out/config.yaml"])
    assert settled.pack.startswith(f"{folder}/tiny#sha256=")
    write_pack(folder / "tiny", name="changed")
    try:
        with pytest.raises(SetupError, match="has the SHA-256"):
            run_job(settled, silent)
    finally:
        write_pack(folder / "tiny")


def test_parts_join_without_a_seam(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a part shows is what the whole clip shows there, though its frames look at their neighbours."""
    config = configured(folder, tmp_path / "clip.mp4")
    clip = single_clip(f"{folder}/face.png", f"{folder}/speech.wav", config.controls)
    config = packs.settle(config, [clip])
    prepped, stage = prep.prep(clip, config), stages.RenderStage(config)
    values = np.random.default_rng(0).normal(size=(45, 72)).astype(np.float32)
    motion = Motion("bfm", values[:, :64], values[:, 64:70] / 10, values[:, 70:])
    span = (15, 21)
    first, last = stages.with_neighbours(span, len(motion), config)
    assert (first, last) == (2, 34)
    keep = (span[0] - first, span[1] - first)
    part = encoded(stage, monkeypatch, prepped, motion[first:last], tmp_path, start=span[0], keep=keep)
    whole = encoded(stage, monkeypatch, prepped, motion, tmp_path)
    assert len(part) == 6 and not np.array_equal(part[0], part[5])
    alone = encoded(stage, monkeypatch, prepped, motion[slice(*span)], tmp_path)
    near, far = (np.abs(frames.astype(int) - whole[15:21]).mean() for frames in (part, alone))
    assert near < 1 < far, "convolutions of short numbers round differently, nothing else differs"
    assert stages.with_neighbours((100, 200), 205, config) == (87, 205)
    assert stages.with_neighbours((100, 200), 1000, load_config(["manifest=m"])) == (100, 200)


def encoded(stage: Any, monkeypatch: pytest.MonkeyPatch, prepped: Any, motion: Motion, folder: Path, **how: Any):
    """Frames as they reach the encoder."""
    frames: list[np.ndarray] = []

    class Collector:
        def __init__(self, *_: Any):
            pass

        def __enter__(self) -> "Collector":
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def write(self, some: np.ndarray) -> None:
            frames.append(some)

    monkeypatch.setattr("pipeline.encoder.Encoder", Collector)
    stage.render(prepped, motion, folder / "x.mp4", False, **how)
    return np.concatenate(frames)


def test_weights_that_go_bad_fail_the_clip_with_a_hint(folder: Path, tmp_path: Path):
    write_pack(tmp_path / "pack")
    config = packs.settle(configured(folder, tmp_path, f"pack={tmp_path}/pack"), [])
    (tmp_path / "pack" / "expnet.safetensors").write_bytes(b"")
    with pytest.raises(RenderError, match=r"the pack tiny can't be used: .*expnet\.safetensors has the SHA-256"):
        stages.MotionStage(config)


# ---- faces


def test_a_face_is_fitted_in_the_pack_s_space_and_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = configured(folder, tmp_path)
    clip = single_clip(f"{folder}/face.png", f"{folder}/speech.wav", Controls())
    config = packs.settle(config, [clip])
    face = prep.prep_portrait(clip.portrait, FaceChoice(), config).face
    assert face.space == "bfm" and face.landmarks.shape == (68, 3)
    assert face.landmarks[:, :2].min() > 0 and face.landmarks[:, :2].max() < 256
    placed = align((256, 256), face.landmarks[:, :2] - 0.5)
    assert face.scale_px == pytest.approx(101.5 / placed.scale)
    monkeypatch.setattr(prep, "_find_face", None)  # from now on it comes from the cache, or not at all
    again = prep.prep_portrait(clip.portrait, FaceChoice(), config).face
    assert np.array_equal(again.expression, face.expression)
    plain = load_config(["manifest=m", f"cache.dir={folder}/cache"])
    with pytest.raises(TypeError):
        prep.prep_portrait(clip.portrait, FaceChoice(), plain)


# ---- references


@pytest.fixture(scope="module")
def nodding(folder: Path) -> Path:
    """A video of the portrait, moved by what ships."""
    out = folder / "nodding.mp4"
    words = [f"portrait={folder}/face.png", f"audio={folder}/long.wav", f"out={out}", f"cache.dir={folder}/cache"]
    render_single(load_config([*words, "controls.pose.pitch=[0,12,0]"]), silent)
    return out


@pytest.mark.parametrize("space", ["open", "bfm"])
def test_a_reference_lends_its_head_motion_and_its_blinks(
    folder: Path, tmp_path: Path, nodding: Path, space: str, monkeypatch: pytest.MonkeyPatch
):
    words = [f"controls.pose.reference={nodding}", f"controls.blink.reference={nodding}"]
    if space == "open":
        write_pack(folder / "own", ("expnet", "posevae"), space="open")
        words += [f"pack={folder}/own", "renderer=mesh"]
    config = configured(folder, tmp_path / "clip.mp4", *words)
    clip = single_clip(f"{folder}/face.png", f"{folder}/speech.wav", config.controls)
    config = packs.settle(config, [clip])
    prepped = prep.prep(clip, config)
    followed = prep.reference_motion(str(nodding), config)
    assert followed.space == space and len(followed) == 30
    assert all(np.isfinite(part).all() for part in (followed.expression, followed.pose, followed.gaze))
    if space == "open":
        assert np.ptp(np.degrees(followed.pose[:, 0])) > 6
    stage = stages.MotionStage(config)
    motion = stage.generate(prepped)
    plain = stage.generate(
        prep.Prepped(clip.model_copy(update={"controls": Controls()}), prepped.portrait, prepped.speech)
    )
    assert np.abs(motion.pose - plain.pose).max() > (
        1e-3 if space == "open" else 1e-6
    )  # a random regressor sees little
    assert np.abs(motion.expression - plain.expression).max() > 1e-6
    monkeypatch.setattr("pipeline.reference.follow", None)  # kept by content
    assert np.array_equal(prep.reference_motion(str(nodding), config).pose, followed.pose)


def test_a_reference_without_a_face_rejects_the_clip(folder: Path, tmp_path: Path):
    video = write_video(tmp_path / "test.mp4", 1.0)
    config = configured(folder, tmp_path / "clip.mp4", f"controls.pose.reference={video}")
    findings = inspect(clips_of(config), packs.settle(config, []), lambda done, total: None)
    assert [(each.source.kind, bool(each.error)) for each in findings] == [
        ("portrait", False),
        ("audio", False),
        ("reference", True),
    ]
    with pytest.raises(InputError, match=r"test\.mp4: no face in the first 25 frames"):
        render_single(config, silent)
    with pytest.raises(InputError, match=r"speech\.wav has no video"):
        render_single(configured(folder, tmp_path, f"controls.pose.reference={folder}/speech.wav"), silent)


def test_frames_without_a_face_are_bridged():
    values = np.array([[np.nan, np.nan], [1, 0], [np.nan, np.nan], [3, 4], [np.nan, np.nan]])
    assert bridged(values).tolist() == [[1, 0], [1, 0], [2, 2], [3, 4], [3, 4]]


def test_the_ladder_keeps_to_systems_that_know_a_clip_s_controls(monkeypatch: pytest.MonkeyPatch):
    systems = {name: registry.Entry("open", object, understands=("pose.style",) * (name == "a")) for name in "ab"}
    monkeypatch.setattr(registry, "MOTION_SYSTEMS", systems)
    config = load_config(["manifest=m", "motion.system=a", "quality.ladder=[system]"])
    plain, styled = (single_clip("p", "a", Controls.model_validate({"pose": pose})) for pose in ({}, {"style": 1}))
    assert [rung.system for rung in rungs(plain, config)] == ["a", "b"]
    assert [rung.system for rung in rungs(styled, config)] == ["a"]


# ---- framing


def test_a_tight_crop_is_the_alignment_s_square(folder: Path, tmp_path: Path):
    config = packs.settle(configured(folder, tmp_path), [])
    face = prep.prep_portrait(f"{folder}/face.png", FaceChoice(), config).face
    points = face.landmarks[:, :2]
    apart = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
    tight = plan((256, 256), face, "crop", 256, tight=True)
    side = tight.view[2] / tight.scale
    assert 4 * apart - 1e-3 <= side <= 5 * apart
    wide = plan((256, 256), face, "extcrop", 256, tight=True)
    assert wide.view[2] / wide.scale == pytest.approx(min(256, EXTENSION * side))
    assert plan((256, 256), face, "crop", 256).scale < tight.scale
    full, more = (plan((256, 256), face, mode, 256, tight=True) for mode in ("full", "extfull"))
    assert abs(full.view[2] - side) <= 3 and abs(full.view[3] - side) <= 3
    assert more.view[2] > full.view[2]


@pytest.mark.parametrize("mode", ["crop", "extcrop", "full", "extfull"])
def test_68_landmarks_and_the_mesh_are_framed_alike(folder: Path, tmp_path: Path, mode: Any):
    sparse = prep.prep_portrait(f"{folder}/face.png", FaceChoice(), packs.settle(configured(folder, tmp_path), [])).face
    plain = load_config(["manifest=m", f"cache.dir={folder}/cache"])
    dense = prep.prep_portrait(f"{folder}/face.png", FaceChoice(), plain).face
    boxes = [np.array(plan((256, 256), face, mode, 256, tight=True).box) for face in (sparse, dense)]
    assert np.abs(boxes[0] - boxes[1]).max() < 2
    if mode in ("crop", "extcrop"):
        boxes = [np.array(plan((256, 256), face, mode, 256).box) for face in (sparse, dense)]
        assert np.abs(boxes[0] - boxes[1]).max() < 8


# ---- the enhancer


def brighten(frames: np.ndarray) -> np.ndarray:
    """Twice as large, and brighter."""
    return np.repeat(np.repeat(np.minimum(frames, 195) + 60, 2, 1), 2, 2).astype(np.uint8)


def shorten(frames: np.ndarray) -> np.ndarray:
    return frames[:0]


def test_an_enhancer_touches_frames_before_they_are_pasted_back(folder: Path, tmp_path: Path):
    name = f"enhancer={__name__}"
    words = ("controls.framing=full", "encode.crf=10")
    render_single(configured(folder, tmp_path / "plain.mp4", *words), silent)
    render_single(configured(folder, tmp_path / "bright.mp4", *words, f"{name}:brighten"), silent)
    plain, bright = (next(video_frames(tmp_path / f"{n}.mp4")).astype(int) for n in ("plain", "bright"))
    assert np.abs(plain[-8:, -8:] - bright[-8:, -8:]).mean() < 4, "outside of the box nothing changes"
    assert (bright - plain).mean() > 3
    with pytest.raises(RenderError, match="as many uint8 frames"):
        render_single(configured(folder, tmp_path / "none.mp4", f"{name}:shorten"), silent)


@pytest.mark.slow
def test_files_of_the_published_shapes_render(folder: Path, tmp_path: Path):
    """Import and render at the published sizes, with random weights: some 10 s per frame on one core."""
    files = tmp_path / "files"
    files.mkdir()
    flat = {
        prefix + key: value.clone()
        for prefix, name in published.FLAT_PREFIXES.items()
        for key, value in published.NETWORKS[name.format(side=256)].build().state_dict().items()
    }
    save_file(flat, files / published.FLAT)
    torch.save(
        {"mapping": published.NETWORKS["mapping_full"].build().state_dict()}, files / "mapping_00109-model.pth.tar"
    )
    published.import_sadtalker([files], tmp_path / "pack", silent)
    write_speech(tmp_path / "short.wav", 0.08)
    words = (f"pack={tmp_path}/pack", f"audio={tmp_path}/short.wav", "controls.framing=full")
    record = render_single(configured(folder, tmp_path / "clip.mp4", *words), silent)
    assert (record.frames, record.width, record.height) == (2, 256, 256)
