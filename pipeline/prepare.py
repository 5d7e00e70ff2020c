"""Talking videos to training features: which videos, what is done with each of them, what is written. No Ray here.

    out/
        config.yaml                    what was asked
        videos/<key>.json              what became of a video: accepted, or rejected and why
        takes/ab/ab12....npz           what was seen of it (`pipeline.take`), by content
        speakers.json                  numbers and splits of the speakers
        plan.parquet                   the rows that the features shall have
        features/*.parquet             the rows (`pipeline.features`), in shards
        rows/*.parquet                 which rows are written: the record of Ray Data, that a rerun subtracts
        datacard.json  datacard.md     what is in it (`pipeline.datacard`)

Every step is done once per content. A video's verdict is written when everything about it is known; a shard exists
when its record does.
"""

import hashlib
import json
import posixpath
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from models.interfaces import FPS
from pipeline import features, speakers, storage, take
from pipeline.cache import Fetched, fetch, mark_used
from pipeline.config import CacheConfig, FaceConfig, Section, StorageConfig
from pipeline.errors import AudioError, InputError, MissingError, SetupError, TalkfarmError, TransientError
from pipeline.features import Features, Origin
from pipeline.pairs import TABLES, read_run
from pipeline.problems import explain
from pipeline.rows import Row, parse_rows
from pipeline.speakers import Speaker, SplitShares
from pipeline.take import Take, TakeChecks

ACCEPTED, REJECTED, FAILED, DUPLICATE = "accepted", "rejected", "failed", "duplicate"
KEY_DIGITS = 24
ID_DIGITS = 20  # of a video's hash in a row's id
ALIKE = ("space", "pack", "crops", "checks", "face")  # settings that all rows of one folder share
THREADS = 16  # that ask storage at the same time


class PrepareFlow(Section):
    """How the work is spread."""

    workers: int = Field(default=0, ge=0, description="processes that follow faces; 0: one per CPU of the cluster")
    rows_per_shard: int = Field(
        default=8, ge=1, description="rows (of up to 10 s) per Parquet file; also what a killed worker loses at most"
    )
    progress_every_s: float = Field(default=10.0, gt=0, description="seconds between progress lines")


class PrepareConfig(BaseModel):
    """A preparation job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    videos: str = Field(
        description="table of talking videos (jsonl, csv, parquet; columns video, id, speaker, language, split; "
        "relative paths are relative to its folder), or a folder of them, local or remote"
    )
    out: str = Field(default="features", description="output folder, local or remote; what is in it is kept")
    space: Literal["open", "bfm"] = Field(
        default="open", description="coefficient space of expression and pose; bfm: Deep3DFaceRecon's, with your files"
    )
    pack: str | None = Field(
        default=None, description="folder or URI of a pack with the network 'recon', for space=bfm (docs/weights.md)"
    )
    crops: bool = Field(default=True, description="keep face crops of 256 px, which networks that make pictures need")
    checks: TakeChecks = TakeChecks()
    splits: SplitShares = SplitShares()
    face: FaceConfig = FaceConfig()
    flow: PrepareFlow = PrepareFlow()
    cache: CacheConfig = CacheConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _files_for_the_space(self) -> "PrepareConfig":
        if (self.space == "bfm") != (self.pack is not None):
            raise ValueError("space=bfm and pack=FOLDER belong together: the pack holds the network that reads faces")
        return self

    def path(self, *names: str) -> str:
        """URI of something in the output folder."""
        return storage.join(self.out, *names)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


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
    id: Annotated[str, BeforeValidator(_as_text)] = ""
    speaker: Annotated[str, BeforeValidator(_as_text)] = ""
    language: str = ""
    split: Annotated[str, AfterValidator(_as_split)] | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a video. Plain data, kept as JSON.

    Args:
        outcome: "accepted", "rejected" (it can't be learned from), "failed" (we or the storage are at fault; not kept,
            so that a rerun tries again) or "duplicate" (of an earlier row's content; decided anew in each run).
        error, hint: what was found and what can be done about it; empty when accepted.
        sha256: of the file, "" if it could not be read.
        first, frames: the usable frames at 25 fps.
        lag: frames by which the sound was late, and is brought forward.
        confidence: of the sync probe.
        width, height: pixels.
        seen: share of the usable frames that show the face.
        seconds: spent.
    """

    outcome: str
    error: str = ""
    hint: str = ""
    sha256: str = ""
    first: int = 0
    frames: int = 0
    lag: int = 0
    confidence: float = 0.0
    width: int = 0
    height: int = 0
    seen: float = 0.0
    seconds: float = 0.0


