"""Peak memory of rendering one clip, against the length of its speech.

    python -m benchmarks.memory [--minutes 1 10 30] [--size 256] [--json FILE]

Each clip is rendered by a process of its own with `python -m jobs.render`. Memory is the resident set size of that
process and its children, sampled while it runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.inputs import write_portrait, write_speech
from benchmarks.processes import process_tree

SAMPLE_S = 0.1


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 30])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="talkfarm-benchmark-") as name:
        folder = Path(name)
        write_portrait(folder / "portrait.png")
        _render(folder, 0.1, asked.size)  # compiles, once
        for minutes in asked.minutes:
            peak_mb, seconds = _render(folder, minutes, asked.size)
            rows.append({"minutes": minutes, "peak_mb": round(peak_mb, 1), "seconds": round(seconds, 1)})
            growth = peak_mb / rows[0]["peak_mb"] - 1
            print(f"{minutes:6g} min   peak {peak_mb:7.1f} MB ({growth:+.1%})   {seconds:6.1f} s", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"size": asked.size, "clips": rows}, indent=2))


def _render(folder: Path, minutes: float, size: int) -> tuple[float, float]:
    """Peak memory in MB and wall seconds of one clip."""
    speech = folder / f"speech{minutes:g}.wav"
    write_speech(speech, 60 * minutes)
    command = [sys.executable, "-m", "jobs.render", f"portrait={folder}/portrait.png", f"audio={speech}"]
    command += [f"out={folder}/clip.mp4", f"controls.size={size}", f"cache.dir={folder}/cache"]
    command += ["encode.preset=ultrafast"]
    began, peak = time.monotonic(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(_memory_mb(pid) for pid in process_tree(process.pid)))
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise SystemExit(f"rendering {minutes} minutes failed")
    return peak, time.monotonic() - began


def _memory_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:  # ended meanwhile
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
