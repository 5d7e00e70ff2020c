"""The evaluation of runs: which pairs, what is done with each of them, what is written. No Ray here.

out/
    config.yaml       what was asked
    scores.parquet    one row per video and run: every metric with its value, that of the real clip, that of a
                      scrambled pair, the frames used, and a note where there is no value
    summary.json      per run and metric: mean, median, 95 % interval
    table.md  table.html
"""

import time
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline import appearance, storage
from pipeline.config import CacheConfig, Section, StorageConfig
from pipeline.errors import AudioError, InputError, SetupError, TalkfarmError
from pipeline.evidence import Evidence
from pipeline.hearing import Hearing
from pipeline.instruments import Instruments, WeightsConfig
from pipeline.metrics.image import PSNR_CAP_DB
from pipeline.metrics.table import METRICS
from pipeline.networks import NO_WEIGHTS
from pipeline.observation import Observation
from pipeline.pairs import Pair, read_phones, read_run
from pipeline.scoring import REAL_METRICS, SOUND_METRICS, Phones, Value, Values, measure

OTHER_SOUNDS = 20  # of other clips, for what Beat Align gives by chance
FEW = 25  # frames apart at which pictures of scrambled pairs are compared
CARGO = ("features", "real_features", "emotions")  # arrays of a row that scores of the whole run are made from
SCORED, REJECTED, FAILED = "scored", "rejected", "failed"
Source = tuple[str, str]  # "face" or "sound", and the URI


class WorkersConfig(Section):
    """How the work is spread."""

    workers: int = Field(default=0, ge=0, description="processes that look and score; 0: one per CPU of the cluster")
    progress_every_s: float = Field(default=10.0, gt=0, description="seconds between progress lines")


