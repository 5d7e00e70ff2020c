"""A whole preparation: manifest in, features and data card out."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from pipeline import storage
from pipeline.datacard import build_card, to_markdown
from pipeline.errors import TransientError
from pipeline.prepare import (
    ACCEPTED,
    ALIKE,
    DUPLICATE,
    PrepareConfig,
    check_pack,
    keys_of,
    read_verdicts,
    revision,
)
from pipeline.prepare_plan import enrol_speakers, plan_rows, without_duplicates
from pipeline.reserved import reserve
from pipeline.talking_videos import read_videos, warnings_of

SHOWN = 5  # causes of missing rows that are told


def prepare(config: PrepareConfig, tell: Callable[[str], None]) -> dict[str, Any]:
    """Follow new videos, write missing rows, write the card; the card.

    Raises:
        SetupError: manifest or output folder can't be used; nothing was started.
        TransientError: rows are missing for a cause that may pass.
        TalkfarmError: the folder can't be written.
    """
    storage.configure(config.storage.options, config.storage.retries)
    places = {"out": storage.absolute(config.out), "pack": config.pack and storage.absolute(config.pack)}
    config = config.model_copy(update=places)
    videos = read_videos(config.videos)
    for warning in warnings_of(videos):
        tell(f"warning: {warning}")
    check_pack(config)
    reserve(config.out, config, ALIKE, "features", revision=revision())
    keys = keys_of(videos)
    verdicts = read_verdicts(config, keys)
    new = [(video, keys.get(video.id, "")) for video in videos if video.id not in verdicts]
    tell(f"{len(videos)} videos: {len(verdicts)} known, {len(new)} new")
    from pipeline import handout, prepare_flow  # import Ray

    with handout.cluster() if new else nullcontext():
        if new:
            verdicts |= prepare_flow.follow_videos(new, config, tell)
        verdicts = without_duplicates(videos, verdicts)
        for verdict in verdicts.values():
            if verdict.outcome == DUPLICATE:
                tell(f"{DUPLICATE}: {verdict.error} ({verdict.hint})")
        everybody = enrol_speakers(videos, verdicts, config)
        rows = plan_rows(videos, verdicts, everybody, config)
        prepare_flow.write_plan(rows, config)
        written = prepare_flow.written_rows(config)
        left = sum(origin.row_id not in written for _, origin in rows)
        tell(f"{len(rows)} rows: {len(rows) - left} written already, {left} to write")
        if left:
            with handout.cluster():  # the one from above, if there is one
                prepare_flow.write_rows(len(rows), config, tell)
            written = prepare_flow.written_rows(config)
    card = build_card(videos, verdicts, everybody, [origin for _, origin in rows if origin.row_id in written], config)
    storage.write_atomic(config.path("datacard.json"), json.dumps(card, indent=1, ensure_ascii=False).encode())
    storage.write_atomic(config.path("datacard.md"), to_markdown(card).encode())
    missing = [origin.row_id for _, origin in rows if origin.row_id not in written]
    if missing:
        for row_id in missing[:SHOWN]:
            tell(f"row {row_id}: {prepare_flow.failure_of(row_id, config)}")
        raise TransientError(f"{len(missing)} of {len(rows)} rows could not be written", "the first causes are above")
    return card


def all_usable(card: dict[str, Any]) -> bool:
    """Whether no video was left out for another reason than being listed twice."""
    counts = card["videos"]
    return counts["listed"] == counts.get(ACCEPTED, 0) + counts.get(DUPLICATE, 0)
