"""The data card of a folder of features: how much of whom there is, what was left out and why, who is in which split.

It is a fact sheet for people (datacard.md) and for programs (datacard.json). Its hash names the content: which rows,
made how; a model card quotes it. Labelled speech (`scripts.make_labelled_speech`) that lies among the rows has a part
of its own; the hash covers it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from models.interfaces import FPS
from pipeline import storage
from pipeline.features import Origin
from pipeline.observation import detector
from pipeline.prepare import ACCEPTED, ALIKE, PrepareConfig, Verdict, revision
from pipeline.speakers import SPLITS, Speaker
from pipeline.talking_videos import TalkingVideo

LABELLED_SHARD = "labelled-"  # what files of labelled speech begin with, among those of features
LAG_BINS = ((None, -4), (-3, -2), (-1, 1), (2, 3), (4, None))  # frames


def build_card(
    videos: list[TalkingVideo],
    verdicts: dict[str, Verdict],
    everybody: dict[str, Speaker],
    rows: Iterable[Origin],
    config: PrepareConfig,
) -> dict[str, Any]:
    """The card as plain data.

    Args:
        videos: of the manifest.
        verdicts: of all of them.
        everybody: the speakers' numbers and splits.
        rows: that are written.
        config: of the folder, in which labelled speech is looked for.
    """
    rows = sorted(rows, key=lambda row: row.row_id)
    settings = config.model_dump(mode="json", include=set(ALIKE))
    content = {"rows": [(row.row_id, row.split) for row in rows], "settings": settings, "revision": revision()}
    outcomes = Counter(verdict.outcome for verdict in verdicts.values())
    left_out = [(video, verdicts[video.id]) for video in videos if verdicts[video.id].outcome != ACCEPTED]
    lags = [verdict.lag for verdict in verdicts.values() if verdict.outcome == ACCEPTED]
    present = {row.speaker for row in rows}
    card = {
        "hash": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "videos": {"listed": len(videos), **dict(sorted(outcomes.items()))},
        "rows": len(rows),
        "minutes": _minutes(rows),
        "splits": {split: _split([row for row in rows if row.split == split]) for split in SPLITS},
        "languages": {
            language or "unknown": _minutes([row for row in rows if row.language == language])
            for language in sorted({row.language for row in rows})
        },
        "speakers": {
            name: {**vars(speaker), "minutes": _minutes([row for row in rows if row.speaker == name])}
            for name, speaker in everybody.items()
            if name in present
        },
        "styles": 1 + max((speaker.style for speaker in everybody.values()), default=-1),
        "left_out_because": dict(Counter(verdict.hint for _, verdict in left_out).most_common()),
        "left_out": [
            {"id": video.id, "outcome": verdict.outcome, "error": verdict.error, "hint": verdict.hint}
            for video, verdict in left_out
        ],
        "sound_late_by_frames": {_bin_name(*bounds): _count(lags, *bounds) for bounds in LAG_BINS},
        "made_with": {
            "faces": detector() if config.face.backend == "mediapipe" else config.face.backend,
            "talkfarm": version("talkfarm"),
            "revision": revision(),
            "settings": settings,
        },
    }
    return with_labelled(card, config.out)


def with_labelled(card: dict[str, Any], out: str) -> dict[str, Any]:
    """A folder's card with what there is of labelled speech in the folder now; its hash then covers both.

    Args:
        card: with or without labelled speech, of now or before.
        out: the folder.
    """
    real = card.get("labelled", {}).get("real_hash", card["hash"])
    card = {**{name: part for name, part in card.items() if name != "labelled"}, "hash": real}
    digests, frames = [], []
    for shard in labelled_shards(out):
        data = storage.read_bytes(shard)
        digests.append(hashlib.sha256(data).hexdigest())
        frames += _frames_of(data)
    if digests:
        card["hash"] = hashlib.sha256("".join([real, *digests]).encode()).hexdigest()
        card["labelled"] = {"minutes": round(sum(frames) / FPS / 60, 3), "rows": len(frames), "real_hash": real}
    return card


def labelled_shards(out: str) -> list[str]:
    """Addresses of a folder's files of labelled speech, in order."""
    folder = storage.join(out, "features")
    return [storage.join(folder, name) for name in storage.list_names(folder) if name.startswith(LABELLED_SHARD)]


def to_markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    lines = [
        "# Data card",
        "",
        f"{card['minutes']:.1f} minutes of {len(card['speakers'])} speakers in {card['rows']} rows, from "
        f"{card['videos'].get(ACCEPTED, 0)} of {card['videos']['listed']} videos. Content hash `{card['hash'][:16]}`.",
        "",
        "| split | minutes | speakers | rows |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {split['minutes']:.1f} | {split['speakers']} | {split['rows']} |"
        for name, split in card["splits"].items()
    ]
    lines += ["", "No speaker is in two splits.", "", "| language | minutes |", "|---|---|"]
    lines += [f"| {name} | {minutes:.1f} |" for name, minutes in card["languages"].items()]
    if "labelled" in card:
        labelled = card["labelled"]
        lines += [
            "",
            f"Besides, {labelled['minutes']:.1f} minutes of labelled synthetic speech in {labelled['rows']} rows.",
        ]
    lines += ["", "| sound late by, frames (corrected) | videos |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in card["sound_late_by_frames"].items()]
    if card["left_out"]:
        lines += ["", "## Left out", "", "| videos | what to do |", "|---|---|"]
        lines += [f"| {count} | {hint} |" for hint, count in card["left_out_because"].items()]
        lines += ["", *(f"- `{entry['id']}`: {entry['error']}" for entry in card["left_out"])]
    lines += ["", "## Speakers", "", "| speaker | identity | style | split | minutes |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {who['identity']} | {who['style'] if who['style'] >= 0 else ''} | {who['split']} | "
        f"{who['minutes']:.1f} |"
        for name, who in card["speakers"].items()
    ]
    return "\n".join([*lines, "", f"Made with {card['made_with']['faces']}.", ""])


def _frames_of(shard: bytes) -> list[int]:
    """Frames of a shard's rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # not read_table, whose reader threads abort one interpreter exit in a hundred
    return pq.ParquetFile(pa.BufferReader(shard)).read(["frames"], use_threads=False)["frames"].to_pylist()


def _split(rows: list[Origin]) -> dict[str, Any]:
    return {"minutes": _minutes(rows), "speakers": len({row.speaker for row in rows}), "rows": len(rows)}


def _minutes(rows: list[Origin]) -> float:
    return round(sum(row.frames for row in rows) / FPS / 60, 3)


def _count(lags: list[int], low: int | None, high: int | None) -> int:
    return sum((low is None or lag >= low) and (high is None or lag <= high) for lag in lags)


def _bin_name(low: int | None, high: int | None) -> str:
    if low is None:
        return f"{high} or less"
    return f"{low} or more" if high is None else f"{low} to {high}"
