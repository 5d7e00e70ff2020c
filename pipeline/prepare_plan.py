"""Which rows the features shall have: between following the videos and writing the rows."""

import hashlib
import json
from dataclasses import replace

from models.interfaces import FPS
from pipeline import features, speakers, storage
from pipeline.errors import SetupError
from pipeline.features import Origin
from pipeline.prepare import ACCEPTED, DUPLICATE, PrepareConfig, Verdict
from pipeline.speakers import Speaker
from pipeline.talking_videos import TalkingVideo

ID_DIGITS, FACT_DIGITS = 20, 8  # of hashes in a row's id: of the video, and of what the manifest says of it


def without_duplicates(videos: list[TalkingVideo], verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """The same verdicts, but later rows with an earlier row's content are marked as duplicates."""
    first: dict[str, str] = {}
    result = dict(verdicts)
    for video in videos:
        verdict = verdicts[video.id]
        if verdict.outcome != ACCEPTED:
            continue
        original = first.setdefault(verdict.sha256, video.id)
        if original != video.id:
            result[video.id] = replace(
                verdict, outcome=DUPLICATE, error=f"{video.video} is the same file as '{original}'", hint="list it once"
            )
    return result


def enrol_speakers(
    videos: list[TalkingVideo], verdicts: dict[str, Verdict], config: PrepareConfig
) -> dict[str, Speaker]:
    """Numbers and splits of all speakers, written to speakers.json before anything depends on them.

    Raises:
        SetupError: the manifest puts a known speaker into another split.
    """
    place = config.path("speakers.json")
    known = speakers.loads(storage.read_bytes(place)) if storage.exists(place) else {}
    minutes: dict[str, float] = {}
    for video in accepted(videos, verdicts):
        minutes[video.speaker] = minutes.get(video.speaker, 0.0) + verdicts[video.id].frames / FPS / 60
    asked = {video.speaker: video.split for video in videos if video.split}
    moved = [name for name, split in asked.items() if name in known and known[name].split != split]
    if moved:
        raise SetupError(
            [
                f"speaker '{name}' is in split '{known[name].split}' of out={config.out}, the manifest says "
                f"'{asked[name]}': use a new folder"
                for name in moved
            ]
        )
    everybody = speakers.enrol(known, minutes, asked, config.splits)
    storage.write_atomic(place, speakers.dumps(everybody))
    return everybody


def accepted(videos: list[TalkingVideo], verdicts: dict[str, Verdict]) -> list[TalkingVideo]:
    """Videos that are learned from."""
    return [video for video in videos if verdicts[video.id].outcome == ACCEPTED]


def plan_rows(
    videos: list[TalkingVideo], verdicts: dict[str, Verdict], everybody: dict[str, Speaker], config: PrepareConfig
) -> list[tuple[str, Origin]]:
    """Every row that the features shall have, with the URI of its video.

    A row's id tells the video's content and what is said of it: when a speaker is corrected, the row is another one.
    """
    rows = []
    for video in accepted(videos, verdicts):
        verdict, speaker = verdicts[video.id], everybody[video.speaker]
        facts = json.dumps([video.id, video.speaker, video.language, *vars(speaker).values()])
        row = f"{verdict.sha256[:ID_DIGITS]}-{hashlib.sha256(facts.encode()).hexdigest()[:FACT_DIGITS]}"
        for number, (start, stop) in enumerate(features.stretches(verdict.first, verdict.first + verdict.frames)):
            origin = Origin(
                row_id=f"{row}-{number:05d}",
                video_id=video.id,
                sha256=verdict.sha256,
                speaker=video.speaker,
                language=video.language,
                split=speaker.split,
                identity=speaker.identity,
                style=speaker.style,
                space=config.space,
                start=start,
                frames=stop - start,
                lag=verdict.lag,
            )
            rows.append((video.video, origin))
    return rows
