"""The manifest of talking videos that features are made of."""

import posixpath
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline import speakers, storage
from pipeline.errors import InputError, SetupError, TransientError
from pipeline.pairs import TABLES, VIDEOS, indexed_speakers
from pipeline.rows import extension_of, number_as_text, parse_rows, read_row

ALONE = "video:"  # beginning of the name of a speaker who has none


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
        return _read_folder(place)
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


def _read_folder(place: str) -> list[TalkingVideo]:
    """The videos in a folder and its subfolders, each of which holds one speaker's, unless an index.csv says more."""
    try:
        names = [name for name in storage.list_names(place, recursive=True) if extension_of(name) in VIDEOS]
        named = indexed_speakers(place) if names else {}
    except (InputError, TransientError) as error:
        raise SetupError([f"videos={place}: {error}"]) from error
    if not names:
        raise SetupError(
            [f"videos={place} is no folder with videos ({', '.join(VIDEOS)}), nor a table ({', '.join(TABLES)})"]
        )
    videos: dict[str, TalkingVideo] = {}
    problems: list[str] = []
    for name in names:
        folder, _, _ = name.rpartition("/")
        video_id = str(PurePosixPath(name).with_suffix(""))
        video = TalkingVideo(
            video=storage.join(place, name), id=video_id, speaker=named.get(name) or folder.partition("/")[0]
        )
        if video_id in videos:
            other = posixpath.basename(videos[video_id].video)
            problems.append(f"videos={place}: {other} and {name} share the id '{video_id}': rename one of them")
        videos[video_id] = _completed(video, ".")
    if problems:
        raise SetupError(problems)
    return list(videos.values())


def warnings_of(videos: list[TalkingVideo]) -> list[str]:
    """What should be told of a manifest that can be used, a sentence each."""
    nobody = sum(video.speaker == ALONE + video.id for video in videos)
    if nobody < 2:
        return []
    return [
        f"{nobody} of {len(videos)} videos name no speaker and count as a speaker each: if some show the same person, "
        "what is held out is not unseen; name them (a column 'speaker', an index.csv, or a subfolder for each)"
    ]


def _completed(video: TalkingVideo, base: str) -> TalkingVideo:
    """The row with an absolute address, an id and a speaker."""
    uri = storage.absolute(storage.join(base, video.video))
    video_id = video.id or PurePosixPath(uri).stem
    return video.model_copy(update={"video": uri, "id": video_id, "speaker": video.speaker or ALONE + video_id})
