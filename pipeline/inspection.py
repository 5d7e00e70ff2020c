"""Check every input of a manifest without rendering: the flow's own prep stage, over each distinct file once.

As it is the same stage and its results are cached, a later render neither disagrees nor repeats the work.
"""

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

from models.controls import FaceChoice
from pipeline import storage
from pipeline.config import RenderConfig
from pipeline.environment import worker_variables
from pipeline.errors import TalkfarmError
from pipeline.manifest import Clip


@dataclass(frozen=True)
class Source:
    """One distinct input.

    Args:
        kind: "portrait", "audio" or "reference", a video whose motion is followed.
        uri: where it is.
        face: which face of a portrait.
    """

    kind: str
    uri: str
    face: FaceChoice | None = None


@dataclass(frozen=True)
class Finding:
    """What is known about an input after looking at it.

    Args:
        source: the input.
        clips: ids of the clips that use it, in the manifest's order.
        error: why they can't be rendered; empty if they can.
        hint: what to do about the error.
        warnings: doubts, one sentence each.
        duration_s: of speech.
    """

    source: Source
    clips: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    warnings: tuple[str, ...] = ()
    duration_s: float = 0.0


Look = Callable[[Source, RenderConfig], Finding]


def inspect(
    clips: list[Clip], config: RenderConfig, tell: Callable[[int, int], None], look: Look | None = None
) -> list[Finding]:
    """Look at every distinct input of the clips, on all cores.

    Args:
        tell: is told how many inputs of how many are done, often.
        look: what happens to an input, in a process of its own; `look_at` unless given.
    Returns:
        One finding per distinct input, in the manifest's order.
    """
    users: dict[Source, list[str]] = defaultdict(list)
    for clip in clips:
        users[Source("portrait", clip.portrait, clip.controls.face)].append(clip.id)
        users[Source("audio", clip.audio)].append(clip.id)
        for uri in clip.controls.references:
            users[Source("reference", uri)].append(clip.id)
    findings = {}
    for finding in _look_at_all(list(users), config, look or look_at):
        findings[finding.source] = replace(finding, clips=tuple(users[finding.source]))
        tell(len(findings), len(users))
    return [findings[source] for source in users]


def look_at(source: Source, config: RenderConfig) -> Finding:
    """Run the prep stage on one input."""
    from pipeline import prep

    try:
        if source.kind == "reference":
            prep.reference_motion(source.uri, config)
            return Finding(source)
        if source.face is None:
            speech = prep.prep_speech(source.uri, config)
            return Finding(source, warnings=tuple(speech.warnings), duration_s=speech.duration_s)
        portrait = prep.prep_portrait(source.uri, source.face, config)
    except TalkfarmError as error:
        return Finding(source, error=error.message, hint=error.hint)
    except Exception as error:  # a fault of ours on one input must not hide what is said about the others
        return Finding(source, error=f"{type(error).__name__}: {error}", hint="please report this input")
    warnings = tuple(
        f"{warning}: {portrait.faces} found, {_choice_in_words(source.face)} is taken"
        if warning == "several faces"
        else warning
        for warning in portrait.warnings
    )
    return Finding(source, warnings=warnings)


def _choice_in_words(face: FaceChoice) -> str:
    if isinstance(face.pick, int):
        return f"number {face.pick} from the left"
    return f"the {face.pick} one"


def _look_at_all(sources: list[Source], config: RenderConfig, look: Look) -> Iterator[Finding]:
    """Findings as they come. An input that kills the process that reads it is found out and named."""
    suspects: list[Source] = []
    left = sources
    while left:
        done: set[Source] = set()
        try:
            for finding in _in_pool(left, config, look, os.cpu_count() or 1):
                done.add(finding.source)
                yield finding
        except _PoolDiedError as death:
            suspects += death.under_way
            done.update(death.under_way)
        left = [source for source in left if source not in done]
    for source in suspects:
        try:
            yield from _in_pool([source], config, look, workers=1)
        except _PoolDiedError:
            yield Finding(source, error=f"{source.uri} kills the process that reads it", hint="use another file")


class _PoolDiedError(Exception):
    """A worker process was killed while it looked at one of a few inputs."""

    def __init__(self, under_way: list[Source]):
        super().__init__()
        self.under_way = under_way


def _in_pool(sources: list[Source], config: RenderConfig, look: Look, workers: int) -> Iterator[Finding]:
    # spawned, not forked: threads of the parent, s3fs's for one, don't survive a fork
    method = multiprocessing.get_context("spawn")
    os.environ.update({**worker_variables(config.cache.folder), **os.environ})  # inherited by the workers
    waiting = list(reversed(sources))
    under_way: dict[Future[Finding], Source] = {}
    workers = min(workers, len(sources))
    with ProcessPoolExecutor(workers, method, _set_up, (config,)) as pool:
        while waiting or under_way:
            try:
                # no more than one each, so that few come under suspicion when one of them kills its reader
                while waiting and len(under_way) < workers:
                    source = waiting[-1]
                    under_way[pool.submit(look, source, config)] = source
                    waiting.pop()
                finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    finding = future.result()
                    del under_way[future]
                    yield finding
            except BrokenProcessPool as error:
                raise _PoolDiedError(list(under_way.values())) from error


def _set_up(config: RenderConfig) -> None:
    storage.configure(config.storage.options, config.storage.retries)
