"""From rows per clip to a table per run: means, medians, 95 % intervals. Reads rows only."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation import SCORED
from pipeline.metrics.table import METRICS, RUN_METRICS, Metric
from pipeline.networks import NO_WEIGHTS
from pipeline.run_scores import emotion_accuracy, fid
from pipeline.scoring import Value, Values

RESAMPLES = 2000
NOTHING = float("nan")
Rows = list[dict[str, Any]]

TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ s.runs|join(", ") }}: scores</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222 }
  h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
  table { border-collapse: collapse } .small { color: #666; font-size: .85rem }
  td, th { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums }
  td:first-child, th:first-child { text-align: left }
</style>
<h1>Scores of {{ s.runs|join(", ") }}</h1>
{% for title, rows in tables %}<h2>{{ title }}</h2>
<table><tr>{% for cell in head %}<th>{{ cell }}{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>
{% endfor %}</table>{% endfor %}
{% for line in lines %}<p class="small">{{ line }}</p>
{% endfor %}
{% if failed %}<h2>Not scored</h2>
<table><tr><th>run<th>clip<th>why</tr>{% for row in failed %}
<tr><td>{{ row.run }}<td>{{ row.clip_id }}<td style="text-align: left">{{ row.outcome }}: {{ row.error }}<br>
<span class="small">{{ row.hint }}</span></tr>{% endfor %}</table>{% endif %}
</html>
"""


@dataclass(frozen=True)
class Estimate:
    """A metric over the clips of a run, each clip counting once.

    Args:
        mean, median: over clips.
        low, high: 95 % interval of the mean, by resampling speakers.
        real, scrambled: means of the real clips' values and of the scrambled pairs'.
        clips, frames: how many it is from.
        note: why there is no value, where all clips have the same reason.
    """

    mean: float
    median: float
    low: float
    high: float
    real: float
    scrambled: float
    clips: int
    frames: int
    note: str = ""


def summarise(rows: Rows, detector: str) -> dict[str, Any]:
    """What summary.json holds: every run's estimates over the clips that all runs have scored."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    scored = [row for row in rows if row["outcome"] == SCORED]
    common = set.intersection(*({row["clip_id"] for row in scored if row["run"] == run} for run in runs))
    result: dict[str, Any] = {"detector": detector, "runs": runs, "clips": len(common), "metrics": {}}
    for metric in METRICS:
        of_runs = {}
        for run in runs:
            mine = [row for row in scored if row["run"] == run and row["clip_id"] in common]
            of_runs[run] = vars(estimate(mine, metric))
        result["metrics"][metric.name] = _about(metric) | {"runs": of_runs}
    of_runs = {run: _run_values([r for r in scored if r["run"] == run and r["clip_id"] in common]) for run in runs}
    for metric in RUN_METRICS:
        values = {run: found[metric.name] for run, found in of_runs.items()}
        estimates = {run: vars(_whole(value, result["clips"])) for run, value in values.items()}
        result["metrics"][metric.name] = _about(metric) | {"runs": estimates}
    result["failed"] = [
        {key: row[key] for key in ("run", "clip_id", "outcome", "error", "hint")} for row in rows if row not in scored
    ]
    return result


def _about(metric: Metric) -> dict[str, Any]:
    return {
        "title": metric.title,
        "unit": metric.unit,
        "better": metric.better,
        "tier": metric.tier,
        "is_main": metric.is_main,
    }


def _run_values(rows: Rows) -> Values:
    """FID, KID and Emo_Acc of one run."""
    both = [row for row in rows if row["features"] is not None and row["real_features"] is not None]
    told = [row for row in rows if row["emotion"] and row["emotions"] is not None]
    values = fid([row["features"] for row in both], [row["real_features"] for row in both])
    if told:
        values["emo_acc"] = emotion_accuracy([row["emotion"] for row in told], [row["emotions"] for row in told])[0]
    else:
        values["emo_acc"] = Value(NOTHING, 0, "no clip with a label")
    for cargo, names in (("features", ("fid", "kid")), ("emotions", ("emo_acc",))):
        if _shared_note(rows, cargo) == NO_WEIGHTS:
            values |= {name: Value(NOTHING, 0, NO_WEIGHTS) for name in names}
    return values


def _shared_note(rows: Rows, column: str) -> str:
    """The reason why a column has no values, if it is the same in all rows."""
    notes = {row[f"{column}_note"] for row in rows}
    return notes.pop() if len(notes) == 1 else ""


def _whole(value: Value, clips: int) -> Estimate:
    """A run's value as an estimate without a spread."""
    clips = clips if np.isfinite(value.value) else 0
    return Estimate(value.value, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, clips, value.frames, value.note)


