"""The baselines that every motion system is held against, on talking videos with sound.

Each video is rendered anew from its first frame and its own sound, at a longer side of 256 px, and scored against the
real frames, beside the real video itself, its first frame repeated, and the `envelope` system.

    out/
        real.jsonl  still.jsonl  <system>.jsonl      pairs, as `jobs.evaluate` reads them
        still/<id>.mp4                               the first frame, repeated
        <system>/                                    the output of a render job
        scores/                                      what `pipeline.evaluation` leaves
"""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models import registry
from models.controls import Controls
from pipeline import storage
from pipeline.config import CacheConfig, MotionConfig, RenderConfig, StorageConfig
from pipeline.errors import InputError, SetupError
from pipeline.evaluation import EvaluateConfig, WorkersConfig
from pipeline.evidence import Evidence
from pipeline.instruments import WeightsConfig
from pipeline.pairs import Pair, read_run
from pipeline.scores import evaluate

REAL, STILL, ENVELOPE = "real", "still", "envelope"
CONTROLS = Controls(framing="resize", size=256)  # the whole picture, so that frames can be compared
BATCH = 50  # frames written at a time


class BaselineConfig(BaseModel):
    """A table of baselines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    videos: str = Field(
        description="folder of talking videos with sound, or a table of them (columns id, video, speaker)"
    )
    system: tuple[str, ...] = Field(
        default=(ENVELOPE,),
        description=f"the motion system, or several with commas: {', '.join(registry.MOTION_SYSTEMS)}",
    )
    out: str = Field(default="baselines", description="output folder on this machine; finished videos in it are kept")
    weights: WeightsConfig = WeightsConfig()
    flow: WorkersConfig = WorkersConfig()
    cache: CacheConfig = CacheConfig()
    storage: StorageConfig = StorageConfig()

    @field_validator("system", mode="before")
    @classmethod
    def _several(cls, names: Any) -> Any:
        return names.split(",") if isinstance(names, str) else names

    @field_validator("system")
    @classmethod
    def _known_systems(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(MotionConfig(system=name).system for name in names)


def run_baselines(config: BaselineConfig, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Render, score and write; the rows.

    Raises:
        SetupError: the videos can't be read.
    """
    storage.configure(config.storage.options, config.storage.retries)
    if storage.local_path(config.out) is None:
        raise SetupError([f"out={config.out}: baselines are made in a folder on this machine"])
    pairs = [held_against_itself(pair) for pair in read_run("videos", config.videos)]
    evaluation = EvaluateConfig(
        runs={name: storage.join(config.out, f"{name}.jsonl") for name in run_names(config)},
        out=storage.join(config.out, "scores"),
        weights=config.weights,
        flow=config.flow,
        cache=config.cache,
        storage=config.storage,
    )
    write_pairs(evaluation.runs[REAL], pairs)
    write_pairs(evaluation.runs[STILL], make_stills(pairs, config, evaluation.instruments().evidence, tell))
    for system in run_names(config)[2:]:
        write_pairs(evaluation.runs[system], render(pairs, system, config, tell))
    return evaluate(evaluation, tell)


def run_names(config: BaselineConfig) -> list[str]:
    """The columns of the table."""
    return list(dict.fromkeys([REAL, STILL, ENVELOPE, *config.system]))


def held_against_itself(pair: Pair) -> Pair:
    """A real video as its own reference."""
    path = storage.local_path(pair.video)
    video = os.path.abspath(path) if path else pair.video  # noqa: PTH100 - links keep their names
    return pair.model_copy(update={"video": video, "reference": video})


def make_stills(
    pairs: list[Pair], config: BaselineConfig, evidence: Evidence, tell: Callable[[str], None]
) -> list[Pair]:
    """Every video's first frame for as long as it sounds; videos that can't be read are left out."""
    folder = Path(config.out).expanduser() / STILL
    folder.mkdir(parents=True, exist_ok=True)

    def make(pair: Pair) -> Pair | None:
        out = folder / f"{pair.id}.mp4"
        try:
            if not out.exists():
                repeat_first_frame(pair.video, out, evidence)
        except InputError as error:
            tell(f"{pair.id}: {error.message}")
            return None
        return pair.model_copy(update={"video": os.path.abspath(out), "audio": pair.video})  # noqa: PTH100

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = [pair for pair in pool.map(make, pairs) if pair]
    tell(f"{len(made)} of {len(pairs)} first frames repeated")
    return made


def repeat_first_frame(video: str, out: Path, evidence: Evidence) -> None:
    """Write a video of one frame with its own sound. Raises InputError."""
    from pipeline.encoder import Encoder, Soundtrack
    from pipeline.media import probe, video_frames
    from pipeline.observation import metric_size

    path, frames = evidence.fetch(video).path, len(evidence.sound(video))
    info = probe(path)
    _, size = metric_size(info.width, info.height)
    first = next(video_frames(path, size=size))
    with Encoder(out, size, frames, Soundtrack(path)) as encoder:
        for start in range(0, frames, BATCH):
            encoder.write(np.repeat(first[None], min(BATCH, frames - start), axis=0))


def render(pairs: list[Pair], system: str, config: BaselineConfig, tell: Callable[[str], None]) -> list[Pair]:
    """The videos of a motion system; those that it could not make are left out."""
    from pipeline.job import run_job

    manifest = storage.join(config.out, "clips.jsonl")
    rows = [{"id": pair.id, "portrait": pair.video, "audio": pair.video} for pair in pairs]
    storage.write_atomic(manifest, "\n".join(map(json.dumps, rows)).encode())
    out = storage.join(config.out, system)
    job = RenderConfig(
        manifest=manifest,
        out=out,
        motion=MotionConfig(system=system),
        controls=CONTROLS,
        cache=config.cache,
        storage=config.storage,
    )
    tell(f"{system}: {run_job(job, tell).table()}")
    speakers = {pair.id: pair.speaker for pair in pairs}
    return [pair.model_copy(update={"speaker": speakers[pair.id]}) for pair in read_run(system, out)]


def write_pairs(uri: str, pairs: list[Pair]) -> None:
    """Write a table that `read_run` reads."""
    storage.write_atomic(uri, "\n".join(pair.model_dump_json(exclude_none=True) for pair in pairs).encode())
