"""What the pictures of a video tell: against the real ones and by themselves. Frames stream; a few stay in memory."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from models.interfaces import FPS
from pipeline.media import probe, video_frames
from pipeline.metrics.image import cpbd, flicker, psnr, ssim, warp_error
from pipeline.observation import Observation, metric_size
from pipeline.scoring import Value, Values

EVERY = 5  # frames: neighbours look alike
REVISION = 1  # raise it when values change: stored ones are made again
HEAD_MARGIN = 1.8  # hull of the landmarks about its middle, so that hair and neck are in it


def compare(path: Path, real: Path, every: int = EVERY) -> Values:
    """PSNR, and SSIM of luma, of some frames against the same frames of another video, at 256 px.

    The real frames are brought to the video's size.

    Args:
        every: how many frames apart.
    """
    found: list[tuple[float, float]] = []
    for number, (image, other) in enumerate(zip(_frames(path, None), _frames(real, _size(path)))):
        if number % every == 0:
            found.append((psnr(image, other), ssim(*(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (image, other)))))
    both = np.array(found)
    return {name: Value(float(both[:, k].mean()), len(both)) for k, name in enumerate(("psnr", "ssim"))}


def inspect(path: Path, face: Observation) -> Values:
    """CPBD, flicker of the background and warp error of the face, of every fifth frame at 256 px."""
    sharp, flickers, warps = [], [], []
    for number, (image, following) in enumerate(pairwise(_frames(path, None))):
        if number % EVERY:
            continue
        sharp.append(cpbd(image))
        if number + 1 < len(face) and face.seen[number] and face.seen[number + 1]:
            both = np.stack([face.landmarks[number], face.landmarks[number + 1]])
            background = ~_hull(np.concatenate(both), image.shape, HEAD_MARGIN)
            flickers.append(flicker(image, following, background))
            warps.append(warp_error(image, following, _hull(both[1], image.shape, 1.0)))
    return {"cpbd": _mean(sharp), "flicker": _mean(flickers), "warp_error": _mean(warps)}


def _mean(values: list[float]) -> Value:
    found = [value for value in values if np.isfinite(value)]
    return Value(float(np.mean(found)), len(found)) if found else Value(float("nan"), 0, "no frame to measure it on")


def _size(path: Path) -> tuple[int, int]:
    info = probe(path)
    return metric_size(info.width, info.height)[1]


def _frames(path: Path, size: tuple[int, int] | None) -> Iterator[np.ndarray]:
    return video_frames(path, FPS, size or _size(path))


def _hull(points: np.ndarray, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Pixels inside the hull of points (N, 2), enlarged about its middle; bool (H, W)."""
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    middle = (hull.min(0) + hull.max(0)) / 2
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(middle + (hull - middle) * scale).astype(np.int32), (1,))
    return mask > 0
