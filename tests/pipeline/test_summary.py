"""Means, intervals and tables of made-up rows."""

import json

import numpy as np
import pytest

from pipeline.evaluation import SCORED, EvaluateConfig, Task, blank_row
from pipeline.pairs import Pair
from pipeline.scores import to_parquet, write_scores
from pipeline.summary import bootstrap, summarise, to_html, to_markdown


def rows_of(run: str, sync: list[float], speakers: str) -> list[dict]:
    result = []
    for number, (value, speaker) in enumerate(zip(sync, speakers)):
        row = blank_row(Task(run, Pair(id=f"c{number}", video="v.mp4", speaker=speaker)))
        result.append(row | {"outcome": SCORED, "sync": value, "sync_real": 0.5, "sync_frames": 100})
    return result


def test_interval_resamples_speakers():
    values = np.array([0.0, 0, 0, 0, 1, 1, 1, 1])
    alone = bootstrap(values, list("abcdefgh"))
    together = bootstrap(values, list("aaaabbbb"))
    assert alone[0] > 0.1 and alone[1] < 0.9
    assert together == (0.0, 1.0)
    assert np.isnan(bootstrap(values, ["a"] * 8)).all()
    rng = np.random.default_rng(1)
    sample = rng.normal(5, 2, 400)
    low, high = bootstrap(sample, [str(k) for k in range(400)])
    assert (high - low) / 2 == pytest.approx(1.96 * sample.std() / 20, rel=0.1)


def test_runs_are_compared_over_common_clips():
    rows = rows_of("ours", [0.4, 0.6, 0.8], "abc") + rows_of("theirs", [0.1, 0.3], "ab")
    rows[2] |= {"outcome": SCORED}
    summary = summarise(rows, "a detector")
    assert summary["clips"] == 2
    ours = summary["metrics"]["sync"]["runs"]["ours"]
    assert (ours["mean"], ours["median"], ours["real"], ours["clips"], ours["frames"]) == (0.5, 0.5, 0.5, 2, 200)
    assert np.isnan(ours["scrambled"])
    assert summary["metrics"]["psnr"]["runs"]["ours"]["clips"] == 0


def test_tables_show_runs_side_by_side_and_what_went_wrong(tmp_path):
    rows = rows_of("ours", [0.4, 0.6], "ab") + rows_of("<theirs>", [0.1, 0.3], "ab")
    rows[3] |= {"outcome": "rejected", "error": "no face", "hint": "use a face"}
    config = EvaluateConfig(runs={"ours": "a", "<theirs>": "b"}, out=str(tmp_path))
    table = write_scores(rows, config)
    assert "| sync (probe confidence) | high | 0.400 (0.400) | 0.100 (0.100) | 0.500 |" in table
    assert "- <theirs> / c1: rejected: no face (use a face)" in table
    assert "Tier A needs no weights" in table and "mediapipe" in table
    page = (tmp_path / "table.html").read_text()
    assert "&lt;theirs&gt;" in page and "<theirs>" not in page
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["metrics"]["psnr"]["runs"]["ours"]["mean"] is None
    assert {path.name for path in tmp_path.iterdir()} >= {"scores.parquet", "config.yaml", "table.md"}


def test_columns_without_weights_say_so():
    rows = rows_of("ours", [0.4, 0.6], "ab") + rows_of("theirs", [0.1, 0.3], "ab")
    lacking = {"lse_c_note": "no weights", "features_note": "no weights", "csim_note": "no weights"}
    rows = [row | lacking for row in rows]
    rows[0]["csim_note"] = "no face"
    summary = summarise(rows, "a detector")
    for table in (to_markdown(summary), to_html(summary).replace("<td>", " | ")):
        lines = {line.split(" | ")[0].lstrip("| "): line for line in table.replace("<tr> | ", "| ").splitlines()}
        assert lines["LSE-C"].count("no weights") == lines["FID"].count("no weights") == 2
        assert lines["CSIM"].count("no weights") == 1, "the other run has another reason"
        assert "no weights" not in lines["Emo_Acc"], "there is a network, but no label"
    assert summary["metrics"]["csim"]["runs"]["ours"]["note"] == ""
    assert summary["metrics"]["emo_acc"]["runs"]["ours"]["note"] == "no clip with a label"


def test_rows_survive_parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = rows_of("ours", [0.4, 0.6], "ab")
    read = pq.read_table(pa.BufferReader(to_parquet(rows))).to_pylist()
    assert [row["sync"] for row in read] == [0.4, 0.6]
    assert np.isnan(read[0]["psnr"])


def test_markdown_and_page_have_all_metrics():
    summary = summarise(rows_of("ours", [0.4], "a"), "d")
    for text in (to_markdown(summary), to_html(summary)):
        assert "PSNR, dB" in text and "Beat Align" in text and "gaze error" in text
