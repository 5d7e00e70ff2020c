"""Is a rendered clip fit to be delivered? Measures the encoded file, and says what is outside the wanted values.

One pass over the decoded frames, which stream, so memory doesn't grow with a clip's length; the face is looked for in
every n-th of them, and followed through one stretch of some seconds for the sync probe. What follows from a verdict is
in ladder.py.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.interfaces import FPS, Speech
from pipeline import ffmpeg
from pipeline.config import QualityConfig
from pipeline.errors import RenderError, VideoError

if TYPE_CHECKING:
    from pipeline.face import FaceFinder

BAND = Path(__file__).resolve().parents[1] / "models" / "weights" / "sync" / "band.json"

BLACK_LEVEL = 26  # grey level of 255: a tenth of full scale
BLACK_SHARE = 0.98  # of a frame's pixels below that level: the frame is black
GRID = 32  # cells along each side in which a frame is compared with the one before; a mouth covers some of them
STILL_LEVELS = 1.0  # mean change of the grey levels in the cell that changes most: below, the frame is frozen
LEAST_SYNC_FRAMES = 4 * FPS  # below, the probe's score is noise
LEAST_LOUDNESS_FRAMES = 10  # 0.4 s: one block of the loudness measure
_INTEGRATED = re.compile(r"I:\s+(-?[\d.]+|-?inf|nan) LUFS")


@dataclass(frozen=True)
class Scores:
    """What was measured of a file; None is "not measured", and passes.

    Args:
        frames_off: frames by which the pictures, or the file as a whole, are longer or shorter than the speech.
        black: share of black frames.
        frozen: share of frames that repeat the one before.
        loudness_lufs: integrated loudness of the sound track (EBU R 128); -70 is silence.
        faces: share of the frames that were looked at in which a face was found.
        sync: confidence of the sync probe over the stretch that the face was followed through.
        lag_frames: by which the sound is late there.
        sync_frames: length of that stretch.
    """

    frames_off: float
    black: float
    frozen: float
    loudness_lufs: float | None = None
    faces: float | None = None
    sync: float | None = None
    lag_frames: float | None = None
    sync_frames: int = 0


@dataclass(frozen=True)
class Fault:
    """A value outside of what is wanted.

    Args:
        found: name of the check, found and wanted value, as a clause.
        hint: what to do about it.
        is_of_frames: whether rendering the clip otherwise may help.
    """

    found: str
    hint: str
    is_of_frames: bool


class Inspector:
    """Measures files; one per process.

    Args:
        settings: of the gate.
    """

    def __init__(self, settings: QualityConfig):
        self._settings = settings
        self._finder: FaceFinder | None = None

    def inspect(self, path: Path, speech: Speech, start: int, stop: int, has_words: bool = True) -> Scores:
        """Measure a file.

        Args:
            path: the video.
            speech: what it should speak: frames [start, stop) of a recording.
            has_words: whether lips have anything to follow.
        Raises:
            RenderError: it can't be decoded.
        """
        from pipeline.media import probe, video_frames
        from pipeline.observation import tracked_size

        stretch = range(0)
        if has_words and stop - start >= LEAST_SYNC_FRAMES and self._settings.sync_seconds:
            stretch = most_spoken(speech, start, stop, max(LEAST_SYNC_FRAMES, int(self._settings.sync_seconds * FPS)))
        watch = _Watch(self._settings.face_every, range(stretch.start - start, stretch.stop - start))
        try:
            info = probe(path)
            frames = video_frames(path, FPS, tracked_size(path))
            points = list(self._face_points(watch.pick(frames)))
        except VideoError as error:
            raise RenderError(f"the rendered file can't be decoded: {error.message}", "report this clip") from error
        wanted = stop - start
        faces = [seen is not None for number, seen in zip(watch.looked, points) if watch.is_due(number)]
        sync, lag = self._sync(watch, points, speech, stretch)
        return Scores(
            frames_off=round(max(abs(watch.frames - wanted), abs(info.duration_s * FPS - wanted)), 2),
            black=round(watch.black / watch.frames, 4),
            frozen=round(watch.frozen / max(1, watch.frames - 1), 4),
            loudness_lufs=measure_loudness(path) if info.has_audio and wanted >= LEAST_LOUDNESS_FRAMES else None,
            faces=round(sum(faces) / len(faces), 4),
            sync=sync,
            lag_frames=lag,
            sync_frames=len(stretch) if sync is not None else 0,
        )

    def _face_points(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """iBUG points (68, 2) for every frame, or None."""
        from models.facespace.open import OpenSpace
        from pipeline.face import FaceFinder

        self._finder = self._finder or FaceFinder()
        space = OpenSpace.load()
        for points in self._finder.track(frames):
            yield None if points is None else space.ibug(points)[:, :2]

    def _sync(
        self, watch: "_Watch", points: list[np.ndarray | None], speech: Speech, stretch: range
    ) -> tuple[float | None, float | None]:
        """Confidence and lag of the probe; None where it has nothing to say."""
        from pipeline.metrics import sync

        lips = [seen for number, seen in zip(watch.looked, points) if number in watch.stretch]
        if len(lips) < LEAST_SYNC_FRAMES:
            return None, None
        landmarks = np.stack([np.full((68, 2), np.nan) if seen is None else seen for seen in lips])
        bands = sync.log_mel(speech.samples(stretch.start, stretch.stop))
        found = sync.Probe.load().sync(sync.mouth_signals(landmarks), bands)
        if not math.isfinite(found.confidence):
            return None, None
        return round(found.confidence, 4), float(found.lag)


class _Watch:
    """What is counted while frames stream by.

    Args:
        every: how many frames apart the face is looked for.
        stretch: frames of the file through which it is followed.
    """

    def __init__(self, every: int, stretch: range):
        self._every = every
        self.stretch = stretch
        self.frames = self.black = self.frozen = 0
        self.looked: list[int] = []
        self._before: np.ndarray | None = None

    def is_due(self, number: int) -> bool:
        """Whether the face is looked for in this frame."""
        return number % self._every == 0

    def pick(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Count all frames uint8 (H, W, 3), and pass on those in which the face is wanted."""
        import cv2

        for number, frame in enumerate(frames):
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            self.frames += 1
            self.black += bool(np.mean(grey < BLACK_LEVEL) >= BLACK_SHARE)
            self.frozen += self._before is not None and largest_change(self._before, grey) < STILL_LEVELS
            self._before = grey
            if self.is_due(number) or number in self.stretch:
                self.looked.append(number)
                yield frame


