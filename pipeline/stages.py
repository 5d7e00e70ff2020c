"""Motion, split and render as plain callables on plain data. No Ray here."""

import io
import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import registry
from models.interfaces import FPS, Motion
from pipeline.config import EncodeConfig, RenderConfig
from pipeline.manifest import Clip
from pipeline.prep import Prepped, decoded_speech, matte_of, soundtrack, upright_image

if TYPE_CHECKING:
    from pipeline.encoder import Encoding
    from pipeline.ladder import Gate

PORTRAITS_KEPT = 4  # prepared portraits per render worker; one takes some 10 MB
STRETCH_S = 60  # of motion handed to a renderer at once, so that what it works out for it stays small
THUMBNAIL_PX = 96  # longer side


@dataclass(frozen=True)
class Rendered:
    """A video that has been written.

    Args:
        width, height: pixels.
        thumbnail: a small JPEG of its first frame.
        settled: fields of the clip's record that the quality gate has settled; none without the gate.
    """

    width: int
    height: int
    thumbnail: bytes
    settled: dict[str, Any] = field(default_factory=dict)


def split(frames: int, max_part_seconds: float) -> list[tuple[int, int]]:
    """Cut a clip into parts of nearly equal length, as (first frame, frame after the last)."""
    parts = max(1, -(-frames // int(max_part_seconds * FPS)))
    bounds = [round(frames * part / parts) for part in range(parts + 1)]
    return list(itertools.pairwise(bounds))


class MotionStage:
    """Speech and face to coefficients; one per process."""

    def __init__(self, config: RenderConfig):
        self._config = config
        self._system = registry.MOTION_SYSTEMS[config.motion.system].build()

    def generate(self, prepped: Prepped) -> Motion:
        """The whole clip's coefficients, from one seed. Raises as `prep` if inputs have to be fetched again."""
        from pipeline.audio import SpeechFile

        clip, samples = prepped.clip, decoded_speech(prepped.speech, self._config)
        return self._system.generate(SpeechFile(samples), prepped.portrait.face, clip.controls, clip.seed)


class RenderStage:
    """Coefficients and portrait to a video; one per process. Keeps the portraits that it has prepared last."""

    def __init__(self, config: RenderConfig):
        self._config = config
        device = "cuda" if config.flow.gpus_per_render_actor else "cpu"
        self._renderer = registry.RENDERERS[config.renderer].build(device=device)
        self._portraits: OrderedDict[tuple, tuple] = OrderedDict()
        self._systems: dict[str, MotionStage] = {}
        self._gate = self._build_gate() if config.quality.check else None

    def render(
        self,
        prepped: Prepped,
        motion: Motion,
        out: Path,
        with_audio: bool,
        tell: Callable[[int], None] = lambda frames: None,
        start: int = 0,
    ) -> Rendered:
        """Stream frames into an encoder, once, or under the quality gate until a try passes.

        Args:
            motion: of the clip, or of a part of it.
            out: local path of the MP4.
            with_audio: whether to add the sound, which belongs to the clip's beginning.
            tell: is told how many frames are done, batch by batch.
            start: frame of the clip at which the motion begins.
        Raises:
            InputError, TransientError, RenderError, QualityError
        """
        if self._gate is None:
            return self._render(prepped, motion, out, with_audio, tell)
        made, settled = self._gate.pass_through(
            prepped, motion, out, start, lambda clip, moved: self._render(clip, moved, out, with_audio, tell)
        )
        return replace(made, settled=settled)

    def _render(
        self, prepped: Prepped, motion: Motion, out: Path, with_audio: bool, tell: Callable[[int], None]
    ) -> Rendered:
        from pipeline.encoder import Encoder

        framing, prepared, backdrop = self._prepared(prepped)
        sound = soundtrack(prepped.speech.uri, self._config) if with_audio else None
        thumbnail, done = b"", 0
        with Encoder(out, framing.size, len(motion), sound, encoding(self._config.encode)) as encoder:
            for start, stop in split(len(motion), STRETCH_S):
                for frames in self._renderer.frames(prepared, motion, start, stop):
                    finished = framing.finish(frames, backdrop)
                    encoder.write(finished)
                    thumbnail = thumbnail or _thumbnail(finished[0])
                    done += len(frames)
                    tell(done)
        return Rendered(framing.size[0], framing.size[1], thumbnail)

    def _build_gate(self) -> "Gate":
        from pipeline.audio import SpeechFile
        from pipeline.ladder import Gate

        config = self._config
        return Gate(config, self._generate, lambda prepped: SpeechFile(decoded_speech(prepped.speech, config)))

    def _generate(self, prepped: Prepped, system: str) -> Motion:
        """The motion of a clip by a system that is built when it is first asked for."""
        if system not in self._systems:
            motion = self._config.motion.model_copy(update={"system": system})
            self._systems[system] = MotionStage(self._config.model_copy(update={"motion": motion}))
        return self._systems[system].generate(prepped)

    def _prepared(self, prepped: Prepped) -> tuple:
        """Framing, the renderer's own preparation and the backdrop of a portrait."""
        from pipeline import framing as framings

        portrait, controls = prepped.portrait, prepped.clip.controls
        key = (portrait.sha256, controls.framing, controls.size, controls.face)
        if key not in self._portraits:
            image = upright_image(portrait, self._config)
            framing = framings.plan((image.shape[0], image.shape[1]), portrait.face, controls.framing, controls.size)
            shown = framing.portrait(image, matte_of(portrait))
            prepared = self._renderer.prepare(shown, framing.move(portrait.face))
            self._portraits[key] = (framing, prepared, framing.backdrop(image))
            while len(self._portraits) > PORTRAITS_KEPT:
                self._portraits.popitem(last=False)
        self._portraits.move_to_end(key)
        return self._portraits[key]


def join(parts: list[Path], clip: Clip, frames: int, out: Path, config: RenderConfig) -> None:
    """Make one video with sound of the parts of a clip, without encoding them again.

    Args:
        parts: local videos, in order.
        frames: of all parts together.
    Raises:
        InputError, TransientError, RenderError
    """
    from pipeline.encoder import join_parts

    join_parts(parts, out, frames, soundtrack(clip.audio, config), encoding(config.encode))


def encoding(settings: EncodeConfig) -> "Encoding":
    """The encoder's view of the settings."""
    from pipeline.encoder import Encoding

    return Encoding(settings.crf, settings.preset, settings.audio_kbps)


def _thumbnail(frame: np.ndarray) -> bytes:
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return file.getvalue()
