"""The manifest of talking videos that features are made of."""

import posixpath
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline import speakers, storage
from pipeline.errors import InputError, SetupError, TransientError
from pipeline.pairs import TABLES, read_run
from pipeline.rows import extension_of, number_as_text, parse_rows, read_row


def _as_split(split: str) -> str:
    if split not in speakers.SPLITS:
        raise ValueError(f"is {split!r}, but must be {', '.join(map(repr, speakers.SPLITS))}")
    return split


class TalkingVideo(BaseModel):
    """One row of the manifest.

    Args:
        video: path or URI.
        id: names the video in messages and rows; by default its file name without the extension.
        speaker: who speaks; a video without one counts as a speaker of its own.
        language: any name; for the data card.
        split: "train", "validation" or "test", the same for all videos of a speaker; by default chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    video: Annotated[str, Field(min_length=1)]
    id: Annotated[str, BeforeValidator(number_as_text)] = ""
    speaker: Annotated[str, BeforeValidator(number_as_text)] = ""
    language: str = ""
    split: Annotated[str, AfterValidator(_as_split)] | None = None


def read_videos(place: str) -> list[TalkingVideo]:
    """The videos of a table or a folder, every id unique and every speaker in one split; addresses are absolute.

    Args:
        place: table (jsonl, csv, parquet) or folder, local or remote.
    Raises:
        SetupError: with every problem found.
    """
    if extension_of(place) not in TABLES:
        found = read_run("videos", place)
        listed = [TalkingVideo(video=pair.video, id=pair.id, speaker=pair.speaker or "") for pair in found]
        return [_completed(video, ".") for video in listed]
    name, base = posixpath.basename(place), storage.parent(place)
    try:
        rows = parse_rows(name, storage.read_bytes(place))
    except (InputError, TransientError) as error:
        raise SetupError([f"videos={place}: {error}"]) from error
    problems: list[str] = []
    videos: dict[str, TalkingVideo] = {}
    splits: dict[str, str] = {}
    for row in rows:
        video = read_row(TalkingVideo, name, row, problems)
        if video is None:
            continue
        video = _completed(video, base)
        if video.id in videos:
            problems.append(f"{name} {row.place}: the id '{video.id}' is taken")
        if video.split and splits.setdefault(video.speaker, video.split) != video.split:
            problems.append(f"{name} {row.place}: speaker '{video.speaker}' is in two splits")
        videos[video.id] = video
    if not videos and not problems:
        problems.append(f"{name} has no rows")
    if problems:
        raise SetupError(problems)
    return list(videos.values())


def _completed(video: TalkingVideo, base: str) -> TalkingVideo:
    """The row with an absolute address, an id and a speaker."""
    uri = storage.absolute(storage.join(base, video.video))
    video_id = video.id or PurePosixPath(uri).stem
    return video.model_copy(update={"video": uri, "id": video_id, "speaker": video.speaker or f"video:{video_id}"})
