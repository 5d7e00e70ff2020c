"""What motion systems know of lips: against real faces of speakers they have not seen, and against labelled speech.

    python -m benchmarks.lips --features features [--videos videos.csv] [--labelled labelled] [--split validation]
                              [--systems envelope articulator sadtalker] [--pack FOLDER] [--json FILE]

`--features` is what `python -m jobs.prepare videos=videos.csv out=features` wrote, `--labelled` the output folder of
`python -m scripts.make_labelled_speech`, `--pack` a pack of own weights. Features of earlier versions have no column
`sound`: they need `--videos`, what `videos=` was, to hear the videos themselves. Every system hears the sound track of
a video, brought into step, and moves the face that the video shows; what its lips do is compared with what the real
ones did:

    opening, width   correlation with the real opening and width of the mouth
    distance         mean distance of lips and chin from the real ones, both about their means, in percent of the
                     distance of the outer eye corners (MLD about the mean; "mean face" is what a still mouth scores)
    of still         the distance over that of a mouth that stands still, video by video: how much a speaker moves,
                     which spreads the distances of all systems alike, does not count
    spread           standard deviation of opening and of width, over the real one's
    late             frames by which the lips are late; mean over the videos, and its size
    silence          opening 0.2 s and more into a silence, over the median opening while speaking
    sealed           share of /p b m/ of labelled speech at which the lips meet (chance in brackets)

Videos under 90 frames are left out. Intervals are 95 % bootstrap intervals of the mean over videos.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from models import registry
from models.articulator.lip_basis import LipBasis
from models.controls import Controls
from models.facespace import camera
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, MotionSystem
from models.lips import opening_direction, width_direction
from models.packs import Pack, shipped_pack
from models.teachers.visemes import LABELLED
from pipeline.audio import SpeechFile
from pipeline.cache import fetch
from pipeline.config import CacheConfig
from pipeline.errors import SetupError, TalkfarmError
from pipeline.features import META_COLUMNS, Features, sound_of
from pipeline.metrics.sync import bilabial_closure, closure_by_chance, find_silence, voice_level
from pipeline.samples import read_rows, stored_columns
from pipeline.speech import decode_speech
from pipeline.talking_videos import read_videos

LEAST_FRAMES = 90
LAGS = 6
SETTLED_FRAMES = 5  # into a silence
LEAST_SILENT = 10  # frames, for a video to count
ROUNDS = 2000
SIDE_PX, MIDDLE_PX = 200.0, 128.0  # of the faces that systems are given
SOUND = "sound"  # column of features
VIDEOS_HELP = "table or folder of the videos, as given to jobs.prepare; only needed for features without sound"


@dataclass(frozen=True)
class Shot:
    """A talking video: its sound, in step, and what the face really did.

    Args:
        name: of the video.
        speech: T frames.
        expression: shape (T, 64).
        pose: shape (T, 6).
        level: of the voice, as `pipeline.metrics.sync.voice_level` has it.
    """

    name: str
    speech: SpeechFile
    expression: np.ndarray
    pose: np.ndarray
    level: np.ndarray


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--videos", help=VIDEOS_HELP)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--systems", nargs="+", default=list(registry.MOTION_SYSTEMS))
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="talkfarm-benchmark-") as name:
        shots = read_shots(asked.features, asked.videos, asked.split, Path(name))
        print(f"{len(shots)} videos, {sum(map(len, (s.expression for s in shots))) / 1500:.1f} minutes")
        heads = {"opening": 16, "width": 16, "distance %": 19, "of still": 16, "spread": 12, "late": 12, "silence": 9}
        print(" " * 14 + "".join(f"{head:>{width}}" for head, width in heads.items()) + "  sealed")
        results["mean face"] = _compare(None, shots)
        _print("mean face", results["mean face"])
        for system in asked.systems:
            built = build(system, asked.pack)
            results[system] = _compare(built, shots)
            if asked.labelled:
                results[system] |= _sealed(built, asked.labelled)
            _print(system, results[system])
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2))


def build(system: str, pack: Path | None) -> MotionSystem:
    """A motion system with the networks of a pack, and for the rest with those that ship."""
    own = Pack.open(pack).backed_by(shipped_pack()) if pack else None
    return registry.build_motion_system(system, own)


def read_shots(features: Path, videos: str | None, split: str, work: Path) -> list[Shot]:
    """The videos of a split of prepared features, whole, with their sound. Labelled speech is left out.

    Args:
        features: the folder.
        videos: what the features were made of; with it, videos that it doesn't list are left out.
        split: "train", "validation" or "test".
        work: folder for the sound.
    Raises:
        SystemExit: with a sentence, if videos or features can't be used.
    """
    try:
        listed = None if videos is None else {video.id: video.video for video in read_videos(videos)}
        takes: dict[tuple[str, str], list[Features]] = {}
        for row in _read_rows(features, split):
            if listed is None or row.origin.video_id in listed:
                takes.setdefault((row.origin.video_id, row.origin.sha256), []).append(row)
        shots = []
        for (name, _), parts in sorted(takes.items()):
            parts.sort(key=lambda part: part.origin.start)
            expression, pose, seen = (
                np.concatenate([part[key] for part in parts]) for key in ("expression", "pose", "seen")
            )
            if len(seen) < LEAST_FRAMES or not seen.any():
                continue
            samples = _sound(parts, listed[name] if listed else None, work)
            pcm = work / f"{len(shots):05d}.pcm"
            samples.tofile(pcm)
            moved = (_filled(expression, seen), _filled(pose, seen))
            shots.append(Shot(name, SpeechFile(pcm), *moved, voice_level(samples / 32768)))
    except (SetupError, TalkfarmError) as error:
        raise SystemExit(str(error)) from error
    if not shots:
        among = f" that --videos={videos} lists" if videos else ""
        raise SystemExit(f"{features}: no video of the split '{split}'{among} has {LEAST_FRAMES} frames with a face")
    return shots


def _read_rows(folder: Path, split: str) -> Iterator[Features]:
    """Rows of real videos."""
    sound = [SOUND] if SOUND in stored_columns(str(folder)) else []
    for row in read_rows(str(folder), split, [*META_COLUMNS, "expression", "pose", "seen", *sound]):
        origin = row.origin
        if origin.speaker.startswith(LABELLED):
            continue
        if origin.space != "open":
            raise SetupError([f"{folder} holds coefficients of the space '{origin.space}': they can't be compared"])
        yield row


def _sound(parts: list[Features], video: str | None, work: Path) -> np.ndarray:
    """Samples of a video's rows, in step with them: of the rows, or else of the video; int16, shape (T * 640,)."""
    if all(SOUND in part.arrays for part in parts):
        return np.concatenate([part[SOUND].reshape(-1) for part in parts])
    if video is None:
        problem = f"the features of video '{parts[0].origin.video_id}' have no column '{SOUND}': name its --videos too"
        raise SetupError([f"{problem}, or prepare it again"])
    cache, heard = CacheConfig(), work / "heard.pcm"
    decode_speech(fetch(video, cache.folder, cache.max_gb * 1e9).path, heard)
    first = parts[0].origin.start + parts[0].origin.lag
    return sound_of(SpeechFile(heard), first, first + sum(map(len, parts))).reshape(-1)


