"""Training features: what a network may learn from, per frame of a talking video, in rows of about ten seconds.

A row stands by itself: coefficients, landmarks, eye motion, sound, mel windows and face crops of consecutive frames,
sound and picture in step. The columns and their units are in docs/training.md. Frames without a face are NaN, and False
in `seen`.
"""

import io
import re
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from models.facespace import topology as top
from models.facespace.eye_motion import EYE_MOTION
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, FPS, GAZE, POSE, SAMPLES_PER_FRAME
from pipeline import ffmpeg
from pipeline.audio import MELS, WINDOW_MELS, SpeechFile
from pipeline.errors import VideoError
from pipeline.framing import LIFT, SIDE, resample
from pipeline.media import video_frames
from pipeline.observation import METRIC_SIDE
from pipeline.stages import split
from pipeline.take import Take

if TYPE_CHECKING:
    from models.facespace.bfm import BfmSpace

REVISION = 2  # raise it when rows of the same video change: a folder holds rows of one revision

STRETCH_S = 10.0  # longest row
CROP = 256  # pixels of a face crop's side
JPEG_QUALITY = 92
SEEK_GUARD_S = 2.0  # decoded before a stretch: the frame that is shown at its start may be that old
RIGID = np.array([*range(27, 48)])  # iBUG: nose and eyes, by which a crop is placed
MASKS = {  # name -> (landmarks, their box is grown by this share of its longer side)
    "face": (range(68), 0.10),
    "right_eye": (range(36, 42), 0.30),
    "left_eye": (range(42, 48), 0.30),
    "mouth": (range(48, 68), 0.25),
}

# Arrays of a row: type and shape per frame. They are stored as bytes; the number of frames is in the row.
ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "expression": ("<f4", (EXPRESSION,)),
    "pose": ("<f4", (POSE,)),
    "gaze": ("<f4", (GAZE,)),
    "landmarks": ("<f4", (68, 2)),
    "eye_motion": ("<f4", (EYE_MOTION,)),
    "mel": ("<f2", (MELS, WINDOW_MELS)),
    "sound": ("<i2", (SAMPLES_PER_FRAME,)),
    "boxes": ("<f4", (len(MASKS), 4)),
    "seen": ("|b1", ()),
}

_FIRST_PTS = re.compile(r"n:\s*0 pts:\s*(-?\d+)")


@dataclass(frozen=True)
class Origin:
    """Where a row comes from.

    Args:
        row_id: unique in a folder of features: content of the video and number of the stretch.
        video_id: of the manifest.
        sha256: of the video.
        speaker, language: of the manifest; the speaker is never empty.
        split: "train", "validation" or "test"; all rows of a speaker have the same.
        identity: number of the speaker, from 0 on, for good; below 0 for voices of labelled speech.
        style: number of the speaker among those of the training split, from 0 on, for good; -1 in other splits.
        space: coefficient space of expression and pose.
        start: first frame, at 25 fps from the video's beginning.
        frames: how many.
        lag: frames by which the sound was late.
    """

    row_id: str
    video_id: str
    sha256: str
    speaker: str
    language: str
    split: str
    identity: int
    style: int
    space: str
    start: int
    frames: int
    lag: int