def largest_change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change of the grey levels, uint8 (H, W), in the cell of a grid that changes most."""
    import cv2

    change = cv2.absdiff(before, after).astype(np.float32)
    size = min(GRID, change.shape[1]), min(GRID, change.shape[0])
    return float(cv2.resize(change, size, interpolation=cv2.INTER_AREA).max())


def most_spoken(speech: Speech, start: int, stop: int, length: int) -> range:
    """The stretch of frames, `length` long if there are as many, of [start, stop) with the loudest voice."""
    from pipeline.metrics.sync import voice_level

    if stop - start <= length:
        return range(start, stop)
    firsts = [*range(start, stop - length, length), stop - length]
    levels = [float(voice_level(speech.samples(first, first + length)).mean()) for first in firsts]
    first = firsts[int(np.argmax(levels))]
    return range(first, first + length)


def measure_loudness(path: Path) -> float:
    """Integrated loudness of a file's sound track, LUFS; -70 for silence."""
    found = _INTEGRATED.findall(ffmpeg.describe_sound(path, "ebur128=framelog=quiet"))
    loudness = float(found[-1]) if found else -70.0
    return max(loudness, -70.0) if math.isfinite(loudness) else -70.0


@cache
def real_bands() -> list[tuple[int, float, float]]:
    """(frames, least, most) confidence of the sync probe that real speakers reach over so many frames and more.

    Made by `python -m scripts.measure_sync_band`.
    """
    return [(band["frames"], band["least"], band["most"]) for band in json.loads(BAND.read_text())["bands"]]


def real_band(frames: int) -> tuple[float, float]:
    """The band of the longest measured stretch that isn't longer than `frames`."""
    bands = real_bands()
    _, least, most = ([band for band in bands if band[0] <= frames] or bands)[-1]
    return least, most


def find_faults(scores: Scores, settings: QualityConfig) -> list[Fault]:
    """What is outside of the wanted values."""
    real_least, real_most = real_band(scores.sync_frames)
    least_sync = real_least if settings.least_sync is None else settings.least_sync
    most_sync = real_most if settings.most_sync is None else settings.most_sync
    loud = (settings.quietest_lufs, settings.loudest_lufs)
    checks = (
        (scores.frames_off, 0, 1, "duration: {} frames beside the speech", "report this clip", False),
        (scores.black, 0, settings.most_black, "black: a share of {} of the frames", LIGHT, True),
        (scores.frozen, 0, settings.most_frozen, "frozen: a share of {} of the frames repeat the last one", STIR, True),
        (scores.loudness_lufs, *loud, "loudness: {} LUFS", LOUDNESS, False),
        (scores.faces, settings.least_faces, 1, "face: found in a share of {} of the frames", FACE, True),
        (scores.sync, least_sync, most_sync, "sync: probe confidence {}", SYNC, True),
        (scores.lag_frames, -settings.most_lag, settings.most_lag, "sync: the sound is {} frames late", SYNC, True),
    )
    return [
        Fault(f"{words.format(f'{value:g}')}, {_wanted(least, most)} wanted", hint, is_of_frames)
        for value, least, most, words, hint, is_of_frames in checks
        if value is not None and not least <= value <= most
    ]


LIGHT = "use a brighter portrait, or raise quality.most_black"
STIR = "raise controls.pose.scale or controls.expression.scale, or quality.most_frozen"
LOUDNESS = "bring the recording to a usual loudness, or widen quality.quietest_lufs and quality.loudest_lufs"
FACE = "use a portrait whose face is larger and not covered, or less head motion, or lower quality.least_faces"
SYNC = (
    "listen to the recording, which may hold no clear speech; give the clip another seed or motion.system; or widen "
    "quality.least_sync, quality.most_sync and quality.most_lag"
)


def _wanted(least: float, most: float) -> str:
    return f"at most {most:g}" if least == 0 else f"{least:g} to {most:g}"


def merge(parts: list[tuple[int, Scores]], joined: Scores) -> Scores:
    """Scores of a clip from those of its parts.

    Args:
        parts: frames and scores of each; means are weighted by frames.
        joined: what only the joined file shows: `frames_off`, `loudness_lufs`.
    """
    values: dict[str, Any] = asdict(joined)
    for name in ("black", "frozen", "faces", "sync", "lag_frames"):
        known = [(frames, value) for frames, part in parts if (value := getattr(part, name)) is not None]
        total = sum(frames for frames, _ in known)
        values[name] = round(sum(frames * value for frames, value in known) / total, 4) if known else None
    return Scores(**values | {"sync_frames": sum(part.sync_frames for _, part in parts)})


def scores_from(values: dict[str, Any]) -> Scores:
    """The scores among the values of a record's `quality`."""
    return Scores(**{item.name: values[item.name] for item in fields(Scores) if item.name in values})
