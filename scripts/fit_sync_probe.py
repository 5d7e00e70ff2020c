"""Fit the linear sync probe that ships in models/weights/sync, and print how well it works.

    python -m scripts.fit_sync_probe --data ../shared/data            # fit, write, check
    python -m scripts.fit_sync_probe --data ../shared/data --check    # check the shipped one only

The folder has an index.csv with the columns file, source, licence, speaker, use and sha256. Only rows of talking/ with
use=train enter the fit; the check is on use=validate, whose speakers the fit has not heard, and on all.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.interfaces import FPS
from pipeline.cache import hash_file
from pipeline.evidence import Evidence
from pipeline.metrics import sync

RIDGE = 1000.0
MOST_FRAMES = 600  # a clip weighs at most as much as one of this length
REFITS = 3  # each with the clips, and at the lags, that the last fit is sure of
SURE, FAR, FAR_SHORT = (
    0.15,
    7,
    2,
)  # confidence; largest lag in frames, and that of clips below 4 s, which stay unshifted
SHORT_S, LEAST_S = 4.0, 4.8  # seconds; the latter for the check
WRONG_SOUNDS = 10  # per clip of the check
SHIFTED = (-8, -5, 5, 8)  # frames
CACHE = Path("~/.cache/talkfarm").expanduser()


@dataclass(frozen=True)
class Clip:
    """A talking video: its index row, what is seen (T, 2) and heard (T, 26)."""

    row: dict[str, str]
    mouth: np.ndarray
    bands: np.ndarray

    @property
    def long_enough(self) -> bool:
        """Whether the check counts it."""
        return len(self.mouth) >= LEAST_S * FPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--check", action="store_true", help="don't fit, check the shipped probe")
    options = parser.parse_args()
    clips = read_clips(options.data)
    if not options.check:
        train = [clip for clip in clips if clip.row["use"] == "train"]
        probe, used = fit(train)
        sync.WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
        np.savez(sync.WEIGHTS, weights=probe.weights.astype(np.float32))
        sync.WEIGHTS.with_name("sources.csv").write_text(sources(used))
        print(f"{sync.WEIGHTS}: fitted on {len(used)} of {len(train)} clips, sha256 {hash_file(sync.WEIGHTS)}")
    probe = sync.Probe.load()
    check("use=validate", probe, [clip for clip in clips if clip.row["use"] == "validate" and clip.long_enough])
    check("all", probe, [clip for clip in clips if clip.long_enough])


def read_clips(data: Path) -> list[Clip]:
    """The talking videos that an index lists, watched and heard."""
    evidence = Evidence(str(CACHE / "evidence"), CACHE)
    with (data / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("talking/")]
    clips = []
    for row in rows:
        path = str(data / row["file"])
        mouth, bands = sync.mouth_signals(evidence.face(path).landmarks), evidence.sound(path).bands
        frames = min(len(mouth), len(bands))
        clips.append(Clip(row, mouth[:frames], bands[:frames]))
    return clips


def fit(clips: list[Clip]) -> tuple[sync.Probe, list[Clip]]:
    """The probe of clips, and those of them that it was last fitted on."""
    used, lags = clips, [0] * len(clips)
    probe = solve(used, lags)
    for _ in range(REFITS):
        found = [probe.sync(clip.mouth, clip.bands) for clip in clips]
        short = [len(clip.mouth) < SHORT_S * FPS for clip in clips]
        sure = [
            k
            for k, result in enumerate(found)
            if result.confidence > SURE and abs(result.lag) <= (FAR_SHORT if short[k] else FAR)
        ]
        used, lags = [clips[k] for k in sure], [0 if short[k] else int(found[k].lag) for k in sure]
        probe = solve(used, lags)
    return probe, used


def solve(clips: list[Clip], lags: list[int]) -> sync.Probe:
    """Ridge regression from sounds to mouths, the sounds moved by known lags."""
    left: np.ndarray | float = 0.0
    right: np.ndarray | float = 0.0
    for clip, lag in zip(clips, lags):
        heard, seen = sync.sound_context(clip.bands), sync.mouth_targets(clip.mouth)
        frames = len(seen)
        heard, seen = heard[max(0, lag) : frames + min(0, lag)], seen[max(0, -lag) : frames + min(0, -lag)]
        weight = min(1.0, MOST_FRAMES / frames)
        left, right = left + weight * heard.T @ heard, right + weight * heard.T @ seen
    left = np.asarray(left)
    return sync.Probe(np.linalg.solve(left + RIDGE * np.eye(len(left)), right))


def check(name: str, probe: sync.Probe, clips: list[Clip]) -> None:
    """Print how well the probe tells matched from mismatched sound, and how well it finds shifts."""
    rng = np.random.default_rng(0)
    matched = [probe.sync(clip.mouth, clip.bands) for clip in clips]
    wrong = []
    for clip in clips:
        others = [other for other in clips if other.row["speaker"] != clip.row["speaker"]]
        chosen = rng.permutation(len(others))[:WRONG_SOUNDS]
        wrong += [probe.sync(clip.mouth, others[k].bands).confidence for k in chosen]
    right = np.array([result.confidence for result in matched])
    auc = float((right[:, None] > np.array(wrong)).mean())
    print(f"{name}: {len(clips)} clips over {LEAST_S} s, AUC matched against mismatched {auc:.3f}, ", end="")
    print(f"median confidence {np.median(right):.2f} against {np.median(wrong):.2f}")
    synced = [(c, r) for c, r in zip(clips, matched) if c.row["sync"] in ("yes", "yes, offset")]
    lags = np.array([r.lag - float(c.row["av_lag_frames"]) for c, r in synced])
    print(f"    lag within 2 frames of the index's: {np.mean(np.abs(lags) <= 2):.0%} of {len(synced)} synced clips")
    for shift in SHIFTED:
        found = [probe.sync(c.mouth, shifted(c.bands, shift)).lag - r.lag for c, r in synced]
        hits = np.mean(np.abs(np.array(found) - shift) <= 2)
        print(f"    sound moved by {shift:+d} frames: found within 2 frames in {hits:.0%}")


def shifted(bands: np.ndarray, frames: int) -> np.ndarray:
    """Bands of a recording delayed by some frames (advanced, if negative), its end repeated."""
    return bands[np.clip(np.arange(len(bands)) - frames, 0, len(bands) - 1)]


def sources(clips: list[Clip]) -> str:
    """What the fit was made from, as CSV."""
    lines = ["file,source,licence,speaker,sha256"]
    for row in sorted((clip.row for clip in clips), key=lambda row: row["file"]):
        lines.append(",".join(f'"{row[key]}"' for key in ("file", "source", "licence", "speaker", "sha256")))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
