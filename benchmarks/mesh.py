"""How good and how fast the mesh renderer is.

    python -m benchmarks.mesh                                     # both tables
    python -m benchmarks.mesh --videos '../shared/data/talking/*.mp4' --json mesh.json
    python -m benchmarks.mesh --speed-only

Quality: the first frame of a real talking video is the portrait, coefficients fitted to the video are the motion;
every 16th frame is compared with the real one at 256 px. In brackets: the first frame repeated.

    PSNR, SSIM    of the whole frame (dB; scikit-image's structural_similarity)
    face PSNR     inside the hull of the real frame's face
    landmarks     mean distance of the 468 points detected anew, % of the distance of the outer eye corners
    mouth         the same for the lips about their own mean
    gap           correlation of the re-detected lip opening with the real one
    CPBD          sharpness of the rendered frames over that of the real first frame

Speed: one thread, process time, frames with head motion, open mouth and blinks; the portrait is the given picture.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, Portrait
from models.mesh.renderer import MeshRenderer
from models.pasting import scaled
from pipeline.framing import plan

if TYPE_CHECKING:
    from pipeline.face import Face

SIZE = 256
STEP = 16  # frames between comparisons
MIN_SECONDS = 4.0
MAX_FRAMES = 375
FPS = 25
CACHE = Path(tempfile.gettempdir()) / "talkfarm-benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("TALKFARM_DATA", "../shared/data"))
    parser.add_argument("--videos", default=str(data / "talking" / "*.mp4"), help="glob of talking videos")
    parser.add_argument("--limit", type=int, default=None, help="at most this many videos")
    parser.add_argument("--picture", type=Path, default=None, help="portrait of the speed table (default: astronaut)")
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--sheets", type=Path, default=None, help="folder for a PNG per video: real above rendered")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    report: dict[str, object] = {"speed": measure_speed(options.picture)}
    if not options.speed_only:
        report["quality"] = measure_quality(find_videos(options.videos), options.limit, options.sheets)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


# ---- speed


def measure_speed(picture: Path | None) -> list[dict[str, float]]:
    """Print and return ms per frame at 256 and 512 px."""
    from pipeline.face import FaceFinder, segment_person

    image = read_picture(picture)
    found = FaceFinder().find(image)[0]
    space = OpenSpace.load()
    face = space.fit(found.landmarks)
    fit_s = stopwatch(lambda: space.fit(found.landmarks), repeat=5)
    matte = segment_person(image, found)
    rows = []
    print(f"{'size':>6}{'ms/frame':>10}{'frames/s':>10}{'prepare ms':>12}{'fit ms':>8}")
    for size in (256, 512):
        framing = plan((image.shape[0], image.shape[1]), face, "crop", size)
        portrait, moved = framing.portrait(image, matte), framing.move(face)
        renderer = MeshRenderer()
        prepared = renderer.prepare(portrait, moved)
        motion = lively_motion(space, moved, 100)
        for _ in renderer.frames(prepared, motion, 0, 8):  # compiles
            pass
        prepare_s = stopwatch(lambda: renderer.prepare(portrait, moved), repeat=5)  # noqa: B023
        frame_s = stopwatch(lambda: list(renderer.frames(prepared, motion, 0, 100)), repeat=3) / 100  # noqa: B023
        row = {"size": size, "frame_ms": frame_s * 1e3, "fps": 1 / frame_s, "prepare_ms": prepare_s * 1e3}
        rows.append(row | {"fit_ms": fit_s * 1e3})
        print(f"{size:>6}{frame_s * 1e3:>10.2f}{1 / frame_s:>10.1f}{prepare_s * 1e3:>12.0f}{fit_s * 1e3:>8.0f}")
    return rows


def lively_motion(space: OpenSpace, face: FaceFit, frames: int) -> Motion:
    """Talking, nodding and blinking around a portrait."""
    t = np.arange(frames)[:, None] / FPS
    expression = face.expression + np.abs(np.sin(8 * t)) * space.direction("jaw_open") * 0.4
    blink = np.clip(np.sin(4 * t) * 4 - 3, 0, 1)
    expression = expression + blink * space.blink(face).sum(0)
    swing = np.concatenate([0.06 * np.sin(2 * t), 0.12 * np.sin(1.5 * t), 0.05 * np.sin(t), 0 * t, 0 * t, 0 * t], 1)
    gaze = face.gaze + 0.1 * np.concatenate([np.sin(t), np.cos(t)], 1)
    return Motion(
        "open", expression.astype(np.float32), (face.pose + swing).astype(np.float32), gaze.astype(np.float32)
    )


def stopwatch(work, repeat: int) -> float:
    """The shortest process time of several runs, seconds: other processes on the machine only ever add."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def read_picture(path: Path | None) -> np.ndarray:
    """A picture, uint8 RGB; scikit-image's astronaut by default."""
    if path is None:
        import skimage.data

        return skimage.data.astronaut()
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: not a picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


