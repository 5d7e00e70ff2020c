"""The check before a job, as a user meets it: `python -m pytest tests/jobs/test_plan.py`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import plan
from pipeline import storage

SPEECH = Path(__file__).parents[2] / "demo" / "speech" / "hello_en.flac"


def write_manifest(folder: Path, rows: list[dict]) -> str:
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"manifest={folder / 'm.jsonl'}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a face, two faces, no face, and speech."""
    from skimage import data

    folder = tmp_path_factory.mktemp("inputs")
    astronaut = data.astronaut()[:350, 80:400]
    Image.fromarray(astronaut).save(folder / "face.png")
    close = data.astronaut()[:250, 130:330]
    Image.fromarray(np.hstack([close, close[:, ::-1]])).save(folder / "two.png")
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(folder / "flat.png")
    shutil.copy(SPEECH, folder / "voice.flac")
    return folder


def test_every_bad_input_is_named_with_its_clips(inputs: Path, tmp_path: Path, s3: str, capsys: pytest.CaptureFixture):
    storage.write_atomic(storage.join(s3, "voice.flac"), inputs / "voice.flac")
    face, voice = str(inputs / "face.png"), str(inputs / "voice.flac")
    rows = [
        {"id": "good", "portrait": face, "audio": storage.join(s3, "voice.flac")},
        {"id": "flat", "portrait": str(inputs / "flat.png"), "audio": voice},
        {"id": "two", "portrait": str(inputs / "two.png"), "audio": voice},
        {"id": "mute", "portrait": str(inputs / "face.pgn"), "audio": storage.join(s3, "gone.wav")},
    ]
    rows += [{"id": f"more{number}", "portrait": face, "audio": face} for number in range(5)]
    words = [write_manifest(tmp_path, rows), f"cache.dir={inputs}/cache", f"json={tmp_path}/plan.json"]
    assert plan.main(words) == 3
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("checked ")]  # if slow
    assert len(said) == 7, said
    assert said[0].startswith("warning") and "several faces: 2 found, the largest one is taken  [two]" in said[0]
    assert "flat.png" in said[1] and "[flat]" in said[1]
    assert "face.pgn does not exist (did you mean 'face.png'?)  [mute]" in said[2]
    assert "gone.wav does not exist" in said[3]
    assert "[more0, more1, more2 and 2 more]" in said[4]
    assert said[5].startswith("2 of 9 clips would be rendered: 0.2 minutes of video from 4 portraits and 4 recordings")
    assert said[6] == "7 would not be rendered, 1 would be rendered with a warning"
    found = json.loads((tmp_path / "plan.json").read_text())
    assert (found["exit_code"], found["would_render"], found["clips"]) == (3, 2, 9)
    assert [problem["clips"] for problem in found["problems"]][-1] == [f"more{number}" for number in range(5)]
    assert {problem["kind"] for problem in found["problems"]} == {"portrait", "audio"}
    assert found["minutes"] == pytest.approx(2 * 5.4 / 60, abs=0.005)


def test_a_good_job_whose_inputs_are_known_already(inputs: Path, capsys: pytest.CaptureFixture):
    words = [f"portrait={inputs}/face.png", f"audio={inputs}/voice.flac", f"cache.dir={inputs}/cache"]
    assert plan.main(words) == 0
    assert "1 of 1 clips would be rendered: 0.1 minutes of video" in capsys.readouterr().out


def test_a_bad_manifest_ends_before_anything_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = [{"id": "a", "portrait": "p", "audio": "a"}, {"id": "a", "portrait": "p", "audoi": "a"}]
    words = [write_manifest(tmp_path, rows), f"json={tmp_path}/plan.json"]
    assert plan.main(words) == 2
    problems = [
        "m.jsonl line 2 (id 'a'): 'audio' is missing",
        "m.jsonl line 2 (id 'a'): unknown key 'audoi'; did you mean 'audio'?",
        "m.jsonl line 1, line 2: the same id 'a'; ids must be unique, they name videos",
    ]
    assert capsys.readouterr().err.splitlines() == [*problems, "3 problems, nothing was checked"]
    assert json.loads((tmp_path / "plan.json").read_text()) == {"exit_code": 2, "setup": problems}


def test_a_bad_setting_ends_before_anything_is_opened(capsys: pytest.CaptureFixture):
    assert plan.main(["manifest=m.jsonl", "encode.crf=99"]) == 2
    assert "'encode.crf' is 99, but must be a whole number from 0 to 51" in capsys.readouterr().err


def test_help_is_light_and_complete():
    code = "import sys\nfrom jobs import plan\ntry: plan.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(', '.join({'torch', 'ray', 'mediapipe', 'cv2', 'librosa'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    for word in ("python -m jobs.plan manifest=", "json=", "encode.crf=18", "controls.pose.yaw="):
        assert word in done.stdout
