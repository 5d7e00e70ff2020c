"""Labelled speech beside real features, with made utterances. Run: pytest tests/pipeline/test_labelled_speech.py"""

import json
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.interfaces import SAMPLE_RATE
from models.teachers.visemes import LABELLED, Phone
from pipeline.config import load_settings
from pipeline.datacard import build_card, to_markdown
from pipeline.features import META_COLUMNS, Origin
from pipeline.prepare import ACCEPTED, ALIKE, PrepareConfig, Verdict, revision
from pipeline.reserved import reserve
from pipeline.speakers import Speaker
from pipeline.talking_videos import TalkingVideo
from scripts import make_labelled_speech
from scripts.make_labelled_speech import Espeak, Utterance, main


@pytest.fixture(autouse=True)
def _made_utterances(monkeypatch):
    """No synthesiser: 1.2 s of noise of four voices in turn."""

    def utterances(rng: np.random.Generator) -> Iterator[Utterance]:
        number = 0
        while True:
            phones = [Phone(0.0, 0.3, "m"), Phone(0.3, 0.8, "a"), Phone(0.8, 1.2, "p")]
            samples = rng.normal(0, 0.1, 19200).astype(np.float32)
            yield Utterance(f"voice{number % 4}", "en", samples, phones)
            number += 1

    monkeypatch.setattr(make_labelled_speech, "_utterances", utterances)
    monkeypatch.setattr(make_labelled_speech, "ROWS_PER_SHARD", 3)


def config_of(out: Path) -> PrepareConfig:
    return load_settings(PrepareConfig, ["videos=videos.csv", f"out={out}"])


def real_card(out: Path) -> dict:
    """What jobs.prepare says of one video of one speaker."""
    verdict = Verdict(ACCEPTED, sha256="5" * 64, frames=250)
    origin = Origin("row", "talk", verdict.sha256, "ann", "en", "train", 0, 0, "open", 0, 250, 0)
    video = TalkingVideo(video="/talk.mp4", id="talk", speaker="ann")
    return build_card([video], {"talk": verdict}, {"ann": Speaker(0, 0, "train")}, [origin], config_of(out))


def write_card(out: Path, card: dict) -> None:
    out.mkdir(exist_ok=True)
    (out / "datacard.json").write_text(json.dumps(card))
    (out / "datacard.md").write_text(to_markdown(card))


def read_card(out: Path) -> dict:
    return json.loads((out / "datacard.json").read_text())


def read_rows(out: Path) -> list[dict]:
    return [row for path in sorted((out / "features").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_voices_are_no_real_speakers(tmp_path: Path):
    assert main([f"out={tmp_path}", "minutes=0.12"]) == 0
    rows = read_rows(tmp_path)
    assert len(rows) == 6 and all(row["speaker"].startswith(LABELLED) for row in rows)
    assert {row["identity"] for row in rows} == {-1, -2, -3, -4}
    assert len({(row["speaker"], row["identity"], row["split"]) for row in rows}) == 4
    assert set(META_COLUMNS) < set(rows[0])


def test_an_earlier_run_is_replaced(tmp_path: Path):
    main([f"out={tmp_path}", "minutes=0.2"])
    before = {row["row_id"]: row["mel"] for row in read_rows(tmp_path)}
    write_card(tmp_path, real_card(tmp_path))
    main([f"out={tmp_path}", "minutes=0.06", "seed=1"])
    rows = read_rows(tmp_path)
    assert len(rows) == 3 < len(before) and all(row["mel"] != before[row["row_id"]] for row in rows)
    labels = [json.loads(line)["row_id"] for line in (tmp_path / "phones.jsonl").read_text().splitlines()]
    assert labels == sorted(path.stem for path in (tmp_path / "speech").iterdir()) == [row["row_id"] for row in rows]
    assert read_card(tmp_path)["labelled"]["rows"] == 3


@pytest.mark.parametrize("finished", [True, False])
def test_another_coefficient_space_is_refused_before_anything_is_written(tmp_path: Path, finished: bool, capsys):
    config = load_settings(PrepareConfig, ["videos=videos.csv", f"out={tmp_path}", "space=bfm", f"pack={tmp_path}"])
    if finished:
        card = real_card(tmp_path)
        card["made_with"]["settings"]["space"] = "bfm"
        write_card(tmp_path, card)
    else:
        reserve(str(tmp_path), config, ALIKE, "features", revision=revision())
    before = sorted(tmp_path.rglob("*"))
    assert main([f"out={tmp_path}", "minutes=0.1"]) == 2
    assert "space 'bfm'" in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


def test_the_card_knows_of_labelled_speech_whoever_writes_it_last(tmp_path: Path):
    alone = real_card(tmp_path)
    assert "labelled" not in alone
    write_card(tmp_path, alone)
    main([f"out={tmp_path}", "minutes=0.12"])
    both = read_card(tmp_path)
    assert both["labelled"] == {"minutes": 0.12, "rows": 6, "real_hash": alone["hash"]}
    assert both["hash"] != alone["hash"] and {**both, "hash": "", "labelled": ""} == {
        **alone,
        "hash": "",
        "labelled": "",
    }
    assert "6 rows" in (tmp_path / "datacard.md").read_text()
    assert real_card(tmp_path) == both, "a rerun of jobs.prepare keeps it"

    main([f"out={tmp_path}", "minutes=0.12"])
    assert read_card(tmp_path)["hash"] == both["hash"], "the same speech again"
    main([f"out={tmp_path}", "minutes=0.12", "seed=1"])
    other = read_card(tmp_path)
    assert other["hash"] != both["hash"] and other["labelled"]["real_hash"] == alone["hash"]
    for shard in (tmp_path / "features").glob("labelled-*"):
        shard.unlink()
    assert real_card(tmp_path) == alone


@pytest.mark.skipif(not find_library("espeak-ng"), reason="needs the library of Debian's espeak-ng")
def test_phones_of_the_synthesiser_follow_one_another():
    spoken = Espeak().say("big mom, pay up.", "en-us", "", np.random.default_rng(0))
    starts, ends = ([getattr(phone, side) for phone in spoken.phones] for side in ("start", "end"))
    assert starts[1:] == ends[:-1] and ends[-1] <= len(spoken.samples) / SAMPLE_RATE + 1e-6
    assert sum(phone.ipa in ("p", "b", "m") for phone in spoken.phones) == 5