class EvaluateConfig(BaseModel):
    """An evaluation job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: dict[str, str] = Field(
        default={},
        description="what to score, side by side: runs.NAME=PLACE, where a place is the output folder of a render job, "
        "a table of pairs (jsonl, csv, parquet; columns id, video, reference, audio, phones, speaker, seams) or a "
        "folder of videos",
    )
    out: str = Field(default="scores", description="output folder")
    evidence: str | None = Field(
        default=None,
        description="folder or URI where tracked faces and sounds are kept, by content; default: in the machine's "
        "cache; on several machines a shared place saves tracking a video on each of them",
    )
    weights: WeightsConfig = WeightsConfig()
    flow: WorkersConfig = WorkersConfig()
    cache: CacheConfig = CacheConfig()
    storage: StorageConfig = StorageConfig()

    def instruments(self) -> Instruments:
        """What a worker measures with."""
        folder = self.cache.folder
        evidence = Evidence(self.evidence or str(folder / "evidence"), folder, self.cache.max_gb * 1e9)
        return Instruments(evidence, self.weights, self.cache)


@dataclass(frozen=True)
class Task:
    """One video to score. Plain data.

    Args:
        run: name of the run.
        pair: the video and what it is held against.
        partner: a pair with other speech, for the scrambled values; None if there is none.
        others: where further sounds are.
    """

    run: str
    pair: Pair
    partner: Pair | None = None
    others: tuple[str, ...] = ()


def plan_tasks(config: EvaluateConfig) -> list[Task]:
    """What there is to do.

    Raises:
        SetupError: no runs, a run that can't be read, or weights that can't be used.
    """
    if not config.runs:
        raise SetupError(["nothing to do: give runs.NAME=FOLDER_OR_TABLE, once or several times"])
    storage.configure(config.storage.options, config.storage.retries)
    problems: list[str] = []
    tasks: list[Task] = []
    for run, place in config.runs.items():
        try:
            tasks += [Task(run, _absolute(pair)) for pair in read_run(run, place)]
        except SetupError as error:
            problems += error.problems
    if problems:
        raise SetupError(problems)
    config.weights.load(config.cache)  # wrong files are told before anything starts
    return tasks


def sources(tasks: list[Task]) -> list[Source]:
    """Everything that is looked at or listened to, each once."""
    wanted: dict[Source, None] = {}
    for task in tasks:
        for video in (task.pair.video, task.pair.reference):
            if video:
                wanted[("face", video)] = None
                wanted[("sound", video)] = None
        wanted[("sound", task.pair.sound)] = None
    return list(wanted)


def gather(source: Source, instruments: Instruments) -> bool:
    """Track or listen ahead of scoring, once per content; whether it worked. If not, `score` will say why."""
    (kind, uri), evidence = source, instruments.evidence
    try:
        evidence.face(uri) if kind == "face" else evidence.sound(uri)
    except Exception:
        return False
    return True


def accompany(tasks: list[Task], usable: set[Source]) -> list[Task]:
    """The same tasks with partners and other sounds of the same run, all from files that were usable.

    The partner is the next clip in the run with other speech, of another speaker where speakers are known.
    """
    result = []
    for run in dict.fromkeys(task.run for task in tasks):
        pairs = [task.pair for task in tasks if task.run == run]
        result += [Task(run, pair, *_company(pair, pairs[k + 1 :] + pairs[:k], usable)) for k, pair in enumerate(pairs)]
    return result


def _company(pair: Pair, rest: list[Pair], usable: set[Source]) -> tuple[Pair | None, tuple[str, ...]]:
    others = [
        other
        for other in rest
        if other.sound != pair.sound
        and ("sound", other.sound) in usable
        and (other.reference is None or ("face", other.reference) in usable)
    ]
    strangers = [other for other in others if not pair.speaker or other.speaker != pair.speaker]
    return (strangers or others or [None])[0], tuple(other.sound for other in others[:OTHER_SOUNDS])


def score(task: Task, instruments: Instruments) -> dict[str, Any]:
    """The row of one video; whatever happens, there is one."""
    began = time.perf_counter()
    row = blank_row(task)
    try:
        row |= _values(task, instruments)
        row["outcome"] = SCORED
    except TalkfarmError as error:
        outcome = REJECTED if isinstance(error, InputError) else FAILED
        row |= {"outcome": outcome, "error": error.message, "hint": error.hint}
    except Exception as error:
        row |= {"outcome": FAILED, "error": f"{type(error).__name__}: {error}", "hint": "report this with the video"}
    return row | {"seconds": round(time.perf_counter() - began, 3)}


def blank_row(task: Task) -> dict[str, Any]:
    """A row without values."""
    pair = task.pair
    row: dict[str, Any] = {
        "run": task.run,
        "clip_id": pair.id,
        "outcome": FAILED,
        "error": "",
        "hint": "",
        "video": pair.video,
        "reference": pair.reference or "",
        "audio": pair.sound,
        "speaker": pair.speaker or "",
        "emotion": pair.emotion or "",
        "scrambled_with": task.partner.id if task.partner else "",
        "frames": 0,
        "seconds": 0.0,
    }
    row |= dict.fromkeys(CARGO) | {"features_note": "", "emotions_note": ""}
    nothing = float("nan")
    for metric in METRICS:
        row |= {metric.name: nothing, f"{metric.name}_real": nothing, f"{metric.name}_scrambled": nothing}
        row |= {f"{metric.name}_frames": 0, f"{metric.name}_note": ""}
    return row


def _values(task: Task, instruments: Instruments) -> dict[str, Any]:
    pair, partner, evidence = task.pair, task.partner, instruments.evidence
    face, sound = evidence.face(pair.video), _sound(pair.sound, evidence, required=pair.audio is not None)
    real = evidence.face(pair.reference) if pair.reference else None
    others = [other for uri in task.others if (other := _sound(uri, evidence))]
    phones = read_phones(pair.phones) if pair.phones else ()
    own = measure(face, sound, real, others, phones, pair.seams) | evidence.pictures(pair.video)
    own |= _compared(pair.video, pair.reference, evidence)
    real_values = _real_values(pair, own, real, others, phones, evidence)
    scrambled: Values = {}
    if partner:
        other = evidence.face(partner.reference) if partner.reference else None
        scrambled = measure(face, evidence.sound(partner.sound), other, [], phones)
        scrambled = {name: value for name, value in scrambled.items() if name in (*SOUND_METRICS, *REAL_METRICS)}
        scrambled |= _compared(pair.video, partner.reference, evidence, FEW)
    seen = instruments.look(pair.video, pair.sound, pair.reference, partner.sound if partner else None)
    own, scrambled = own | seen.values, scrambled | seen.strange
    row: dict[str, Any] = {"frames": len(face), "features": seen.features, "emotions": seen.emotion}
    row |= {f"{cargo}_note": NO_WEIGHTS for cargo in instruments.lacking}
    if pair.reference and instruments.networks:
        real_seen = seen if pair.reference == pair.video else instruments.look(pair.reference, pair.reference)
        real_values |= real_seen.values
        row["real_features"] = real_seen.features
    for name, value in own.items():
        row |= {name: value.value, f"{name}_frames": value.frames, f"{name}_note": value.note}
        row[f"{name}_real"] = real_values[name].value if name in real_values else float("nan")
        row[f"{name}_scrambled"] = scrambled[name].value if name in scrambled else float("nan")
    return row


def _real_values(
    pair: Pair, own: Values, real: Observation | None, others: list[Hearing], phones: Phones, evidence: Evidence
) -> Values:
    """The same metrics of the real clip with its own sound."""
    if not real or not pair.reference:
        return {}
    if pair.reference == pair.video:
        return own
    sound = _sound(pair.reference, evidence) or _sound(pair.sound, evidence)
    equal = {"psnr": Value(PSNR_CAP_DB), "ssim": Value(1.0)}  # by definition
    return measure(real, sound, real, others, phones) | evidence.pictures(pair.reference) | equal


def _compared(video: str, reference: str | None, evidence: Evidence, every: int = appearance.EVERY) -> Values:
    if not reference:
        return {name: Value(float("nan"), 0, "no real clip") for name in ("psnr", "ssim")}
    return evidence.comparison(video, reference, every)


def _sound(uri: str, evidence: Evidence, required: bool = False) -> Hearing | None:
    """The sound of a file, or None where it has none that is needed."""
    try:
        return evidence.sound(uri)
    except AudioError:
        if required:
            raise
        return None


def _absolute(pair: Pair) -> Pair:
    uris = {key: getattr(pair, key) for key in ("video", "reference", "audio", "phones")}
    return pair.model_copy(update={key: storage.absolute(uri) for key, uri in uris.items() if uri})