# ---- quality


def measure_quality(videos: list[str], limit: int | None, sheets: Path | None) -> list[dict]:
    """Print and return the figures of every video that is long enough and shows a face."""
    rows: list[dict] = []
    print(
        f"\n{'video':28}{'PSNR':>14}{'SSIM':>14}{'face PSNR':>15}{'landmarks %':>14}{'mouth %':>12}"
        f"{'gap r':>7}{'CPBD':>6}"
    )
    for path in videos:
        if limit is not None and len(rows) >= limit:
            break
        frames = read_video(path)
        if len(frames) < MIN_SECONDS * FPS:
            continue
        row = reenact(Path(path), frames, sheets)
        rows.append(row)
        print(format_row(row), flush=True)
    won = sum(row["wins"] for row in rows)
    print(f"better than repeating the first frame in all four of PSNR, SSIM, face PSNR, landmarks: {won}/{len(rows)}")
    return rows


def format_row(row: dict) -> str:
    def pair(name: str, digits: int, width: int) -> str:
        return f"{row[name]:.{digits}f} ({row[name + '_still']:.{digits}f})".rjust(width)

    return (
        f"{row['video'][:27]:28}{pair('psnr', 2, 14)}{pair('ssim', 3, 14)}{pair('face_psnr', 2, 15)}"
        f"{pair('landmarks', 2, 14)}{pair('mouth', 2, 12)}{row['gap_r']:>7.2f}{row['cpbd']:>6.2f}"
        f"{'' if row['wins'] else '  not better'}"
    )


