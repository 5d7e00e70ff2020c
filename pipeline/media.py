"""Videos and the question what a file is: probing, streaming frames, portraits from pictures or videos."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import ffmpeg
from pipeline.errors import PictureError, VideoError
from pipeline.pictures import MAX_PIXELS, MIN_SIDE_PX, Picture, is_picture, read_picture

PORTRAIT_FPS = 5  # how densely the start of a video is searched for a usable face ...
PORTRAIT_SECONDS = 20  # ... and how far

_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_VIDEO = re.compile(r"Stream #\S+: Video: (?P<rest>.*)")
_AUDIO = re.compile(r"Stream #\S+: Audio: (?P<rest>.*)")
_SIZE = re.compile(r", (\d{1,5})x(\d{1,5})(?:[ ,]|$)")
_ASPECT = re.compile(r"SAR (\d+):(\d+)")
_FPS = re.compile(r"([\d.]+)(k?) (?:fps|tbr)")
_ROTATION = re.compile(r"rotation of (-?[\d.]+) degrees")
_RATE = re.compile(r"(\d+) Hz, ([^,]+)")
_CHANNELS = {"mono": 1, "stereo": 2, "2.1": 3, "quad": 4, "5.0": 5, "5.1": 6, "5.1(side)": 6, "6.1": 7, "7.1": 8}


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says about itself; zeros where it has no such stream.

    Args:
        duration_s: length as stated by the container, 0.0 if it doesn't say.
        width, height: pixels as displayed: rotated, with square pixels.
        fps: stated frame rate.
        rotation: degrees by which the stored frames are turned for display; 0, 90, 180 or 270 as a rule.
        has_video: has moving pictures; the cover picture of a song doesn't count.
        has_audio: has a sound track.
        sample_rate: Hz of the first sound track.
        channels: of the first sound track.
    """

    duration_s: float
    width: int
    height: int
    fps: float
    rotation: float
    has_video: bool
    has_audio: bool
    sample_rate: int
    channels: int


def probe(path: Path) -> MediaInfo:
    """Read a media file's headers.

    Raises:
        VideoError: the file is empty or no media.
    """
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is an empty file", "upload it again")
    return parse_description(path, ffmpeg.describe(path))


def parse_description(path: Path, text: str) -> MediaInfo:
    """`MediaInfo` from what ffmpeg prints about `path`. Raises VideoError if it found no stream."""
    video = next((m["rest"] for m in _VIDEO.finditer(text) if "(attached pic)" not in m["rest"]), None)
    audio = next((m["rest"] for m in _AUDIO.finditer(text)), None)
    size = _SIZE.search(video) if video else None
    if size is None and audio is None:
        raise VideoError(f"{path} is not a video or sound file that can be read", "check what the file really is")
    width, height, fps, rotation = 0, 0, 0.0, 0.0
    if video and size:
        width, height = int(size[1]), int(size[2])
        if (aspect := _ASPECT.search(video)) and int(aspect[1]) and int(aspect[2]):
            width = round(width * int(aspect[1]) / int(aspect[2]))
        if rate := _FPS.search(video):
            fps = float(rate[1]) * (1000 if rate[2] else 1)
        if turn := _ROTATION.search(text):
            rotation = float(turn[1]) % 360
            if rotation in (90, 270):
                width, height = height, width
    sample_rate, channels = 0, 0
    if audio is not None and (rate := _RATE.search(audio)):
        sample_rate = int(rate[1])
        layout = rate[2].strip()
        channels = _CHANNELS.get(layout) or int((re.match(r"\d+", layout) or ["1"])[0])
    length = _DURATION.search(text)
    duration_s = int(length[1]) * 3600 + int(length[2]) * 60 + float(length[3]) if length else 0.0
    return MediaInfo(duration_s, width, height, fps, rotation, width > 0, audio is not None, sample_rate, channels)


def video_frames(
    path: Path, fps: float = 25, size: tuple[int, int] | None = None, limit_s: float | None = None
) -> Iterator[np.ndarray]:
    """Stream a video's frames, upright, at a constant rate.

    Args:
        path: local file.
        fps: frames per second; frames are dropped or repeated to meet it.
        size: (width, height) in pixels; default: as displayed.
        limit_s: stop after this many seconds.
    Yields:
        sRGB frames, uint8, shape (H, W, 3). A file that is cut short ends early without an error.
    Raises:
        VideoError: no video stream, or not one frame of it can be decoded.
    """
    info = probe(path)
    if not info.has_video:
        raise VideoError(f"{path} has no video stream", "use a video, not a sound file")
    yield from _frames(path, f"fps={fps}", size or (info.width, info.height), limit_s)


def _frames(path: Path, pick: str, size: tuple[int, int], limit_s: float | None) -> Iterator[np.ndarray]:
    """Stream the frames that the filter `pick` lets through; it comes first, so dropped frames cost little."""
    width, height = size
    filters = f"{pick},scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int,setsar=1"
    limit = [] if limit_s is None else ["-t", f"{limit_s:g}"]
    arguments = ["-threads", "1", *limit, *ffmpeg.source(path), "-map", "0:v:0", "-vf", filters]
    arguments += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    frame_bytes = width * height * 3
    count = 0
    with ffmpeg.Process(arguments) as process:
        for chunk in process.chunks(frame_bytes):
            if len(chunk) == frame_bytes:
                count += 1
                yield np.frombuffer(chunk, np.uint8).reshape(height, width, 3)
        if count == 0:
            process.finish()
            raise VideoError(f"{path}: no frame can be decoded: {process.said()}", "export the video again")


def read_portrait(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Picture]:
    """Candidate portraits of a file, the best guess first; the caller takes the first one with a face.

    The content decides: a picture gives exactly one candidate, a video its first frame and then further ones of
    its first seconds.

    Args:
        path: local file, picture or video.
        max_pixels: most pixels of a candidate; larger ones come reduced.
    Raises:
        PictureError, VideoError: at the first `next`, if there is no candidate.
    """
    if path.stat().st_size == 0 or is_picture(path):
        yield read_picture(path, max_pixels)
        return
    if _is_heic(path):
        raise PictureError(f"{path} is a HEIC picture, which can't be read", "export it as JPEG or PNG")
    try:
        info = probe(path)
    except VideoError as error:
        raise PictureError(f"{path} is neither a picture nor a video", "use a JPEG, PNG or WebP file") from error
    if not info.has_video:
        raise VideoError(f"{path} has sound but no pictures", "use a picture or a video as portrait")
    if min(info.width, info.height) < MIN_SIDE_PX:
        raise VideoError(
            f"{path} is {info.width} x {info.height} px", f"a portrait needs at least {MIN_SIDE_PX} px on each side"
        )
    scale = min(1.0, (max_pixels / (info.width * info.height)) ** 0.5)
    size = (int(info.width * scale), int(info.height * scale))
    apart_s = 1 / PORTRAIT_FPS - 0.001  # times are rounded
    pick = f"select='isnan(prev_selected_t)+gte(t-prev_selected_t,{apart_s})'"
    for frame in _frames(path, pick, size, PORTRAIT_SECONDS):
        yield Picture(frame, ("downscaled",) if scale < 1 else ())


def _is_heic(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
