"""Stages without pictures, sound or models: small, quick, deterministic, and as badly behaved as a test wants.

A clip's portrait URI is not read; its words say how the clip behaves: "bad" is rejected, "bug" raises, "kill" ends
the worker's process. Its audio URI is the length in frames. Every call is written down in the folder that the
environment variable TALKFARM_FAKE_LOG names, so that tests can count what was done twice.
"""

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from models.interfaces import Motion
from pipeline.config import RenderConfig
from pipeline.errors import FaceError
from pipeline.flow import Stages
from pipeline.manifest import Clip
from pipeline.stages import Rendered

SECONDS_PER_CLIP = float(os.environ.get("TALKFARM_FAKE_SECONDS", "0.02"))


@dataclass(frozen=True)
class FakePrepped:
    clip: Clip
    frames: int
    warnings: tuple[str, ...]


def prep(clip: Clip, config: RenderConfig) -> FakePrepped:
    note("prep", clip.id)
    if "bad" in clip.portrait:
        raise FaceError(f"{clip.portrait} shows no face", "use another picture")
    return FakePrepped(clip, int(PurePath(clip.audio).name), ("dark",) if "dark" in clip.portrait else ())


class FakeMotion:
    def __init__(self, config: RenderConfig):
        self._config = config

    def generate(self, prepped: FakePrepped) -> Motion:
        count = prepped.frames
        values = np.random.default_rng(prepped.clip.seed).normal(size=(count, 72)).astype(np.float32)
        return Motion("open", values[:, :64], values[:, 64:70], values[:, 70:])


class FakeRender:
    def __init__(self, config: RenderConfig):
        note("worker", str(os.getpid()))

    def render(self, prepped: FakePrepped, motion: Motion, out: Path, with_audio: bool, start: int = 0) -> Rendered:
        note("render", prepped.clip.id)
        if "kill" in prepped.clip.portrait:
            os._exit(139)
        if "bug" in prepped.clip.portrait:
            raise IndexError("list index out of range")
        time.sleep(SECONDS_PER_CLIP)
        out.write_bytes(motion.expression.tobytes())
        return Rendered(256, 256, b"")


def join(parts: list[Path], clip: Clip, frames: int, out: Path, config: RenderConfig) -> None:
    note("join", clip.id)
    out.write_bytes(b"".join(part.read_bytes() for part in parts))


def note(kind: str, text: str) -> None:
    """Write down that something happened; one file per event, so that a kill -9 loses none."""
    folder = os.environ.get("TALKFARM_FAKE_LOG")
    if folder:
        (Path(folder) / f"{kind}.{uuid.uuid4().hex}").write_text(text)


def notes(folder: Path, kind: str) -> list[str]:
    """What has been written down of a kind."""
    return [path.read_text() for path in folder.glob(f"{kind}.*")]


STAGES = Stages(prep=prep, motion=FakeMotion, render=FakeRender, join=join)
