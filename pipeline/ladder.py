"""A second try for clips that fail the quality gate: rendered again with other controls, rung by rung.

The ladder is a part of the settings, every rung follows from the clip and its seed, and so the same manifest gives the
same videos on every machine. Each rung keeps what those before it have changed. A part of a long clip is checked but
never rendered otherwise: its motion would no longer join its neighbours'.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models import registry
from models.interfaces import FPS, Motion, Speech
from pipeline.config import RenderConfig
from pipeline.errors import QualityError
from pipeline.manifest import Clip
from pipeline.media import probe
from pipeline.prep import Prepped
from pipeline.quality import Fault, Inspector, Scores, find_faults, measure_loudness, merge, real_bands, scores_from

CALMER = 0.5  # gain of the head motion on the rung "calm"
AS_ASKED = "as asked"


@dataclass(frozen=True)
class Rung:
    """One way to render a clip.

    Args:
        name: "" as asked for, else the rung's.
        clip: with the controls of this try.
        system: motion system.
    """

    name: str
    clip: Clip
    system: str


def rungs(clip: Clip, config: RenderConfig) -> list[Rung]:
    """All tries of a clip, the first one as asked for; rungs that would change nothing are left out."""
    tries = [Rung("", clip, config.motion.system)]
    for number, name in enumerate(config.quality.ladder, start=1):
        last = tries[-1]
        controls, system = last.clip.controls, last.system
        if name == "seed":
            controls = controls.model_copy(update={"seed": _another_seed(clip.seed, number)})
        elif name == "calm":
            pose = controls.pose.model_copy(update={"scale": controls.pose.scale * CALMER})
            controls = controls if controls.pose.still else controls.model_copy(update={"pose": pose})
        else:
            other = other_system(config)
            if other and set(controls.special) <= set(registry.MOTION_SYSTEMS[other].understands):
                system = other
        next_try = Rung(name, last.clip.model_copy(update={"controls": controls}), system)
        if (next_try.clip, system) != (last.clip, last.system):
            tries.append(next_try)
    return tries


def other_system(config: RenderConfig) -> str | None:
    """The motion system of the rung "system": the first other one whose coefficients the renderer understands."""
    space = registry.RENDERERS[config.renderer].space
    names = [name for name, entry in registry.MOTION_SYSTEMS.items() if entry.space == space]
    return next((name for name in names if name != config.motion.system), None)


def decisive_settings(config: RenderConfig) -> dict[str, Any]:
    """What decides, with the gate on, which try of a clip is delivered: a part of the clip's spec hash."""
    settings = config.quality
    values = settings.model_dump(mode="json", exclude={"check"})
    if settings.sync_seconds and None in (settings.least_sync, settings.most_sync):
        values["real_bands"] = real_bands()
    if "system" in settings.ladder:
        values["other_system"] = other_system(config)
    return values


def _another_seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} rung {number}".encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Try:
    """One rung after rendering and measuring."""

    rung: Rung
    scores: Scores
    faults: list[Fault]

    def noted(self) -> dict[str, Any]:
        """As it stands in a record's `quality`."""
        controls = self.rung.clip.controls
        how = {"rung": self.rung.name or AS_ASKED, "seed": self.rung.clip.seed, "pose_scale": controls.pose.scale}
        return how | {
            "system": self.rung.system,
            **asdict(self.scores),
            "faults": [fault.found for fault in self.faults],
        }


class Gate:
    """Checks what a render stage makes, and climbs; one per process.

    Args:
        config: of the job.
        generate: (prepped, name of the motion system) -> motion of the whole clip.
        speech_of: prepped -> its recording.
    """

    def __init__(
        self,
        config: RenderConfig,
        generate: Callable[[Prepped, str], Motion],
        speech_of: Callable[[Prepped], Speech],
    ):
        self._config = config
        self._generate, self._speech_of = generate, speech_of
        self._inspector = Inspector(config.quality)

    def pass_through(
        self, prepped: Prepped, motion: Motion, out: Path, start: int, render: Callable[[Prepped, Motion], Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Render until a try passes.

        Args:
            motion: as asked for, of the clip or of a part of it.
            out: where `render` leaves the file; what stays there is the try that has passed.
            start: frame of the clip at which the motion begins.
            render: makes the file from a clip and its motion.
        Returns:
            What `render` returned for the try that passed, and the fields of the clip's record that it settles.
        Raises:
            QualityError: no try has passed.
        """
        tries: list[Try] = []
        for rung in rungs(prepped.clip, self._config):
            if tries:
                prepped = replace(prepped, clip=rung.clip)
                motion = self._generate(prepped, rung.system)
            made = render(prepped, motion)
            tries.append(self._judge(rung, prepped, out, start, start + len(motion)))
            if not tries[-1].faults:
                return made, self._settled(tries)
            is_part = len(motion) < prepped.frames
            if is_part or not all(fault.is_of_frames for fault in tries[-1].faults):
                break
        raise _rejection(tries)

    def _judge(self, rung: Rung, prepped: Prepped, out: Path, start: int, stop: int) -> Try:
        has_words = "no speech" not in prepped.speech.warnings
        scores = self._inspector.inspect(out, self._speech_of(prepped), start, stop, has_words)
        return Try(rung, scores, find_faults(scores, self._config.quality))

    def _settled(self, tries: list[Try]) -> dict[str, Any]:
        rung = tries[-1].rung
        return {
            "rung": rung.name,
            "seed": rung.clip.seed,
            "weights": self._config.weights_with(rung.system),
            "quality": _written(tries),
        }


def judge_joined(path: Path, frames: int, parts: list[tuple[int, str]], config: RenderConfig) -> str:
    """Check what only the joined file of a long clip shows: its length and its sound.

    Args:
        path: the joined file.
        frames: of the speech.
        parts: frames and `quality` of each part.
    Returns:
        The `quality` of the whole clip, means over its parts.
    Raises:
        QualityError
    """
    info = probe(path)
    loudness = measure_loudness(path) if info.has_audio else None
    joined = Scores(round(abs(info.duration_s * FPS - frames), 2), 0.0, 0.0, loudness)
    told = [(count, json.loads(text)) for count, text in parts if text]
    scores = merge([(count, scores_from(values)) for count, values in told], joined)
    # the parts have passed: their means are not judged again
    faults = [fault for fault in find_faults(joined, config.quality) if not fault.is_of_frames]
    first = told[0][1] if told else {}
    noted = first | asdict(scores) | {"faults": [fault.found for fault in faults], "parts": len(parts)}
    text = json.dumps(noted)
    if faults:
        raise QualityError(*_told(faults), text)
    return text


def _rejection(tries: list[Try]) -> QualityError:
    found, hint = _told(tries[-1].faults)
    if len(tries) > 1:
        found += f"; tried {', '.join(each.rung.name or AS_ASKED for each in tries)}"
    return QualityError(found, hint, _written(tries))


def _told(faults: list[Fault]) -> tuple[str, str]:
    """Error and hint."""
    return "; ".join(fault.found for fault in faults), "; ".join(dict.fromkeys(fault.hint for fault in faults))


def _written(tries: list[Try]) -> str:
    """The column `quality`: the last try, and those before it."""
    noted = [each.noted() for each in tries]
    return json.dumps(noted[-1] | {"attempt": len(tries), "before": noted[:-1]})
