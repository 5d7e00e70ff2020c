"""What is left to do of a manifest: the difference between what is asked for and the commit records."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline import storage
from pipeline.commit import Output, PartName
from pipeline.config import RenderConfig
from pipeline.errors import TalkfarmError
from pipeline.manifest import Clip, spec_hash
from pipeline.records import Record

LISTING_THREADS = 16
# Bytes per second of usual recordings, to tell long clips from short ones without opening 10,000 files. Only the
# order of work and the first estimate of the time left depend on it.
BYTES_PER_SECOND = {".wav": 64_000, ".aif": 64_000, ".aiff": 64_000, ".flac": 30_000, ".mp4": 100_000, ".mov": 400_000}
COMPRESSED_BYTES_PER_SECOND = 12_000


@dataclass(frozen=True)
class Task:
    """A clip that has no commit record yet.

    Args:
        clip: the manifest row.
        spec_hash: names everything that changes its video.
        superseded: spec hashes of older videos of the same id.
        done: parts that an earlier run has committed.
        attempts: how often earlier runs have failed on it.
        guess_s: likely length in seconds.
    """

    clip: Clip
    spec_hash: str
    superseded: tuple[str, ...]
    done: tuple[PartName, ...]
    attempts: int
    guess_s: float

    def record(self, config: RenderConfig, run_id: str) -> Record:
        """What is known of the clip before anything is done."""
        return Record(
            clip_id=self.clip.id,
            spec_hash=self.spec_hash,
            attempts=self.attempts + 1,
            seed=self.clip.seed,
            portrait=self.clip.portrait,
            audio=self.clip.audio,
            weights=config.weights_with(config.motion.system),
            run=run_id,
        )


@dataclass(frozen=True)
class Plan:
    """A manifest, divided.

    Args:
        hashes: clip id -> spec hash, of the whole manifest.
        tasks: what is left to do, longest first.
        done: ids of the clips that are committed already.
    """

    hashes: dict[str, str]
    tasks: list[Task]
    done: list[str]


def plan(clips: list[Clip], config: RenderConfig, output: Output) -> Plan:
    """Compare a manifest with an output folder, tidying up what an interrupted run has left behind."""
    hashes = {clip.id: spec_hash(clip, config) for clip in clips}
    committed, failed, split = output.committed(), output.failed(), output.split()
    done, tasks = [], []
    for clip in clips:
        ours = hashes[clip.id]
        older = tuple(sorted(committed.get(clip.id, set()) - {ours}))
        if ours in committed.get(clip.id, set()):
            done.append(clip.id)
            if older or clip.id in failed:
                output.settle(clip.id, ours, older)
            if clip.id in split:
                output.drop_parts(clip.id, ours)
            continue
        parts = tuple(split.get(clip.id, {}).get(ours, ()))
        attempts = _earlier_attempts(output, clip.id, ours) if clip.id in failed else 0
        tasks.append(Task(clip, ours, older, parts, attempts, 0.0))
    return Plan(hashes, _longest_first(tasks), done)


def _earlier_attempts(output: Output, clip_id: str, spec: str) -> int:
    record = output.read_failed(clip_id)
    return record.attempts if record.spec_hash == spec else 0


def _longest_first(tasks: list[Task]) -> list[Task]:
    """A long clip that comes last keeps one worker busy while all others have gone home."""
    uris = sorted({task.clip.audio for task in tasks})
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        lengths = dict(zip(uris, pool.map(_guess_length, uris)))
    timed = [
        Task(task.clip, task.spec_hash, task.superseded, task.done, task.attempts, lengths[task.clip.audio])
        for task in tasks
    ]
    return sorted(timed, key=lambda task: -task.guess_s)


def _guess_length(uri: str) -> float:
    """Likely length of a recording in seconds; 0 if it can't be seen, which preparing it will explain."""
    try:
        size, _ = storage.stat(uri)
    except TalkfarmError:
        return 0.0
    return size / BYTES_PER_SECOND.get(PurePosixPath(uri).suffix.lower(), COMPRESSED_BYTES_PER_SECOND)
