"""What a command line means, and what is said about a bad one: `python -m pytest tests/pipeline/test_config.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

from models import registry
from pipeline import storage
from pipeline.config import RenderConfig, describe, dump_config, load_config
from pipeline.errors import SetupError


def problems_of(*words: str) -> list[str]:
    with pytest.raises(SetupError) as caught:
        load_config(list(words))
    return caught.value.problems


def test_a_manifest_is_enough():
    config = load_config(["manifest=m.jsonl"])
    assert config.manifest == "m.jsonl"
    assert config.layout == "files"
    assert config == RenderConfig(manifest="m.jsonl")


def test_later_words_win(tmp_path: Path):
    (tmp_path / "night.yaml").write_text(
        "manifest: night.jsonl\nencode:\n  crf: 25\n  preset: slow\ncontrols:\n  blink:\n    mode: off\n"
    )
    (tmp_path / "more.yaml").write_text("encode: {crf: 26}")
    config = load_config(["encode.crf=30", f"config={tmp_path}/night.yaml"])
    assert (config.encode.crf, config.encode.preset, config.manifest) == (30, "slow", "night.jsonl")
    assert config.controls.blink.mode == "off"
    assert load_config([f"config={tmp_path}/night.yaml", f"config={tmp_path}/more.yaml"]).encode.crf == 26


def test_a_config_file_may_be_anywhere(s3: str):
    uri = storage.join(s3, "night.yaml")
    storage.write_atomic(uri, b"manifest: m.jsonl\ncontrols: {size: 512}\n")
    assert load_config([f"config={uri}"]).controls.size == 512


@pytest.mark.parametrize("name", ["a b: c #1.png", "007", "[x].png", "{x}.png", "~", "null", "1e3", "a=b.png", "- a"])
def test_file_names_are_taken_as_they_stand(name: str):
    config = load_config([f"portrait={name}", "audio=a.wav"])
    assert config.portrait == name


def test_other_values_are_yaml():
    config = load_config(["manifest=m", "controls.pose.yaw=[0, 10.5, 0]", "controls.pose.still=true", "encode.crf=3"])
    assert config.controls.pose.yaw == [0.0, 10.5, 0.0]
    assert config.controls.pose.still is True
    options = load_config(["manifest=m", "storage.options.anon=true", "storage.options.key=abc"]).storage.options
    assert options == {"anon": True, "key": "abc"}


def test_all_problems_are_told_at_once():
    assert problems_of(
        "manifest=m.jsonl", "oops", "framing=full", "controls.fraiming=full", "encode.crf=99", "encode.preset=quick",
        "motion.system=shouting", "flow=3", "layuot=tar", "controls.gaze.mode={",
    ) == [
        "'oops' is not of the form key=value",
        "'controls.gaze.mode={': the value is not YAML: while parsing a flow node",
        "unknown key 'controls.fraiming'; did you mean 'controls.framing'?",
        f"'motion.system' is 'shouting', but must be {' or '.join(map(repr, registry.MOTION_SYSTEMS))}",
        "'encode.crf' is 99, but must be a whole number from 0 to 51",
        "'encode.preset' is 'quick', but must be 'ultrafast' or 'superfast' or 'veryfast' or 'faster' or 'fast' or "
        "'medium' or 'slow' or 'slower'",
        "'flow' is 3, but must be a group of settings (render_actors, motion_actors, prep_cpus, "
        "gpus_per_render_actor, max_row_mb, rows_per_tar, progress_every_s)",
        "unknown key 'framing'; did you mean 'controls.framing'?",
        "unknown key 'layuot'; did you mean 'layout'?",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to do: give manifest=FILE, or portrait=FILE audio=FILE for a single clip"),
        (["portrait=a.png"], "'audio' is missing: a single clip needs portrait=... and audio=..."),
        (["manifest=m", "audio=a"], "'manifest' and 'portrait' + 'audio' exclude each other: give one of them"),
        (["manifest=m", "out=${nothing}"], "settings can't be combined: Interpolation key 'nothing' not found"),
        (["manifest=m", "out"], "'out' is not of the form key=value"),
        (["manifest=m", "encode.crf.x=3"], "'encode.crf' is {'x': 3}, but must be a whole number from 0 to 51"),
    ],
)
def test_each_problem_is_one_sentence(words: list[str], said: str):
    assert problems_of(*words) == [said]


def test_bad_config_files_are_named(tmp_path: Path):
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "broken.yaml").write_text("a: [1\nb: }")
    said = problems_of(*[f"config={tmp_path}/{name}.yaml" for name in ("list", "broken", "gone")], "manifest=m")
    assert len(said) == 3
    assert said[0].endswith("list.yaml is not a list of key: value lines")
    assert "broken.yaml is not YAML" in said[1]
    assert "gone.yaml does not exist" in said[2]


def test_motion_and_renderer_must_share_a_coefficient_space(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(registry.RENDERERS, "warped", registry.Entry("bfm", object))
    (problem,) = problems_of("manifest=m", "renderer=warped")
    assert "'articulator' speaks the coefficient space 'open'" in problem
    assert "'warped' understands 'bfm'" in problem
    assert "renderers of 'open': mesh" in problem


def test_a_dumped_config_reads_back_without_secrets(tmp_path: Path):
    config = load_config(["manifest=m", "controls.pose.yaw=[1,2]", "storage.options.secret=hush", "encode.crf=4"])
    text = dump_config(config)
    assert "hush" not in text
    (tmp_path / "config.yaml").write_text(text)
    again = load_config([f"config={tmp_path}/config.yaml", "storage.options.secret=hush"])
    assert again == config


def test_help_names_every_setting():
    text = describe()
    for key in ("manifest=", "out=out", "controls.pose.still=false", "encode.crf=18", "cache.dir=", "motion.system="):
        assert f"{key}" in text
    assert "None" not in text


def test_reading_a_config_is_light():
    code = "import sys, pipeline.config, pipeline.manifest; heavy = {'torch', 'ray', 'mediapipe', 'librosa', 'cv2', "
    code += "'pandas', 'numba'} & set(sys.modules); sys.exit(', '.join(heavy) if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("jobs/configs/*.yaml")), ids=lambda path: path.stem
)
def test_shipped_configs_are_valid(path: Path):
    assert load_config([f"config={path}", "manifest=m.jsonl"]) != load_config(["manifest=m.jsonl"])