# ---- before


def read_videos(config: PrepareConfig) -> list[TalkingVideo]:
    """The manifest, every id unique and every speaker in one split; addresses are absolute.

    Raises:
        SetupError: with every problem found.
    """
    extension = config.videos.rsplit(".", 1)[-1].lower() if "." in posixpath.basename(config.videos) else ""
    if extension not in TABLES:
        found = read_run("videos", config.videos)
        listed = [TalkingVideo(video=pair.video, id=pair.id, speaker=pair.speaker or "") for pair in found]
        return [_completed(video, ".") for video in listed]
    name, base = posixpath.basename(config.videos), storage.parent(config.videos)
    try:
        rows = parse_rows(name, storage.read_bytes(config.videos))
    except (InputError, TransientError) as error:
        raise SetupError([f"videos={config.videos}: {error}"]) from error
    problems: list[str] = []
    videos: dict[str, TalkingVideo] = {}
    splits: dict[str, str] = {}
    for row in rows:
        video = _read_row(name, row, problems)
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


def check_pack(config: PrepareConfig) -> None:
    """Raise SetupError if faces of the space bfm are asked for and can't be read."""
    if not config.pack:
        return
    from models import registry
    from models.packs import PackError
    from pipeline.packs import open_at

    try:
        pack = open_at(config.pack, config.cache)
    except (PackError, TransientError) as error:
        raise SetupError([f"pack: {error}"]) from error
    lacking = [name for name in registry.BFM_NEEDS if name not in pack]
    if pack.space != "bfm" or lacking:
        raise SetupError(
            [f"pack={config.pack} is of the space '{pack.space}' and lacks {', '.join(lacking) or 'nothing'}"]
        )


def revision() -> str:
    """Changes when the same video would give other features."""
    return f"take {take.REVISION}, features {features.REVISION}"


def keys_of(videos: Iterable[TalkingVideo]) -> dict[str, str]:
    """Names of the verdicts, by id: they change when a file does. A file that can't be found has none."""

    def key(video: TalkingVideo) -> str:
        try:
            size, mark = storage.stat(video.video)
        except InputError:
            return ""
        return hashlib.sha256(f"{video.video}\n{size}\n{mark}".encode()).hexdigest()[:KEY_DIGITS]

    with ThreadPoolExecutor(THREADS) as pool:
        videos = list(videos)
        return {video.id: name for video, name in zip(videos, pool.map(key, videos)) if name}


def read_verdicts(config: PrepareConfig, keys: dict[str, str]) -> dict[str, Verdict]:
    """Verdicts that there are already, by id."""
    there = set(storage.list_names(config.path("videos")))
    known = [video_id for video_id, key in keys.items() if f"{key}.json" in there]

    def read(video_id: str) -> Verdict:
        return Verdict(**json.loads(storage.read_bytes(config.path("videos", f"{keys[video_id]}.json"))))

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(known, pool.map(read, known)))


# ---- the work


def look(video: TalkingVideo, key: str, config: PrepareConfig) -> Verdict:
    """Follow and check a video, and keep what was seen and the verdict. Never raises."""
    began = time.perf_counter()
    try:
        verdict = _look(video, config)
    except TalkfarmError as error:  # what the video itself is to blame for has been told apart already
        verdict = Verdict(FAILED, error.message, error.hint)
    except Exception as error:
        verdict = Verdict(FAILED, f"{type(error).__name__}: {error}", "report this with the video")
    verdict = replace(verdict, seconds=round(time.perf_counter() - began, 3))
    if verdict.outcome in (ACCEPTED, REJECTED) and key:
        try:
            storage.write_atomic(config.path("videos", f"{key}.json"), json.dumps(asdict(verdict)).encode())
        except TalkfarmError as error:
            return replace(verdict, outcome=FAILED, error=error.message, hint=error.hint)
    return verdict


