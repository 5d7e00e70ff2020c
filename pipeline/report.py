"""What came of a job: numbers, failures grouped by reason, a page with pictures. Reads records only."""

import json
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.commit import Output
from pipeline.plan import Plan
from pipeline.records import RENDERED, STAGES, Record

READERS = 16  # records are small: reading them is waiting
IDS_SHOWN = 5  # per reason, in the final table


@dataclass(frozen=True)
class Report:
    """The end of a job.

    Args:
        numbers: what report.json holds.
        records: of all clips of the manifest, in its order.
    """

    numbers: dict[str, Any]
    records: list[Record]

    @property
    def all_rendered(self) -> bool:
        """Whether there is a video of every clip."""
        return all(record.outcome == RENDERED for record in self.records)

    def table(self) -> str:
        """The final lines for a terminal."""
        numbers = self.numbers
        clips, now = numbers["clips"], numbers["this_run"]
        ended = ", ".join(f"{count} {outcome}" for outcome, count in clips.items() if outcome != "total" and count)
        lines = [f"{clips['total']} clips: {ended}"]
        if now["clips"]:
            lines.append(
                f"this run: {now['rendered']} of {now['clips']} rendered in {now['wall_s']:.0f} s, "
                f"{now['clips_per_min']:.1f} clips/min, {now['video_s_per_s']:.1f} s of video per second"
            )
        else:
            lines.append("this run: nothing was left to do")
        if numbers["warnings"]:
            found = ", ".join(f"{text} ({count})" for text, count in numbers["warnings"].items())
            lines.append(f"warnings: {found}")
        for failure in numbers["failures"]:
            ids = failure["clips"]
            shown = ", ".join(ids[:IDS_SHOWN]) + (f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else "")
            lines += [f"{len(ids)} {failure['outcome']}: {failure['error']}", f"    {failure['hint']}", f"    {shown}"]
        return "\n".join([*lines, f"videos and report: {numbers['out']}"])


def build_report(plan: Plan, output: Output, run_id: str, wall_s: float) -> Report:
    """Read the records of all clips of a plan and count.

    Args:
        wall_s: how long the run took.
    """
    with ThreadPoolExecutor(READERS) as pool:
        failed = output.failed()
        records = list(
            pool.map(
                lambda item: output.read_failed(item[0]) if item[0] in failed else output.read(*item),
                plan.hashes.items(),
            )
        )
    outcomes = Counter(record.outcome for record in records)
    made = [record for record in records if record.outcome == RENDERED]
    fresh = [record for record in made if record.run == run_id]
    fresh_s = sum(record.duration_s for record in fresh)
    numbers = {
        "run": run_id,
        "out": output.uri,
        "clips": {"total": len(records), **outcomes},
        "video_s": round(sum(record.duration_s for record in made), 2),
        "video_bytes": sum(record.size_bytes for record in made),
        "this_run": {
            "clips": len(plan.tasks),
            "rendered": len(fresh),
            "wall_s": round(wall_s, 2),
            "video_s": round(fresh_s, 2),
            "clips_per_min": round(60 * len(fresh) / wall_s, 2),
            "video_s_per_s": round(fresh_s / wall_s, 3),
            "stage_s": {
                stage: round(sum(getattr(record, f"seconds_{stage}") for record in fresh), 2) for stage in STAGES
            },
        },
        "warnings": dict(Counter(text for record in records for text in record.warnings).most_common()),
        "failures": _group(record for record in records if record.outcome != RENDERED),
    }
    return Report(numbers, records)


def write_report(report: Report, output: Output) -> None:
    """Write report.json and report.html."""
    from pipeline import storage
    from pipeline.page import draw_page

    storage.write_atomic(output.path("report.json"), json.dumps(report.numbers, indent=2, ensure_ascii=False).encode())
    storage.write_atomic(output.path("report.html"), draw_page(report).encode())


def _group(records: Any) -> list[dict[str, Any]]:
    """Failures by reason, the most frequent first."""
    groups: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for record in records:
        groups[(record.outcome, record.stage, _reason(record), record.hint)].append(record.clip_id)
    named = [
        {"outcome": outcome, "stage": stage, "error": error, "hint": hint, "clips": ids}
        for (outcome, stage, error, hint), ids in groups.items()
    ]
    return sorted(named, key=lambda group: -len(group["clips"]))


def _reason(record: Record) -> str:
    """The error without the names of the clip's own files, which would make every failure a kind of its own."""
    return record.error.replace(record.portrait, "the portrait").replace(record.audio, "the recording")
