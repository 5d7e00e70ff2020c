"""Talking videos to training features: what is asked, what is done with each video, what is written. No Ray here.

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
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline import features, storage, take
from pipeline.cache import Fetched, fetch, mark_used
from pipeline.config import CacheConfig, FaceConfig, Section, StorageConfig
from pipeline.errors import AudioError, InputError, MissingError, SetupError, TalkfarmError, TransientError
from pipeline.features import Features, Origin
from pipeline.speakers import SplitShares
from pipeline.take import Take, TakeChecks
from pipeline.talking_videos import TalkingVideo

ACCEPTED, REJECTED, FAILED, DUPLICATE = "accepted", "rejected", "failed", "duplicate"
KEY_DIGITS = 24
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
