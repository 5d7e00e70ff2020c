"""Scoring without pictures or sound; a video called "kill" ends the worker's process, one called "bug" raises."""

import os
from typing import Any

from pipeline.evaluation import SCORED, Source, Task, blank_row
from pipeline.evaluation_flow import Work
from pipeline.instruments import Instruments


def fake_gather(source: Source, instruments: Instruments) -> bool:
    """Every file is usable but those called "bug"."""
    return "bug" not in source[1]


def fake_score(task: Task, instruments: Instruments) -> dict[str, Any]:
    """Half a point of sync for everybody."""
    if "kill" in task.pair.video:
        os._exit(1)
    partner = task.partner.id if task.partner else ""
    return blank_row(task) | {"outcome": SCORED, "sync": 0.5, "scrambled_with": partner}


WORK = Work(fake_gather, fake_score)