def _look(video: TalkingVideo, config: PrepareConfig) -> Verdict:
    fetched = _fetch(video.video, config)
    place = take_uri(fetched.sha256, config)
    try:
        seen = Take.loads(storage.read_bytes(place))
    except MissingError:
        try:
            take.check_file(fetched.path, config.checks)
            face = config.face
            finder = _finder(face.backend, face.weights, face.min_size_px)
            seen = take.follow(fetched.path, decoded(fetched, config), finder, config.checks)
        except InputError as error:
            message = error.message.replace(str(fetched.path), video.video)
            return Verdict(REJECTED, message, error.hint, fetched.sha256)
        storage.write_atomic(place, seen.dumps())
    first, last = (int(v) for v in seen.span)
    return Verdict(
        ACCEPTED,
        sha256=fetched.sha256,
        first=first,
        frames=last - first,
        lag=int(seen.lag),
        confidence=round(float(seen.confidence), 4),
        width=int(seen.size[0]),
        height=int(seen.size[1]),
        seen=round(float(seen.seen[first:last].mean()), 4),
    )


def make_row(uri: str, origin: Origin, config: PrepareConfig) -> Features:
    """The features of one stretch of an accepted video.

    Raises:
        TalkfarmError: the video or what was seen of it can't be read.
    """
    fetched = _fetch(uri, config)
    seen = _read_take(take_uri(origin.sha256, config))
    bfm = _bfm(config.pack, config.cache.dir, config.cache.max_gb) if config.pack else None
    return features.extract(fetched.path, seen, decoded(fetched, config), origin, config.crops, bfm)


def take_uri(sha256: str, config: PrepareConfig) -> str:
    """Where what was seen of a video is kept."""
    return config.path("takes", sha256[:2], f"{sha256}.npz")


@cache
def _finder(backend: str, weights: str | None, min_size_px: float) -> Any:
    from pipeline.face import FaceFinder

    return FaceFinder(backend, weights, min_size_px)


@cache
def _bfm(pack: str, folder: str, max_gb: float) -> Any:
    from models import registry
    from pipeline.packs import open_at

    return registry.build_bfm(open_at(pack, CacheConfig(dir=folder, max_gb=max_gb)))


@lru_cache(maxsize=2)  # the stretches of a video tend to come together
def _read_take(uri: str) -> Take:
    return Take.loads(storage.read_bytes(uri))


def _fetch(uri: str, config: PrepareConfig) -> Fetched:
    return fetch(uri, config.cache.folder, config.cache.max_gb * 1e9)


def decoded(fetched: Fetched, config: PrepareConfig) -> Any:
    """The sound track of a video on this machine, decoded once per content. Raises AudioError."""
    from pipeline.audio import SpeechFile
    from pipeline.speech import decode_speech

    pcm = config.cache.folder / "tracks" / fetched.sha256[:2] / f"{fetched.sha256}.s16"
    if not pcm.exists():
        pcm.parent.mkdir(parents=True, exist_ok=True)
        if "no speech" in decode_speech(fetched.path, pcm).warnings:
            pcm.unlink()
            raise AudioError(f"{fetched.path} has no speech", "use recordings of somebody who speaks")
    mark_used(pcm)
    return SpeechFile(pcm)


# ---- between


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
    """Every row that the features shall have, with the URI of its video."""
    rows = []
    for video in accepted(videos, verdicts):
        verdict, speaker = verdicts[video.id], everybody[video.speaker]
        for number, (start, stop) in enumerate(features.stretches(verdict.first, verdict.first + verdict.frames)):
            origin = Origin(
                row_id=f"{verdict.sha256[:ID_DIGITS]}-{number:05d}",
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


def _read_row(name: str, row: Row, problems: list[str]) -> TalkingVideo | None:
    problems += [f"{name} {row.place}: {problem}" for problem in row.problems]
    if row.problems:
        return None
    try:
        return TalkingVideo.model_validate(row.values)
    except ValidationError as error:
        problems += [f"{name} {row.place}: {sentence}" for sentence in explain(error, TalkingVideo, row.values)]
        return None


def _completed(video: TalkingVideo, base: str) -> TalkingVideo:
    """The row with an absolute address, an id and a speaker."""
    uri = storage.absolute(storage.join(base, video.video))
    video_id = video.id or PurePosixPath(uri).stem
    return video.model_copy(update={"video": uri, "id": video_id, "speaker": video.speaker or f"video:{video_id}"})
