"""How fast and how well faces are found, fitted and followed.

    python -m benchmarks.face
    python -m benchmarks.face --pictures '../shared/data/portraits/*' --limit 100 --json face.json

Times are process time per picture or frame. Fit errors are mean distances of fitted and detected points, in
percent of the distance of the outer eye corners. `shake` is the mean size of the head's angular acceleration,
degrees per frame squared: real heads stay well below half a degree.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from models.controls import FaceChoice
from models.facespace import topology as top
from models.facespace.open import OpenSpace
from pipeline.errors import FaceError
from pipeline.face import FaceFinder, segment_person
from pipeline.media import read_portrait, video_frames

FRAMES = 250  # of each video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("TALKFARM_DATA", "../shared/data"))
    parser.add_argument("--pictures", default=str(data / "portraits" / "*"), help="glob of portraits")
    parser.add_argument("--videos", default=str(data / "talking" / "*.mp4"), help="glob of talking videos")
    parser.add_argument("--limit", type=int, default=12, help="at most so many of each (default 12), evenly chosen")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    finder = FaceFinder()
    report = {
        "pictures": measure_pictures(finder, choose_files(options.pictures, options.limit)),
        "videos": measure_videos(finder, choose_files(options.videos, options.limit)),
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def choose_files(pattern: str, limit: int) -> list[Path]:
    folder, name = Path(pattern).parent, Path(pattern).name
    paths = sorted(folder.glob(name))
    return [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).astype(int))]


def measure_pictures(finder: FaceFinder, paths: list[Path]) -> list[dict]:
    print(f"{'picture':40} {'find ms':>8} {'fit ms':>7} {'matte ms':>9} {'error %':>8}")
    space, rows = OpenSpace.load(), []
    for path in paths:
        image = next(read_portrait(path)).image
        start = time.process_time()
        try:
            face = finder.choose(finder.find(image), FaceChoice())
        except FaceError as error:
            print(f"{path.name:40} {error}")
            rows.append({"file": path.name, "face": False})
            continue
        found = time.process_time()
        fit = space.fit(face.landmarks)
        fitted = time.process_time()
        segment_person(image, face)
        row = {
            "file": path.name,
            "face": True,
            "find_ms": 1e3 * (found - start),
            "fit_ms": 1e3 * (fitted - found),
            "matte_ms": 1e3 * (time.process_time() - fitted),
            "error_percent": 100 * fit.residual,
        }
        rows.append(row)
        print("{file:40} {find_ms:8.0f} {fit_ms:7.1f} {matte_ms:9.0f} {error_percent:8.2f}".format(**row))
    seen = [r for r in rows if r["face"]]
    if seen:
        means = {k: float(np.mean([r[k] for r in seen])) for k in seen[0] if k not in ("file", "face")}
        print("{0:40} {find_ms:8.0f} {fit_ms:7.1f} {matte_ms:9.0f} {error_percent:8.2f}".format("mean", **means))
        print(f"faces found in {len(seen)} of {len(rows)} pictures\n")
    return rows


def measure_videos(finder: FaceFinder, paths: list[Path]) -> list[dict]:
    print(
        f"{'video':40} {'frames':>6} {'lost':>5} {'track ms':>9} {'fit ms':>7} {'error %':>8} {'gap r':>6} {'shake':>6}"
    )
    rows = []
    for path in paths:
        frames = [frame for frame, _ in zip(video_frames(path), range(FRAMES))]
        start = time.process_time()
        tracked = list(finder.track(frames))
        points = np.array([p for p in tracked if p is not None])
        if len(points) < 3:
            print(f"{path.name:40} no face")
            continue
        row = {"file": path.name, "frames": len(frames), "lost": len(frames) - len(points)}
        row["track_ms"] = 1e3 * (time.process_time() - start) / len(frames)
        start = time.process_time()
        row |= measure_fit(points)
        row["fit_ms"] = 1e3 * (time.process_time() - start) / len(points)
        rows.append(row)
        print(
            "{file:40} {frames:6} {lost:5} {track_ms:9.1f} {fit_ms:7.2f} {error_percent:8.2f} {gap_correlation:6.3f} "
            "{shake_deg:6.3f}".format(**row)
        )
    return rows


def measure_fit(points: np.ndarray) -> dict:
    space = OpenSpace.load()
    face, motion = space.fit_video(points)
    placed = space.project(face, motion.expression, motion.pose)
    size = face.scale_px * np.exp(-motion.pose[:, 5])
    error = np.linalg.norm((placed - points[:, : top.VERTICES])[..., :2], axis=2).mean(1) / size
    gaps = [p[:, 14, 1] - p[:, 13, 1] for p in (placed, points)]
    return {
        "error_percent": float(100 * error.mean()),
        "gap_correlation": float(np.corrcoef(*gaps)[0, 1]),
        "shake_deg": float(np.degrees(np.abs(np.diff(motion.pose[:, :3], 2, axis=0)).mean())),
    }


if __name__ == "__main__":
    main()