def reenact(path: Path, frames: list[np.ndarray], sheets: Path | None) -> dict:
    """Drive the first frame with the video's own coefficients and compare."""
    from pipeline.face import segment_person

    space = OpenSpace.load()
    tracked = track(path, frames)
    face, motion = space.fit_video(tracked)
    scale = SIZE / max(frames[0].shape[:2])
    small = [shrink(frame) for frame in frames]
    height, width = small[0].shape[:2]
    points = Points()
    matte = segment_person(frames[0], points.largest(frames[0]))
    portrait = Portrait(small[0], (0, 0, width, height), shrink(matte))
    renderer = MeshRenderer()
    prepared = renderer.prepare(portrait, face.moved(scale, (0.0, 0.0)))
    numbers = np.arange(STEP, len(frames), STEP)
    some = Motion(motion.space, motion.expression[numbers], motion.pose[numbers], motion.gaze[numbers])
    rendered = np.concatenate(list(renderer.frames(prepared, some, 0, len(some))))
    still = [compare(small[0], small[n], points) for n in numbers]
    moving = [compare(image, small[n], points) for image, n in zip(rendered, numbers)]
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        pick = np.linspace(0, len(numbers) - 1, 8).astype(int)
        sheet = np.hstack([np.vstack([small[numbers[k]], rendered[k]]) for k in pick])
        cv2.imwrite(str(sheets / f"{path.stem}.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    return summarise(path.stem, moving, still, float(np.mean([cpbd(f) for f in rendered])) / cpbd(small[0]))


def summarise(video: str, moving: list[dict], still: list[dict], sharpness: float) -> dict:
    row: dict = {"video": video, "frames": len(moving), "cpbd": sharpness}
    for name in ("psnr", "ssim", "face_psnr", "landmarks", "mouth"):
        row[name] = float(np.nanmean([m[name] for m in moving]))
        row[name + "_still"] = float(np.nanmean([m[name] for m in still]))
    gaps = np.array([(m["gap"], m["real_gap"]) for m in moving])
    gaps = gaps[np.isfinite(gaps).all(1)]
    row["gap_r"] = float(np.corrcoef(gaps.T)[0, 1])
    row["undetected"] = int(np.isnan([m["landmarks"] for m in moving]).sum())
    row["wins"] = bool(
        all(row[name] > row[name + "_still"] for name in ("psnr", "ssim", "face_psnr"))
        and row["landmarks"] < row["landmarks_still"]
    )
    return row


def compare(image: np.ndarray, real: np.ndarray, points: "Points") -> dict[str, float]:
    """Figures of one frame against the real one, both uint8 (h, w, 3)."""
    from skimage.metrics import structural_similarity

    found, expected = points(image), points(real)
    row = {
        "psnr": psnr(image, real, np.ones(real.shape[:2], bool)),
        "ssim": float(np.mean(structural_similarity(image, real, channel_axis=2))),
    }
    if expected is None:
        return row | dict.fromkeys(("face_psnr", "landmarks", "mouth", "gap", "real_gap"), float("nan"))
    unit = np.linalg.norm(expected[topo.RIGHT_EYE_OUTER] - expected[topo.LEFT_EYE_OUTER])
    mask = np.zeros(real.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(expected[list(topo.OVAL)]).astype(int), (1,))
    row["face_psnr"] = psnr(image, real, mask > 0)
    row["real_gap"] = float(np.linalg.norm(expected[13] - expected[14]) / unit)
    if found is None:
        return row | dict.fromkeys(("landmarks", "mouth", "gap"), float("nan"))
    lips = list(topo.LIPS)
    about = (found[lips] - found[lips].mean(0)) - (expected[lips] - expected[lips].mean(0))
    row["landmarks"] = float(np.linalg.norm(found - expected, axis=1).mean() / unit * 100)
    row["mouth"] = float(np.linalg.norm(about, axis=1).mean() / unit * 100)
    row["gap"] = float(np.linalg.norm(found[13] - found[14]) / unit)
    return row


class Points:
    """The 468 mesh points of a picture, detected afresh; the same pictures are not searched twice."""

    def __init__(self) -> None:
        from pipeline.face import FaceFinder

        self._finder = FaceFinder()
        self._known: dict[bytes, np.ndarray | None] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        key = hashlib.sha1(image.tobytes()).digest()
        if key not in self._known:
            face = self.largest(image)
            self._known[key] = None if face is None else face.landmarks[: topo.VERTICES, :2].astype(np.float32)
        return self._known[key]

    def largest(self, image: np.ndarray) -> "Face | None":
        """The largest face of a picture."""
        return max(self._finder.find(image), key=lambda face: face.size_px, default=None)


def psnr(image: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal to noise ratio of the masked pixels, dB."""
    error = np.mean((image.astype(np.float64) - real)[mask] ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def cpbd(image: np.ndarray) -> float:
    """Cumulative probability of blur detection (Narvekar and Karam): 0 blurred .. 1 sharp; uint8 (h, w, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    edges = cv2.Canny(grey, 60, 140) > 0
    gradient = cv2.Sobel(grey.astype(np.float32), cv2.CV_32F, 1, 0)
    block = 64
    below = total = 0
    for top in range(0, grey.shape[0] - block + 1, block):
        for left in range(0, grey.shape[1] - block + 1, block):
            inside = np.s_[top : top + block, left : left + block]
            if edges[inside].mean() < 0.002:
                continue
            part = grey[inside]
            visible = 5.0 if int(part.max()) - int(part.min()) <= 50 else 3.0  # just noticeable blur, pixels
            for y, x in zip(*np.nonzero(edges[inside])):
                slope = gradient[top + y, left + x]
                if abs(slope) < 40:
                    continue
                width = edge_width(grey[top + y].astype(np.int32), left + int(x), 1 if slope > 0 else -1)
                below += 1 - np.exp(-((width / visible) ** 3.6)) <= 0.63
                total += 1
    return below / max(total, 1)


def edge_width(row: np.ndarray, x: int, direction: int) -> int:
    """Pixels between the local extremes on both sides of an edge in a row that rises with `direction`."""
    left = right = x
    while left > 0 and (row[left] - row[left - 1]) * direction > 0:
        left -= 1
    while right < len(row) - 1 and (row[right + 1] - row[right]) * direction > 0:
        right += 1
    return right - left


# ---- reading


def find_videos(pattern: str) -> list[str]:
    """Paths that match a glob, sorted."""
    folder = Path(pattern).parent
    return sorted(str(path) for path in folder.glob(Path(pattern).name))


def read_video(path: str) -> list[np.ndarray]:
    """The first frames of a video, uint8 RGB."""
    video = cv2.VideoCapture(path)
    frames = []
    while len(frames) < MAX_FRAMES:
        found, image = video.read()
        if not found:
            break
        frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return frames


def shrink(image: np.ndarray) -> np.ndarray:
    """A picture or matte whose longer side is `SIZE`, even sizes."""
    height, width = image.shape[:2]
    half = SIZE / max(height, width) / 2
    return scaled(image, (2 * round(width * half), 2 * round(height * half)))


def track(path: Path, frames: list[np.ndarray]) -> np.ndarray:
    """Landmarks of all frames, shape (T, 478, 3), kept on disk by the video's content; gaps hold the last points."""
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    stored = CACHE / f"{key}.{len(frames)}.npy"
    if stored.is_file():
        return np.load(stored)
    points = np.stack(list(without_gaps(frames, path)))
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(stored, points)
    return points


def without_gaps(frames: list[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    from pipeline.face import FaceFinder

    last = None
    for found in FaceFinder().track(iter(frames)):
        last = found if found is not None else last
        if last is None:
            raise SystemExit(f"{path}: no face in the first frame")
        yield last


if __name__ == "__main__":
    main()