def _compare(system, shots: list[Shot]) -> dict[str, list[float]]:
    """Per score, one value per shot."""
    scores: dict[str, list[float]] = {}
    for shot in shots:
        made, real = _lips_of(system, shot.speech, shot.expression[0]), shot.expression
        openings, widths = ([e @ d for e in (made, real)] for d in (opening_direction(), width_direction()))
        lips = [LipBasis.load().coordinates(e - e.mean(0)) for e in (made, real)]
        late = _lag(openings) if system else np.nan
        silent = _settled(find_silence(shot.level))
        speech = np.median((openings[0] - openings[0].min())[~silent]) if system else np.nan
        closed = (openings[0] - openings[0].min())[silent].mean() / speech if silent.sum() >= LEAST_SILENT else np.nan
        distance, still = (np.linalg.norm(off, axis=1).mean() for off in (lips[0] - lips[1], lips[1]))
        values = {
            "opening": _correlation(*openings),
            "width": _correlation(*widths),
            "distance": 100 * distance,
            "of_still": distance / still,
            "opening_spread": openings[0].std() / openings[1].std(),
            "width_spread": widths[0].std() / widths[1].std(),
            "late": late,
            "silence": closed,
        }
        for key, value in values.items():
            scores.setdefault(key, []).append(float(value))
    return scores


