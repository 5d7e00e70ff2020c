"""Frames in, MP4 out: one ffmpeg per clip, fed through a pipe; and joining the parts of long clips.

H.264 in yuv420p with BT.709 colours, AAC at 48 kHz, index at the front. Sound and pictures are equally long to
within one AAC packet (21 ms). The same frames and sound give the same bytes. A file appears under its name
complete or not at all.
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from models.interfaces import FPS, SAMPLE_RATE
from pipeline import ffmpeg
from pipeline.errors import RenderError

SOUND_RATE = 48_000  # Hz in the file; a whole number of samples per frame
KEYFRAME_INTERVAL = 2 * FPS  # frames; players can jump to every second second
# The scaler would convert by BT.601 otherwise, and players believe the tags.
_TO_VIDEO = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd,format=yuv420p,"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
_FRAMES_DONE = re.compile(rb"^frame=(\d+)$", re.MULTILINE)
_INTERNAL_HINT = "this is a fault of ours or of the machine (disk full?); run again"


@dataclass(frozen=True)
class Encoding:
    """How to encode.

    Args:
        crf: constant quality of x264, 0 (lossless) to 51; 18 is visually lossless.
        preset: speed of x264, from "ultrafast" to "veryslow".
        audio_kbps: bit rate of the sound.
    """

    crf: int = 18
    preset: str = "veryfast"
    audio_kbps: int = 128


@dataclass(frozen=True)
class Soundtrack:
    """What a video plays.

    Args:
        path: any file with a sound track.
        filters: ffmpeg filters that repair it, in ffmpeg's syntax.
        is_raw: the file is headerless 16 kHz mono s16le.
    """

    path: Path
    filters: str = ""
    is_raw: bool = False


class Encoder:
    """One video being written.

        with Encoder(out, (256, 256), frames=250, soundtrack=sound) as encoder:
            encoder.write(batch)

    Leaving the block completes the file; leaving it by an exception removes what was written.

    Args:
        out: local path, replaced if it exists.
        size: (width, height) in pixels, both even.
        frames: how many frames will be written; the sound is cut or padded with silence to their length.
        soundtrack: None for a video without sound.
        encoding: quality settings.
    Raises:
        RenderError: impossible size, wrong number of frames, or ffmpeg failed (with its last words).
    """

    def __init__(
        self,
        out: Path,
        size: tuple[int, int],
        frames: int,
        soundtrack: Soundtrack | None = None,
        encoding: Encoding = Encoding(),
    ):
        width, height = size
        if width % 2 or height % 2 or width < 2 or height < 2 or frames < 1:
            raise RenderError(f"{out.name}: can't encode {frames} frames of {width} x {height} px", _INTERNAL_HINT)
        self._out, self._frames, self._shape = out, frames, (height, width, 3)
        self._written = 0
        self._partial = _partial(out)
        arguments = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}"]
        arguments += ["-framerate", str(FPS), "-i", "pipe:0", *_sound_input(soundtrack), "-map", "0:v:0"]
        arguments += ["-vf", _TO_VIDEO, "-c:v", "libx264", "-preset", encoding.preset, "-crf", str(encoding.crf)]
        # One thread: the farm runs many encoders side by side, and the result is the same on every machine.
        arguments += ["-threads", "1", "-g", str(KEYFRAME_INTERVAL), "-flags:v", "+bitexact"]
        arguments += [*_sound_output(soundtrack, frames, encoding), *_container(self._partial)]
        self._process = ffmpeg.Process(arguments, feeds=True)

    def write(self, frames: np.ndarray) -> None:
        """Append frames: sRGB, uint8, shape (n, height, width, 3)."""
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise RenderError(
                f"{self._out.name}: frames are {frames.dtype} {frames.shape[1:]}, not uint8 {self._shape}",
                _INTERNAL_HINT,
            )
        self._written += len(frames)
        try:
            self._process.pipe.write(np.ascontiguousarray(frames).data.cast("B"))
        except BrokenPipeError as error:
            self._process.finish()
            raise self._failure() from error

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            self._process.close()
            self._partial.unlink(missing_ok=True)

    def _complete(self) -> None:
        if not self._process.finish():
            raise self._failure()
        if self._written != self._frames:
            raise RenderError(
                f"{self._out.name}: {self._written} frames were rendered, {self._frames} announced", _INTERNAL_HINT
            )
        self._partial.replace(self._out)

    def _failure(self) -> RenderError:
        return RenderError(f"{self._out.name}: encoding failed: {self._process.said()}", _INTERNAL_HINT)


def join_parts(
    parts: list[Path],
    out: Path,
    frames: int,
    soundtrack: Soundtrack | None = None,
    encoding: Encoding = Encoding(),
) -> None:
    """Join videos of one size and encoding without re-encoding them, and add the sound.

    Args:
        parts: local videos in order, as `Encoder` writes them without a soundtrack.
        out: local path, replaced if it exists.
        frames: how many frames the parts have together.
        soundtrack: sound of the whole clip.
        encoding: settings of the sound.
    Raises:
        RenderError: ffmpeg failed, or the number of frames isn't the announced one.
    """
    partial = _partial(out)
    with tempfile.TemporaryDirectory(prefix="talkfarm-join-") as folder:
        # Plain names of our own: the list's quoting rules never meet a user's file name.
        lines = []
        for number, part in enumerate(parts):
            (Path(folder) / f"{number}.mp4").symlink_to(part.resolve())
            lines.append(f"file {number}.mp4\n")
        listing = Path(folder) / "parts.txt"
        listing.write_text("".join(lines))
        arguments = ["-y", "-f", "concat", *ffmpeg.source(listing), *_sound_input(soundtrack), "-map", "0:v:0"]
        arguments += ["-c:v", "copy", *_sound_output(soundtrack, frames, encoding), *_container(partial)]
        arguments += ["-progress", "pipe:1"]
        try:
            with ffmpeg.Process(arguments) as process:
                progress = b"".join(process.chunks(1 << 16))
                if not process.finish():
                    raise RenderError(f"{out.name}: joining failed: {process.said()}", _INTERNAL_HINT)
            joined = int((_FRAMES_DONE.findall(progress) or [b"0"])[-1])
            if joined != frames:
                raise RenderError(f"{out.name}: the parts have {joined} frames, not {frames}", _INTERNAL_HINT)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


def _partial(out: Path) -> Path:
    """Where to write until complete: beside `out`, so that renaming is atomic; unique among processes."""
    return out.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.part")


def _sound_input(soundtrack: Soundtrack | None) -> list[str]:
    if soundtrack is None:
        return []
    raw = ["-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1"] if soundtrack.is_raw else []
    return [*raw, *ffmpeg.source(soundtrack.path)]


def _sound_output(soundtrack: Soundtrack | None, frames: int, encoding: Encoding) -> list[str]:
    if soundtrack is None:
        return ["-an"]
    samples = frames * SOUND_RATE // FPS
    filters = [
        *([soundtrack.filters] if soundtrack.filters else []),
        f"aresample={SOUND_RATE}:async=1:first_pts=0",  # a track that starts late starts with silence
        "aformat=channel_layouts=mono|stereo",
        f"apad=whole_len={samples}",
        f"atrim=end_sample={samples}",
    ]
    bit_rate = f"{encoding.audio_kbps}k"
    return ["-map", "1:a:0", "-af", ",".join(filters), "-c:a", "aac", "-b:a", bit_rate, "-flags:a", "+bitexact"]


def _container(path: Path) -> list[str]:
    plain = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]  # no dates, no versions
    return [*plain, "-movflags", "+faststart", "-f", "mp4", f"file:{path}"]
