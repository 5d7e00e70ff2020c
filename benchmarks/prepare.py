"""How fast talking videos become training features, and what a rerun costs.

    python -m benchmarks.prepare [--videos '../shared/data/talking'] [--limit 12] [--workers 2] [--json FILE]

The job runs twice on fresh folders: the second time with nothing left to do. Speed is minutes of video per minute of
wall clock and frames per second, start of the cluster included and not; other programs on the machine disturb it.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from models.interfaces import FPS
from pipeline import cluster
from pipeline.config import load_settings
from pipeline.environment import set_worker_variables
from pipeline.pairs import VIDEOS
from pipeline.prepare import PrepareConfig
from pipeline.prepare_job import prepare


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("TALKFARM_DATA", "../shared/data"))
    parser.add_argument("--videos", type=Path, default=data / "talking", help="folder of talking videos")
    parser.add_argument("--limit", type=int, default=0, help="only so many of them, evenly chosen; 0: all")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    paths = sorted(path for path in asked.videos.resolve().iterdir() if path.suffix.lstrip(".") in VIDEOS)
    if asked.limit:
        paths = [paths[k * len(paths) // asked.limit] for k in range(min(asked.limit, len(paths)))]
    with tempfile.TemporaryDirectory(prefix="talkfarm-benchmark-") as name:
        result = measure(paths, asked.workers, Path(name))
    result |= {"videos": len(paths), "workers": asked.workers}
    show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2))


def measure(paths: list[Path], workers: int, folder: Path) -> dict[str, float]:
    """Seconds of both runs and what the first one made."""
    table = folder / "videos.jsonl"
    table.write_text("\n".join(json.dumps({"video": str(path)}) for path in paths))
    words = [f"videos={table}", f"out={folder}/features", f"cache.dir={folder}/cache", f"flow.workers={workers}"]
    config = load_settings(PrepareConfig, words)
    set_worker_variables(config.cache.folder)
    began = time.perf_counter()
    with cluster.connected():
        started = time.perf_counter()
        card = prepare(config, print)
        running_s = time.perf_counter() - started
    whole_s = time.perf_counter() - began
    again = time.perf_counter()
    prepare(config, print)
    size = sum(path.stat().st_size for path in (folder / "features" / "features").iterdir())
    return {
        "accepted": card["videos"].get("accepted", 0),
        "minutes": card["minutes"],
        "first_s": whole_s,
        "first_running_s": running_s,
        "second_s": time.perf_counter() - again,
        "megabytes": size / 1e6,
    }


def show(result: dict[str, float]) -> None:
    """Print the table."""
    video_s, running_s = result["minutes"] * 60, result["first_running_s"]
    print(f"\n{result['videos']} videos, {result['accepted']} accepted, {result['workers']} workers")
    print(f"  first run      {result['first_s']:8.1f} s   ({running_s:.1f} s without the cluster's start)")
    print(f"  throughput     {video_s / running_s:8.2f} x real time, {video_s * FPS / running_s:.0f} frames/s")
    print(f"  second run     {result['second_s']:8.1f} s   nothing left to do")
    print(f"  features       {result['megabytes']:8.1f} MB  {60 * result['megabytes'] / video_s:.0f} MB a minute")


if __name__ == "__main__":
    main()
