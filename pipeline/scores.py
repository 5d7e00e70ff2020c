"""A whole evaluation: runs in, rows, summary and tables out."""

import json
from collections.abc import Callable
from typing import Any

from pipeline import storage
from pipeline.config import dump_config
from pipeline.evaluation import CARGO, EvaluateConfig, plan_tasks
from pipeline.observation import detector
from pipeline.summary import Rows, summarise, to_html, to_markdown


def evaluate(config: EvaluateConfig, tell: Callable[[str], None]) -> Rows:
    """Score, write, and tell the table; the rows.

    Raises:
        SetupError: the runs can't be read; nothing was started.
        TalkfarmError: the scores can't be written.
    """
    tasks = plan_tasks(config)
    tell(f"{len(tasks)} videos in {len(config.runs)} runs")
    from pipeline.evaluation_flow import run  # imports Ray

    rows = run(tasks, config, tell)
    tell(f"\n{write_scores(rows, config)}\nscores and tables: {config.out}")
    return rows


def write_scores(rows: Rows, config: EvaluateConfig) -> str:
    """Write scores.parquet, summary.json, table.md, table.html and config.yaml; returns the Markdown table."""
    summary = summarise(rows, detector())
    table = to_markdown(summary)
    files = {
        "config.yaml": dump_config(config).encode(),
        "scores.parquet": to_parquet([_plain(row) | {"detector": summary["detector"]} for row in rows]),
        "summary.json": json.dumps(_without_nan(summary), indent=1, ensure_ascii=False).encode(),
        "table.md": table.encode(),
        "table.html": to_html(summary).encode(),
    }
    for name, content in files.items():
        storage.write_atomic(storage.join(config.out, name), content)
    return table


def to_parquet(rows: Rows) -> bytes:
    """Rows as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its arrays."""
    return {key: value for key, value in row.items() if key not in CARGO}


def _without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON doesn't know."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
