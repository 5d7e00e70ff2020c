"""How heads move: motion systems against the real heads of the same videos.

    python -m benchmarks.heads --features features [--videos videos.csv] [--split validation]
                               [--systems envelope articulator sadtalker] [--pack FOLDER] [--json FILE]

`--features` is what `python -m jobs.prepare videos=videos.csv out=features` wrote; `--videos` is only needed for
features without sound, as in `benchmarks.lips`. Every system hears the sound of a video and moves a head that looks
straight ahead, with five seeds; rows are means over the videos:

    diversity     standard deviation over time of yaw, pitch and roll, degrees
    speed         degrees per second
    jitter        third difference of the angles, degrees per frame^3
    fast          share of the motion's power above 5 Hz
    Beat Align    of onsets of the speech and moments at which the head turns slowest, sigma 3 frames
    seeds         mean distance of two seeds' angles, degrees
    furthest      largest distance of an angle from the portrait's, degrees

Videos under 90 frames are left out.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.lips import VIDEOS_HELP, Shot, build, generate, read_shots
from models import registry
from models.interfaces import FPS
from pipeline.hearing import find_beats
from pipeline.metrics.motion import beat_align, fast_share, jitter, motion_beats, pose_diversity

SEEDS = range(5)
COLUMNS = ("diversity", "speed", "jitter", "fast", "Beat Align", "seeds", "furthest")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--videos", help=VIDEOS_HELP)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--systems", nargs="+", default=list(registry.MOTION_SYSTEMS))
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talkfarm-benchmark-") as name:
        shots = read_shots(asked.features, asked.videos, asked.split, Path(name))
        onsets = [find_beats(shot.speech.samples(0, shot.speech.frames))[0] for shot in shots]
        print(f"{len(shots)} videos")
        print(f"{'':14}" + "".join(f"{column:>12}" for column in COLUMNS))
        real = [_angles(shot.pose) for shot in shots]
        results = {"real": _means([[angles] for angles in real], onsets)}
        _print("real", results["real"])
        for system in asked.systems:
            built = build(system, asked.pack)
            results[system] = _means([_heads(built, shot) for shot in shots], onsets)
            _print(system, results[system])
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2))


def _heads(system, shot: Shot) -> list[np.ndarray]:
    """Angles of a head for every seed."""
    return [_angles(generate(system, shot.speech, shot.expression[0], seed).pose) for seed in SEEDS]


def _angles(pose: np.ndarray) -> np.ndarray:
    """Pitch, yaw and roll since the first frame, degrees, shape (T, 3)."""
    return np.degrees(pose[:, :3] - pose[0, :3])


def _means(heads: list[list[np.ndarray]], onsets: list[np.ndarray]) -> dict[str, float]:
    """Scores by name, means over the videos.

    Args:
        heads: per video, angles of each seed.
        onsets: of each video's speech, frames.
    """
    rows = []
    for seeds, beats in zip(heads, onsets):
        apart = [np.linalg.norm(a - b, axis=1).mean() for a, b in itertools.combinations(seeds, 2)]
        rows.append(
            [
                np.mean([pose_diversity(angles) for angles in seeds]),
                FPS * np.mean([np.linalg.norm(np.diff(angles, axis=0), axis=1).mean() for angles in seeds]),
                np.mean([jitter(angles) for angles in seeds]),
                np.mean([fast_share(angles) for angles in seeds]),
                np.mean([beat_align(beats, motion_beats(angles)) for angles in seeds]),
                np.mean(apart) if apart else np.nan,
                max(np.abs(angles).max() for angles in seeds),
            ]
        )
    table = np.array(rows)
    means = [float(column[np.isfinite(column)].mean()) if np.isfinite(column).any() else np.nan for column in table.T]
    return dict(zip(COLUMNS, means))


def _print(name: str, scores: dict[str, float]) -> None:
    print(f"{name:14}" + "".join(f"{scores[column]:12.3f}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