@dataclass(frozen=True)
class Features:
    """A row, or some of its columns.

    Args:
        origin: where it comes from.
        arrays: by name, shape (T, ...) as `ARRAYS`; landmarks and boxes (x0, y0, x1, y1) in pixels of the crop.
        crops: JPEGs of 256 x 256 pixels, one per frame; empty if they were not kept or not read.
    """

    origin: Origin
    arrays: Mapping[str, np.ndarray]
    crops: Sequence[bytes] = field(default=(), repr=False)

    def __len__(self) -> int:
        return self.origin.frames

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def image(self, frame: int) -> np.ndarray:
        """A face crop: sRGB, uint8, shape (256, 256, 3)."""
        return np.asarray(Image.open(io.BytesIO(self.crops[frame])).convert("RGB"))

    def to_row(self) -> dict[str, Any]:
        """Plain values for a table."""
        packed = {name: self.arrays[name].astype(ARRAYS[name][0]).tobytes() for name in ARRAYS}
        return {**vars(self.origin), **packed, "crops": list(self.crops)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Features":
        """The inverse of `to_row`; arrays and crops whose column is missing are left out."""
        origin = Origin(**{name: _plain(row[name]) for name in Origin.__dataclass_fields__})
        arrays = {
            name: np.frombuffer(row[name], kind).reshape(origin.frames, *shape)
            for name, (kind, shape) in ARRAYS.items()
            if name in row
        }
        return cls(origin, arrays, tuple(row.get("crops", ())))


META_COLUMNS = tuple(Origin.__dataclass_fields__)


def stretches(first: int, last: int) -> list[tuple[int, int]]:
    """Frames [first, last) cut into rows of nearly equal length, each as (first frame, frame after the last)."""
    return [(first + start, first + stop) for start, stop in split(last - first, STRETCH_S)]


def extract(
    path: Path,
    take: Take,
    speech: SpeechFile,
    origin: Origin,
    with_crops: bool = True,
    bfm: "BfmSpace | None" = None,
) -> Features:
    """The features of one stretch of a video.

    Args:
        path: the video.
        take: what was seen of it.
        speech: its decoded sound track.
        origin: which stretch.
        with_crops: whether face crops are cut out, which most of the time goes into.
        bfm: reads expression and pose off the pictures, instead of the open space; gaze and eye motion stay the open
            space's. Nothing is smoothed then.
    Raises:
        VideoError: the frames can't be decoded again.
    """
    part = slice(origin.start, origin.start + origin.frames)
    scale = float(max(take.size)) / METRIC_SIDE
    landmarks = take.landmarks[part] * scale
    corner, side = crop_square(landmarks, (int(take.size[0]), int(take.size[1])))
    inside = ((landmarks - corner) * (CROP / side)).astype(np.float32)
    arrays = {
        "expression": take.expression[part],
        "pose": take.pose[part],
        "gaze": take.gaze[part],
        "landmarks": inside,
        "eye_motion": take.eye_motion[part],
        "mel": speech.mel_windows(part.start + origin.lag, part.stop + origin.lag),
        "sound": sound_of(speech, part.start + origin.lag, part.stop + origin.lag),
        "boxes": mask_boxes(inside),
        "seen": take.seen[part],
    }
    crops: list[bytes] = []

    def pictures() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames with a face and its landmarks in their pixels; crops are cut from all frames on the way."""
        # the decoder scales down, which is cheaper than doing it later; the regressor looks twice as closely
        shrink = min(1.0, (2 if bfm else 1) * CROP / side)
        size = (max(2, round(take.size[0] * shrink / 2) * 2), max(2, round(take.size[1] * shrink / 2) * 2))
        ratio = size[0] / float(take.size[0])
        box = (*(corner * ratio), *((corner + side) * ratio))
        for frame, points in zip(stretch_frames(path, part.start, part.stop, size), landmarks):
            if with_crops:
                crops.append(cut_crop(frame, box))
            if np.isfinite(points[0, 0]):
                yield frame, points * ratio

    if bfm:
        seen = arrays["seen"]
        for name, found in zip(("expression", "pose"), bfm.read_frames(pictures())):
            arrays[name] = np.full(arrays[name].shape, np.nan, np.float32)
            arrays[name][seen] = found
    elif with_crops:
        deque(pictures(), maxlen=0)
    return Features(origin, arrays, crops)


def sound_of(speech: SpeechFile, start: int, stop: int) -> np.ndarray:
    """Samples of frames [start, stop), silent beyond the recording's ends: int16, shape (stop - start, 640)."""
    first, last = max(0, start), min(stop, speech.frames)
    frames = np.zeros((stop - start, SAMPLES_PER_FRAME), np.int16)
    if first < last:
        samples = speech.samples(first, last).reshape(-1, SAMPLES_PER_FRAME)
        frames[first - start : last - start] = np.rint(samples * 32768)
    return frames


def crop_square(landmarks: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The square that shows head and shoulders through a stretch, as `pipeline.framing` crops a portrait.

    It stands still, so that the head moves in it as it does in the video.

    Args:
        landmarks: iBUG points in pixels, shape (T, 68, 2), NaN where there is no face.
        size: width, height of the video.
    Returns:
        x and y of its corner, and its side, in pixels; inside the video.
    """
    model, low, high = _outline()
    points = landmarks[np.isfinite(landmarks[:, 0, 0])][:, RIGID]
    if len(points):
        middles = points.mean(1)
        reach = (model - model.mean(0)).reshape(-1)
        spread = (points - middles[:, None]).reshape(len(points), -1)
        # the size of a face seen from the front: a turned head is narrower, never larger
        scale = float(np.percentile(np.linalg.norm(spread, axis=1) / np.linalg.norm(reach), 75))
        origin = np.median(middles, axis=0) - model.mean(0) * scale
        length = float((high - low).max()) * scale
        centre = origin + (low + high) / 2 * scale - (0, LIFT * length)
    else:
        length, centre = min(size) / SIDE, np.array(size) / 2
    side = min(SIDE * length, *size)
    return np.clip(centre - side / 2, 0, np.array(size) - side), side


def mask_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Boxes around face, right eye, left eye and mouth, as `MASKS`; shape (T, 68, 2) -> (T, 4, 4), x0 y0 x1 y1."""
    boxes = []
    for points, growth in MASKS.values():
        low, high = landmarks[:, list(points)].min(1), landmarks[:, list(points)].max(1)
        margin = growth * (high - low).max(1, keepdims=True)
        boxes.append(np.concatenate([low - margin, high + margin], 1))
    return np.stack(boxes, 1)


def cut_crop(frame: np.ndarray, box: tuple[float, float, float, float]) -> bytes:
    """JPEG of a square of a frame, 256 x 256 pixels."""
    sink = io.BytesIO()
    Image.fromarray(resample(frame, box, (CROP, CROP))).save(sink, "JPEG", quality=JPEG_QUALITY)
    return sink.getvalue()


def stretch_frames(path: Path, start: int, stop: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames [start, stop) of those that `video_frames(path, 25, size)` yields, without decoding all before them.

    Raises:
        VideoError: there are fewer.
    """
    count = 0
    for frame in _sought(path, start, stop, size) if start > SEEK_GUARD_S * FPS else ():
        count += 1
        yield frame
    if count == 0:  # the beginning, or a file that can't be sought in
        for number, frame in enumerate(video_frames(path, FPS, size, limit_s=stop / FPS + SEEK_GUARD_S)):
            if start <= number < stop:
                count += 1
                yield frame
    if count != stop - start:
        raise VideoError(
            f"{path} gave {count} frames of {stop - start} from frame {start} on", "copy it again: it has changed"
        )


def _sought(path: Path, start: int, stop: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """As `stretch_frames`, by jumping; possibly fewer frames.

    Frame k lies at slot first + k of a grid of 1/25 s that starts with the file; jumping keeps the grid only if time
    stamps are kept.
    """
    first = _first_slot(path)
    begin_s = max(0.0, (first + start) / FPS - SEEK_GUARD_S)
    half = 0.5 / FPS
    filters = f"fps={FPS},trim=start={(first + start) / FPS - half:.4f}:end={(first + stop) / FPS - half:.4f}"
    filters += f",scale={size[0]}:{size[1]}:flags=bicubic+accurate_rnd+full_chroma_int,setsar=1"
    arguments = ["-threads", "1", "-copyts", "-start_at_zero", "-ss", f"{begin_s:.4f}", *ffmpeg.source(path)]
    arguments += ["-map", "0:v:0", "-vf", filters, "-fps_mode", "passthrough"]
    arguments += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    frame_bytes = size[0] * size[1] * 3
    with ffmpeg.Process(arguments) as process:
        for chunk in process.chunks(frame_bytes):
            if len(chunk) == frame_bytes:
                yield np.frombuffer(chunk, np.uint8).reshape(size[1], size[0], 3)


def _first_slot(path: Path) -> int:
    """Where on the grid of 1/25 s a video's first frame lies."""
    arguments = ["-v", "info", "-copyts", "-start_at_zero", *ffmpeg.source(path), "-map", "0:v:0"]
    arguments += ["-vf", f"fps={FPS},showinfo", "-frames:v", "1", "-f", "null", "-"]
    done = subprocess.run(ffmpeg.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    found = _FIRST_PTS.search(done.stderr.decode(errors="replace"))
    return int(found[1]) if found else 0


@cache
def _outline() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rigid landmarks of the mean face (21, 2), and the box around its outline (2,), (2,), all in model units."""
    space = OpenSpace.load()
    outline = space.mean[list(top.OVAL), :2]
    return space.ibug(space.mean)[RIGID, :2], outline.min(0), outline.max(0)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
