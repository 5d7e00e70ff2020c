"""Measure which confidences of the sync probe real speakers reach: the band of the render job's quality gate.

    python -m scripts.measure_sync_band --data ../shared/data

The folder has an index.csv with the columns file, speaker, sync, use and sha256. Videos of talking/ with use=train
whose lips and sound belong together are cut into stretches of several lengths, each half over the next; the band of a
length goes from the 1st to the 99th percentile of their confidences, and a margin further on either side: there are
few speakers, and the next one may lie a little outside. Upwards it is wider, because recordings that portraits speak
are often cleaner than the sound of these videos.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from pipeline.evidence import Evidence
from pipeline.metrics import sync
from pipeline.quality import BAND, LEAST_SYNC_FRAMES

LENGTHS = (LEAST_SYNC_FRAMES, 2 * LEAST_SYNC_FRAMES)  # of longer ones there are too few
PERCENTILES = (1, 99)
MARGINS = (0.05, 0.1)  # of confidence, below and above
TOGETHER = ("yes", "yes, offset")  # of the index's column sync; a constant offset doesn't change a confidence
CACHE = Path("~/.cache/talkfarm").expanduser()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    evidence = Evidence(str(CACHE / "evidence"), CACHE)
    with (data / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("talking/") and row["use"] == "train"]
    rows = [row for row in rows if row["sync"] in TOGETHER and float(row["duration"]) * 25 >= LEAST_SYNC_FRAMES]
    found: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for row in rows:
        path = str(data / row["file"])
        mouth, bands = sync.mouth_signals(evidence.face(path).landmarks), evidence.sound(path).bands
        for length, confidences in found.items():
            for first in range(0, min(len(mouth), len(bands)) - length + 1, length // 2):
                part = slice(first, first + length)
                confidences.append(sync.Probe.load().sync(mouth[part], bands[part]).confidence)
    result = {
        "made_by": "python -m scripts.measure_sync_band",
        "margins": MARGINS,
        "percentiles": PERCENTILES,
        "bands": [_band(length, np.array(confidences)) for length, confidences in found.items()],
        "videos": [{"file": row["file"], "speaker": row["speaker"], "sha256": row["sha256"]} for row in rows],
    }
    BAND.write_text(json.dumps(result, indent=1) + "\n")
    for band in result["bands"]:
        print(band)


def _band(length: int, confidences: np.ndarray) -> dict[str, float | int]:
    confidences = confidences[np.isfinite(confidences)]
    low, high = np.percentile(confidences, PERCENTILES)
    return {
        "frames": length,
        "least": round(max(0.0, float(low) - MARGINS[0]), 3),
        "most": round(float(high) + MARGINS[1], 3),
        "median": round(float(np.median(confidences)), 3),
        "stretches": len(confidences),
    }


if __name__ == "__main__":
    main()
