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
from models.controls import Controls
from models.interfaces import FPS, Motion
from pipeline import packs
from pipeline.config import EncodeConfig, RenderConfig
from pipeline.enhancer import find_enhancer
from pipeline.errors import InputError
from pipeline.manifest import Clip
from pipeline.prep import Prepped, decoded_speech, matte_of, reference_motion, soundtrack, upright_image

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


def with_neighbours(span: tuple[int, int], frames: int, config: RenderConfig) -> tuple[int, int]:
    """The stretch of a clip's motion that rendering a part of it depends on; like `span`, (first, after the last)."""
    context = registry.RENDERERS[config.renderer].context
    return max(0, span[0] - context), min(frames, span[1] + context)


class MotionStage:
    """Speech and face to coefficients; one per process."""

    def __init__(self, config: RenderConfig):
        self._config = config
        self._entry = registry.MOTION_SYSTEMS[config.motion.system]
        pack = packs.pack_for(self._entry, config.motion_pack, config)
        self._system = packs.build(self._entry.build, pack) if pack else self._entry.build()

    def generate(self, prepped: Prepped) -> Motion:
        """The whole clip's coefficients, from one seed. Raises as `prep` if inputs have to be fetched again."""
        from pipeline.audio import SpeechFile

        clip, samples = prepped.clip, decoded_speech(prepped.speech, self._config)
        special = self._special(clip) if self._entry.understands else {}
        return self._system.generate(SpeechFile(samples), prepped.portrait.face, clip.controls, clip.seed, **special)

    def _special(self, clip: Clip) -> dict[str, Any]:
        """What a system with styles and references is told besides the controls."""
        pose, blink = clip.controls.pose, clip.controls.blink
        style = pose.style or 0
        if style >= self._system.styles:
            last = self._system.styles - 1
            raise InputError(f"pose.style is {style}, but these weights know 0 to {last}", f"use one from 0 to {last}")
        given = {"pose_from": pose.reference, "blinks_from": blink.reference}
        motions = {name: reference_motion(uri, self._config) for name, uri in given.items() if uri is not None}
        return {"style": style, **motions}


class RenderStage:
    """Coefficients and portrait to a video; one per process. Keeps the portraits that it has prepared last."""

    def __init__(self, config: RenderConfig):
        self._config = config
        self._entry = registry.RENDERERS[config.renderer]
        self._enhance = find_enhancer(config.enhancer) if config.enhancer else None
        self._renderers: dict[tuple[str, ...], Any] = {}
        if self._entry.space:
            self._renderer_for(config.controls)  # the same for all clips: an error, or a compilation, comes at once
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
        keep: tuple[int, int] | None = None,
    ) -> Rendered:
        """Stream frames into an encoder, once, or under the quality gate until a try passes.

        Args:
            motion: of the clip, or of a part of it, with neighbours that the renderer looks at.
            out: local path of the MP4.
            with_audio: whether to add the sound, which belongs to the clip's beginning.
            tell: is told how many frames are done, batch by batch.
            start: frame of the clip that is rendered first.
            keep: first frame of `motion` that is rendered, and the one after the last; default: all.
        Raises:
            InputError, TransientError, RenderError, QualityError
        """
        kept = motion if keep is None else motion[slice(*keep)]

        def render(clip: Prepped, moved: Motion) -> Rendered:
            if moved is kept and keep:
                return self._render(clip, motion, keep, out, with_audio, tell)
            return self._render(clip, moved, (0, len(moved)), out, with_audio, tell)

        if self._gate is None:
            return render(prepped, kept)
        made, settled = self._gate.pass_through(prepped, kept, out, start, render)
        return replace(made, settled=settled)

    def _render(
        self,
        prepped: Prepped,
        motion: Motion,
        keep: tuple[int, int],
        out: Path,
        with_audio: bool,
        tell: Callable[[int], None],
    ) -> Rendered:
        from pipeline.encoder import Encoder

        renderer = self._renderer_for(prepped.clip.controls)
        framing, prepared, backdrop = self._prepared(prepped)
        sound = soundtrack(prepped.speech.uri, self._config) if with_audio else None
        thumbnail, done, (first, last) = b"", 0, keep
        with Encoder(out, framing.size, last - first, sound, encoding(self._config.encode)) as encoder:
            for start, stop in split(last - first, STRETCH_S):
                for frames in renderer.frames(prepared, motion, first + start, first + stop):
                    frames = self._enhance(frames) if self._enhance else frames
                    finished = framing.finish(frames, backdrop)
                    encoder.write(finished)
                    thumbnail = thumbnail or _thumbnail(finished[0])
                    done += len(frames)
                    tell(done)
        return Rendered(framing.size[0], framing.size[1], thumbnail)

    def _renderer_for(self, controls: Controls) -> Any:
        """The renderer; of a pack, one for each set of networks that clips ask for."""
        device = "cuda" if self._config.flow.gpus_per_render_actor else "cpu"
        pack = packs.pack_for(self._entry, self._config.pack, self._config)
        key = self._entry.needs(pack, controls) if pack else ()
        if key not in self._renderers:
            self._renderers[key] = (
                packs.build(self._entry.build, pack, device=device, controls=controls)
                if pack
                else self._entry.build(device=device)
            )
        return self._renderers[key]

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
            shape = (image.shape[0], image.shape[1])
            framing = framings.plan(shape, portrait.face, controls.framing, controls.size, self._entry.tight)
            shown = framing.portrait(image, matte_of(portrait))
            prepared = self._renderer_for(controls).prepare(shown, framing.move(portrait.face))
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
