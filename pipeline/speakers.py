"""Who speaks in a set of videos: stable numbers, and which split each speaker belongs to.

A speaker is in one split only, and stays there: videos that are added later never move anybody, so that what was
held out is held out for good. Style numbers generalise the 46 identities that SadTalker's pose network knows: one
per speaker of the training split, in the order in which they came.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import Field

from pipeline.config import Section

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
NO_STYLE = -1


class SplitShares(Section):
    """How much of the time is held out; the rest is for training."""

    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the minutes for validation")
    test: float = Field(default=0.0, ge=0, lt=1, description="share of the minutes that no job reads")


@dataclass(frozen=True)
class Speaker:
    """One speaker.

    Args:
        identity: number among all speakers, from 0 on.
        style: number among those of the training split, from 0 on; -1 in other splits.
        split: "train", "validation" or "test".
    """

    identity: int
    style: int
    split: str


def enrol(
    known: Mapping[str, Speaker], minutes: Mapping[str, float], asked: Mapping[str, str], shares: SplitShares
) -> dict[str, Speaker]:
    """Known speakers as they were, and new ones with numbers and splits.

    New speakers are shared out so that the splits come as close to their shares of the minutes as whole speakers allow,
    the same way every time. Of two speakers or more one is held out for validation, unless its share is 0.

    Args:
        known: from earlier runs.
        minutes: of every speaker there is now.
        asked: splits that the manifest asks for, by speaker.
    """
    splits = {name: known[name].split if name in known else asked.get(name, "") for name in minutes}
    wanted = {TRAIN: 1 - shares.validation - shares.test, VALIDATION: shares.validation, TEST: shares.test}
    have = {split: sum(minutes[name] for name in minutes if splits[name] == split) for split in SPLITS}
    free = sorted((name for name in minutes if not splits[name]), key=lambda name: (-minutes[name], _scrambled(name)))
    for name in free:
        total = sum(have.values()) + minutes[name]
        splits[name] = max(SPLITS, key=lambda split: wanted[split] * total - have[split])
        have[splits[name]] += minutes[name]
    if shares.validation and VALIDATION not in splits.values():
        candidates = [name for name in reversed(free) if splits[name] == TRAIN]
        if candidates and list(splits.values()).count(TRAIN) > 1:
            splits[candidates[0]] = VALIDATION
    speakers = dict(known)
    for name in sorted(set(minutes) - set(known), key=_scrambled):
        style = NO_STYLE
        if splits[name] == TRAIN:
            style = 1 + max((speaker.style for speaker in speakers.values()), default=NO_STYLE)
        speakers[name] = Speaker(len(speakers), style, splits[name])
    return speakers


def dumps(speakers: Mapping[str, Speaker]) -> bytes:
    """As JSON."""
    return json.dumps({name: asdict(speaker) for name, speaker in speakers.items()}, indent=1).encode()


def loads(data: bytes) -> dict[str, Speaker]:
    """The inverse of `dumps`."""
    return {name: Speaker(**values) for name, values in json.loads(data).items()}


def _scrambled(name: str) -> str:
    """An order that has nothing to do with names."""
    return hashlib.sha256(name.encode()).hexdigest()
