"""One clip in this process, without Ray: for notebooks, and for the one-clip form of the render job."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.controls import Controls
from models.interfaces import FPS
from pipeline import storage
from pipeline.config import RenderConfig
from pipeline.manifest import clips_of
from pipeline.packs import settle
from pipeline.records import RENDERED, Record

TELL_EVERY_S = 5.0


def render_clip(portrait: str | Path, audio: str | Path, out: str | Path, **controls: Any) -> Record:
    """Render a talking video.

        record = render_clip("face.jpg", "speech.wav", "clip.mp4", size=512, pose={"yaw": 10})

    Args:
        portrait: path or URI of a picture, or of a video whose first usable frame is taken.
        audio: path or URI of anything with a sound track.
        out: path or URI of the MP4, which is replaced.
        controls: see `models.controls.Controls`.
    Returns:
        What the commit record of a job would hold: length, size, warnings, seconds per stage.
    Raises:
        pydantic.ValidationError: unknown or impossible controls.
        InputError: the inputs can't be used; the message says why, the hint what to do.
        TransientError, RenderError, QualityError
    """
    settings = Controls.model_validate(controls)
    return render_single(
        RenderConfig(portrait=str(portrait), audio=str(audio), out=str(out), controls=settings), lambda line: None
    )


def render_single(config: RenderConfig, tell: Callable[[str], None]) -> Record:
    """Render the clip that `portrait` and `audio` of a config name. Raises as `render_clip`.

    Args:
        config: `out` is the MP4, or a folder to put it in.
        tell: is given a line when the first frame is there, and on long clips now and then.
    """
    from pipeline import prep, stages

    storage.configure(config.storage.options, config.storage.retries)
    (clip,) = clips_of(config)
    config = settle(config, [clip])
    prep.check_backend(config)
    record = Record(clip.id, "", seed=clip.seed, portrait=clip.portrait, audio=clip.audio)
    record = replace(record, weights=config.weights_with(config.motion.system))
    clock = _Clock()
    prepped = prep.prep(clip, config)
    record = record.spent("prep", clock.lap())
    motion = stages.MotionStage(config).generate(prepped)
    record = record.spent("motion", clock.lap())
    with tempfile.TemporaryDirectory(prefix="talkfarm-") as folder:
        path = Path(folder) / "clip.mp4"
        made = stages.RenderStage(config).render(prepped, motion, path, True, _Teller(len(motion), tell))
        record = record.spent("render", clock.lap())
        uri = config.out if config.out.lower().endswith(".mp4") else storage.join(config.out, f"{clip.id}.mp4")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        storage.write_atomic(uri, path)
        size_bytes = path.stat().st_size
    return replace(
        record.spent("write", clock.lap()),
        outcome=RENDERED,
        uri=uri,
        sha256=sha256,
        size_bytes=size_bytes,
        frames=len(motion),
        duration_s=len(motion) / FPS,
        width=made.width,
        height=made.height,
        warnings=prepped.warnings,
        thumbnail=made.thumbnail,
        **made.settled,
    )


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


class _Teller:
    """Turns counts of finished frames into a line now and then."""

    def __init__(self, frames: int, tell: Callable[[str], None]):
        self._frames, self._tell = frames, tell
        self._began = self._told = time.monotonic()
        self._first = 0

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if not self._first:
            self._first = done
            self._tell("first frames are there")
            self._began = self._told = now
        elif now - self._told > TELL_EVERY_S:
            self._told = now
            speed = (done - self._first) / (now - self._began)
            left = (self._frames - done) / speed
            self._tell(f"{done}/{self._frames} frames | {speed:.0f} frames/s | about {left:.0f} s left")
