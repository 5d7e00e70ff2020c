"""The render job from the command line, without Ray. Run: pytest tests/jobs/test_render.py"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inputs import write_portrait, write_speech
from jobs.render import main
from pipeline import render_clip
from pipeline.errors import FaceError
from pipeline.media import probe
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is kept from test run to test run, wherever a test has its cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(ROOT / ".pytest_cache" / "numba"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_portrait(folder / "face.png", side_px=320)
    write_speech(folder / "speech.wav", seconds=0.9)
    return folder


def test_one_clip(inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f"portrait={inputs}/face.png", f"audio={inputs}/speech.wav", f"cache.dir={tmp_path}/cache"]
    assert main([*words, f"out={tmp_path}/clip.mp4"]) == 0
    said = capfd.readouterr().out
    assert "first frames are there" in said and f"{tmp_path}/clip.mp4: 0.88 s, 256 x 256" in said
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.fps, info.has_audio) == (256, 256, 25.0, True)
    first = (tmp_path / "clip.mp4").read_bytes()
    assert main([*words, f"out={tmp_path}/again"]) == 0
    assert (tmp_path / "again/face_speech.mp4").read_bytes() == first, "same clip, same seed, same bytes"


def test_one_clip_that_can_not_be(inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "face.png").write_text("not a picture")
    words = [f"portrait={tmp_path}/face.png", f"audio={inputs}/speech.wav", f"out={tmp_path}/clip.mp4"]
    assert main([*words, f"cache.dir={tmp_path}/cache"]) == 3
    said = capfd.readouterr().err
    assert f"{tmp_path}/face.png" in said and "JPEG" in said
    assert not (tmp_path / "clip.mp4").exists()


def test_in_a_notebook(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    record = render_clip(
        inputs / "face.png", inputs / "speech.wav", tmp_path / "clip.mp4", framing="full", pose={"still": True}
    )
    assert (record.width, record.height, record.frames, record.outcome) == (320, 320, 22, "rendered")
    assert (tmp_path / "clip.mp4").stat().st_size == record.size_bytes
    write_portrait(tmp_path / "tiny.png", side_px=40)
    with pytest.raises(FaceError, match=r"tiny\.png"):
        render_clip(tmp_path / "tiny.png", inputs / "speech.wav", tmp_path / "no.mp4")


def test_setup_problems_start_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "portrait": "f.png", "audio": "s.wav"}, {"id": "a", "portrait": "f.png", "audio": "s.wav"}]
    rows += [{"id": "b", "portrait": "f.png", "audio": "s.wav", "controls": {"fraiming": "full"}}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main([f"manifest={tmp_path}/m.jsonl", f"out={tmp_path}/out"]) == 2
    said = capfd.readouterr().err
    assert "framing" in said and "'a'" in said and "2 problems; nothing was started" in said
    assert not (tmp_path / "out").exists()
    assert main([f"manifest={tmp_path}/m.jsonl", "out=x", "rendrer=mesh", "layout=zip"]) == 2
    assert "did you mean 'renderer'" in capfd.readouterr().err


def test_a_missing_bucket_is_a_setup_problem(s3: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"portrait": "f.png", "audio": "s.wav"}))
    assert main([f"manifest={tmp_path}/m.jsonl", "out=s3://no-such-bucket-here/out"]) == 2
    assert "no-such-bucket-here" in capfd.readouterr().err
    assert main(["manifest=s3://no-such-bucket-here/m.jsonl", f"out={tmp_path}/out"]) == 2


@pytest.mark.parametrize("module", ["jobs.render", "pipeline.single", "pipeline.stages", "pipeline.prep"])
def test_light_imports(module: str) -> None:
    heavy = ("torch", "ray", "mediapipe", "librosa", "numba", "cv2")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("system", "needless"), [("articulator", ("torch", "ray", "pandas")), ("envelope", ("torch", "ray", "librosa"))]
)
def test_one_clip_loads_what_it_needs_only(
    system: str, needless: tuple[str, ...], inputs: Path, tmp_path: Path
) -> None:
    words = [f"portrait={inputs}/face.png", f"audio={inputs}/speech.wav", f"out={tmp_path}/clip.mp4"]
    words += [f"motion.system={system}", f"cache.dir={tmp_path}/cache"]
    code = (
        f"import sys; from jobs.render import main; main({words}); "
        f"print([name for name in {needless} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("[]")