def estimate(rows: Rows, metric: Metric) -> Estimate:
    """One metric over the clips that have it."""
    note = _shared_note(rows, metric.name)
    rows = [row for row in rows if np.isfinite(row[metric.name])]
    values = np.array([row[metric.name] for row in rows], float)
    if not len(values):
        return Estimate(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, 0, 0, note)
    low, high = bootstrap(values, [row["speaker"] or row["clip_id"] for row in rows])
    return Estimate(
        float(values.mean()),
        float(np.median(values)),
        low,
        high,
        _mean(rows, f"{metric.name}_real"),
        _mean(rows, f"{metric.name}_scrambled"),
        len(values),
        sum(row[f"{metric.name}_frames"] for row in rows),
    )


def bootstrap(values: np.ndarray, groups: list[str], resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of the mean when whole groups are drawn with replacement (percentile method, one fixed seed).

    Args:
        values: shape (N,).
        groups: of each value, usually its speaker.
    Returns:
        NaN for a single group.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for k, group in enumerate(groups):
        members[group].append(k)
    if len(members) < 2:
        return float("nan"), float("nan")
    sums = np.array([values[m].sum() for m in members.values()])
    counts = np.array([len(m) for m in members.values()])
    drawn = np.random.default_rng(0).integers(len(members), size=(resamples, len(members)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def to_markdown(summary: dict[str, Any]) -> str:
    """The tables for people."""
    lines = [f"# Scores of {', '.join(summary['runs'])}", "", *_explained(summary)]
    for title, rows in _tables(summary):
        head = _head(summary)
        lines += ["", f"## {title}", "", _line(head), _line(["---"] + ["--:"] * (len(head) - 1))]
        lines += [_line(row) for row in rows]
    if summary["failed"]:
        lines += ["", "## Not scored", ""]
        lines += [
            f"- {r['run']} / {r['clip_id']}: {r['outcome']}: {r['error']} ({r['hint']})" for r in summary["failed"]
        ]
    return "\n".join(lines) + "\n"


def to_html(summary: dict[str, Any]) -> str:
    """The same as a page; everything from outside is escaped."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(
        s=summary, tables=_tables(summary), head=_head(summary), lines=_explained(summary), failed=summary["failed"]
    )


def _explained(summary: dict[str, Any]) -> list[str]:
    return [
        f"{summary['clips']} clips that all runs have scored; {len(summary['failed'])} rows not scored.",
        "Cells: mean (median) [95 % interval of the mean, speakers resampled]. Real: the real clips' own value. "
        "Scrambled: the same video against another clip's sound and face.",
        "Tier A needs no weights, B a landmark detector, C a network of its own.",
        f"Detector: {summary['detector']}. Don't compare figures of different detectors.",
    ]


def _tables(summary: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    main = [m for m in summary["metrics"].values() if m["is_main"]]
    rest = [m for m in summary["metrics"].values() if not m["is_main"]]
    return [("Main table", [_row(summary, m) for m in main]), ("Further metrics", [_row(summary, m) for m in rest])]


def _head(summary: dict[str, Any]) -> list[str]:
    return ["metric", "better", *summary["runs"], "real clip", "scrambled pair", "tier", "clips", "frames"]


def _row(summary: dict[str, Any], metric: dict[str, Any]) -> list[str]:
    of_runs = metric["runs"]
    name = metric["title"] + (f", {metric['unit']}" if metric["unit"] else "")
    better = {"real": "near real", "zero": "near 0"}.get(metric["better"], metric["better"])
    cells = [_cell(of_runs[run]) for run in summary["runs"]]
    all_runs = list(of_runs.values())
    real = next((e["real"] for e in all_runs if np.isfinite(e["real"])), float("nan"))
    scrambled = " / ".join(_number(e["scrambled"]) for e in all_runs)
    clips, frames = (" / ".join(dict.fromkeys(str(e[key]) for e in all_runs)) for key in ("clips", "frames"))
    return [name, str(better), *cells, _number(real), scrambled, str(metric["tier"]), clips, frames]


def _cell(estimate: dict[str, Any]) -> str:
    if not estimate["clips"]:
        return NO_WEIGHTS if estimate["note"] == NO_WEIGHTS else "-"
    text = _number(estimate["mean"])
    if np.isfinite(estimate["median"]):
        text += f" ({_number(estimate['median'])})"
    if np.isfinite(estimate["low"]):
        text += f" [{_number(estimate['low'])}, {_number(estimate['high'])}]"
    return text


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _mean(rows: Rows, column: str) -> float:
    values = np.array([row[column] for row in rows], float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