def _sealed(system, labelled: Path) -> dict[str, list[float]]:
    """Closures of labelled speech of voices that are not in the training split."""
    scores: dict[str, list[float]] = {"sealed": [], "sealed_by_chance": []}
    rng = np.random.default_rng(0)
    for line in (labelled / "phones.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["split"] == "train":
            continue
        _, samples = wavfile.read(labelled / "speech" / f"{row['row_id']}.wav")
        with tempfile.TemporaryDirectory(prefix="talkfarm-benchmark-") as folder:
            path = Path(folder) / "speech.pcm"
            samples.astype("<i2").tofile(path)
            made = _lips_of(system, SpeechFile(path), np.zeros(64, np.float32))
        phones = [(phone["start"], phone["end"], phone["ipa"]) for phone in row["phones"]]
        opening = made @ opening_direction()
        scores["sealed"].append(bilabial_closure(opening - opening.min(), phones))
        scores["sealed_by_chance"].append(closure_by_chance(opening - opening.min(), phones, rng))
    return scores


def _lips_of(system, speech: SpeechFile, first: np.ndarray) -> np.ndarray:
    """Expression over time of a face of mean shape that begins as the real one, shape (T, 64); None: it stays so."""
    return generate(system, speech, first).expression if system else np.tile(first, (speech.frames, 1))


def generate(system: MotionSystem, speech: SpeechFile, first: np.ndarray, seed: int = 1) -> Motion:
    """What a system does with a face of mean shape that looks straight ahead, with a first expression (64,)."""
    space, middle = OpenSpace.load(), np.array([MIDDLE_PX, MIDDLE_PX], np.float32)
    nobody, straight = np.zeros(80, np.float32), np.zeros(6, np.float32)
    points = np.concatenate([space.vertices(nobody, first), space.mean[468:]])
    landmarks = camera.project(points, straight, SIDE_PX, middle).astype(np.float32)
    ahead = np.zeros(2, np.float32)
    source = FaceFit("open", landmarks, nobody, first, straight, ahead, SIDE_PX, middle, 0.0)
    return system.generate(speech, source, Controls(), seed)


def _filled(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Frames without a face filled in between their neighbours, shape (T, C)."""
    times = np.arange(len(seen))
    return np.stack([np.interp(times, times[seen], column[seen]) for column in values.T], axis=1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-6 else 0.0


def _lag(openings: list[np.ndarray]) -> int:
    """Frames by which the first is late against the second."""
    made, real = openings
    pairs = {
        lag: (made[max(0, lag) : len(made) + min(0, lag)], real[max(0, -lag) : len(real) - max(0, lag)])
        for lag in range(-LAGS, LAGS + 1)
    }
    return max(pairs, key=lambda lag: _correlation(*pairs[lag]))


def _settled(silent: np.ndarray) -> np.ndarray:
    """Frames that are at least 0.2 s into a silence."""
    return np.array(
        [silent[max(0, t - SETTLED_FRAMES) : t + 1].all() and t >= SETTLED_FRAMES for t in range(len(silent))]
    )


def _interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval."""
    known = np.array(values)[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan, np.nan
    drawn = np.random.default_rng(0).choice(known, (ROUNDS, len(known))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(known.mean()), float(low), float(high)


def _print(name: str, scores: dict[str, list[float]]) -> None:
    cells = [f"{name:14}"]
    for key in ("opening", "width", "distance", "of_still"):
        mean, low, high = _interval(scores[key])
        cells.append(f"{mean:8.2f} {low:.2f}..{high:.2f}")
    late = np.array(scores["late"])
    cells.append(f"{np.mean(scores['opening_spread']):7.2f} {np.mean(scores['width_spread']):.2f}")
    cells.append(f"{np.mean(late):+7.2f} {np.mean(np.abs(late)):.2f}")
    cells.append(f"{np.nanmean(scores['silence']) if np.isfinite(scores['silence']).any() else np.nan:8.2f}")
    if "sealed" in scores:
        cells.append(f"  {np.nanmean(scores['sealed']):.2f} ({np.nanmean(scores['sealed_by_chance']):.2f})")
    print(" ".join(cells))


if __name__ == "__main__":
    main()
