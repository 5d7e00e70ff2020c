"""What is to be scored: a video, and what it is held against."""

import posixpath
from typing import Annotated

from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline import storage
from pipeline.commit import Output
from pipeline.errors import InputError, SetupError, TransientError
from pipeline.rows import extension_of, number_as_text, parse_rows, read_row
from pipeline.stages import split

TABLES = ("jsonl", "ndjson", "csv", "parquet")
VIDEOS = ("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg")


def _as_id(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


class Pair(BaseModel):
    """One video to score.

    Args:
        id: the same in all runs that are set side by side.
        video: path or URI.
        reference: the real video of the same speech, compared frame by frame.
        audio: the speech; without one, the video's own sound track.
        phones: a CSV with the columns start_s, end_s, phone: which sound is when.
        speaker: clips of one speaker stay together when intervals are drawn; without one, every clip counts by itself.
        emotion: what the face should show, for Emo_Acc: angry, contempt, disgusted, fear, happy, neutral, sad or
            surprised.
        seams: first frames of the second and later chunks that the video was made in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, BeforeValidator(number_as_text), AfterValidator(_as_id)]
    video: Annotated[str, Field(min_length=1)]
    reference: str | None = None
    audio: str | None = None
    phones: str | None = None
    speaker: Annotated[str | None, BeforeValidator(number_as_text)] = None
    emotion: str | None = None
    seams: list[int] = []

    @property
    def sound(self) -> str:
        """Where the speech is."""
        return self.audio or self.video


def read_run(name: str, place: str) -> list[Pair]:
    """The pairs of a run.

    Args:
        name: of the run, for messages.
        place: the output folder of a render job, a table (jsonl, csv, parquet) of pairs, or a folder of videos.
    Raises:
        SetupError: with every problem found.
    """
    try:
        if extension_of(place) in TABLES:
            pairs = _read_table(place)
        elif storage.list_names(storage.join(place, "index")):
            pairs = _read_output(place)
        else:
            pairs = _read_folder(place)
    except (InputError, TransientError) as error:
        raise SetupError([f"runs.{name}: {error}"]) from error
    if not pairs:
        raise SetupError([f"runs.{name}={place} has no video: name a render job's output, a table or a folder"])
    return pairs


def _read_table(place: str) -> list[Pair]:
    name, base = posixpath.basename(place), storage.parent(place)
    problems: list[str] = []
    pairs: dict[str, Pair] = {}
    for row in parse_rows(name, storage.read_bytes(place)):
        pair = read_row(Pair, name, row, problems)
        if pair is None:
            continue
        if pair.id in pairs:
            problems.append(f"{name} {row.place}: the id '{pair.id}' is taken")
        at = {key: getattr(pair, key) for key in ("video", "reference", "audio", "phones")}
        pairs[pair.id] = pair.model_copy(update={key: storage.join(base, uri) for key, uri in at.items() if uri})
    if problems:
        raise SetupError(problems)
    return list(pairs.values())


def _read_output(place: str) -> list[Pair]:
    """A render job's videos; where a clip's portrait is the video that its speech is from, that is the reference."""
    output = Output(place)
    records = [output.read(clip_id, spec) for clip_id, specs in output.committed().items() for spec in specs]
    latest = {record.clip_id: record for record in sorted(records, key=lambda record: record.run)}
    if any(record.offset >= 0 for record in latest.values()):
        raise SetupError([f"{place} keeps its videos in tars, which can't be scored: render with layout=files"])
    part_s = _part_seconds(output)
    return [
        Pair(
            id=record.clip_id,
            video=output.path(record.uri),
            reference=record.audio if record.audio == record.portrait else None,
            audio=record.audio,
            seams=[start for start, _ in split(record.frames, part_s)][1:],
        )
        for _, record in sorted(latest.items())
    ]


def _part_seconds(output: Output) -> float:
    """How long the parts were that long clips were rendered in."""
    config = OmegaConf.create(storage.read_bytes(output.path("config.yaml")).decode())
    return float(config.max_part_seconds)


def _read_folder(place: str) -> list[Pair]:
    """A folder's videos, with the speakers that an index.csv (columns file, speaker) in or above it knows."""
    names = [name for name in storage.list_names(place) if name.rsplit(".", 1)[-1].lower() in VIDEOS]
    speakers = indexed_speakers(place)
    return [
        Pair(id=name.rsplit(".", 1)[0], video=storage.join(place, name), speaker=speakers.get(name)) for name in names
    ]


def indexed_speakers(place: str) -> dict[str, str]:
    """Speaker by file name, of an index.csv in or above a folder. Raises InputError, TransientError."""
    place = place.rstrip("/")
    own, above = storage.join(place, "index.csv"), storage.join(storage.parent(place), "index.csv")
    folder = posixpath.basename(place)
    for index, prefix in ((own, ""), (above, f"{folder}/")):
        if storage.exists(index):
            rows = [row.values for row in parse_rows(index, storage.read_bytes(index))]
            named = [(str(row.get("file", "")), row.get("speaker")) for row in rows]
            return {file.removeprefix(prefix): str(who) for file, who in named if who and file.startswith(prefix)}
    return {}


def read_phones(uri: str) -> list[tuple[float, float, str]]:
    """(start in s, end in s, phone) of a CSV with the columns start_s, end_s and phone. Raises InputError."""
    try:
        rows = parse_rows("phones.csv", storage.read_bytes(uri))
        return [(float(r.values["start_s"]), float(r.values["end_s"]), str(r.values["phone"])) for r in rows]
    except (SetupError, KeyError, ValueError) as error:
        raise InputError(
            f"{uri} can't be read as phones: {error}", "write a CSV with the columns start_s, end_s, phone"
        ) from error
