"""One talking video as training material: its face followed, its faults found, its sound brought into step.

What is unfit to learn from is refused with a sentence that names the fault: several shots, a face that is lost, small,
turned away or not alone, sound that has no speech or doesn't belong to the lips. Frames stream; what stays is some
0.8 kB per frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from pydantic import Field

from models.facespace.eye_motion import eye_motion
from models.facespace.fit import Fitter, smooth_calm_part, smooth_pose
from models.facespace.gaze import hold_through_blinks
from models.facespace.open import OpenSpace
from models.interfaces import FPS
from pipeline.arrays import Arrays
from pipeline.audio import SpeechFile
from pipeline.config import Section
from pipeline.errors import AudioError, FaceError, VideoError
from pipeline.face import FaceFinder
from pipeline.media import probe
from pipeline.metrics.sync import LEAST_FRAMES, Probe, Sync, log_mel, mouth_signals
from pipeline.observation import METRIC_SIDE, Observation, observe

REVISION = 2  # raise it when takes of the same video change: stored ones are made again

THUMB = 32  # pixels: neighbouring frames are compared this small
CUT_CHANGE = 18.0  # mean change of grey levels (0-255) from which it may be a cut; single shots stay below 13 ...
CUT_RATIO = 4.0  # ... and how far it must stand out from the changes around it
CUT_AROUND = 12  # frames to either side
CUT_JUMP = 0.5  # distances of the outer eye corners that no head moves within a frame
OTHERS_EVERY = 5 * FPS  # frames between looks for other faces
OTHER_SIZE = 0.5  # of the followed face's: from here on another face could be the speaker
OTHERS_SHARE = 0.3  # of the looks in which there is one

SURE_FRAMES = 4 * FPS  # from which on a measured lag can be trusted to a frame
NOISE_FRAMES = 1  # lags up to this are the probe's own error, and are left alone
SHORT_LAG = 3  # frames; a short video whose lag seems larger is refused
SURE_SYNC = 0.25  # confidence of the probe from which on a larger lag, or that of half a video, is believed
DRIFT_FROM = 8 * FPS  # frames from which on both halves must have one lag ...
DRIFT = 3  # ... within this many frames
LISTEN_STRETCH = 60 * FPS  # frames of sound looked at together


class TakeChecks(Section):
    """What a video must be like to be learned from."""

    least_s: float = Field(default=2.0, ge=2, description="shortest video, seconds")
    least_fps: float = Field(default=20.0, gt=0, description="lowest frame rate of the source")
    least_face_px: float = Field(default=32.0, gt=0, description="smallest distance of the outer eye corners, pixels")
    least_seen: float = Field(default=0.95, gt=0, le=1, description="share of the frames that must show the face")
    most_yaw_deg: float = Field(
        default=60.0, gt=0, le=90, description="head turned further than this for a tenth of the time is refused"
    )
    least_sync: float = Field(
        default=0.12, ge=0, description="least confidence of the sync probe; right sound has 0.15 to 0.7, wrong about 0"
    )


@dataclass(frozen=True)
class Take(Arrays):
    """The face of a video over T frames at 25 fps, and where its sound is; frames without a face are NaN.

    Args:
        landmarks: iBUG points, shape (T, 68, 2), in pixels of the video shrunk to a longer side of 256; not smoothed.
        expression: of the open space, shape (T, 64), smoothed as in rendering: brows and cheeks are, lips are not.
        pose: shape (T, 6), as `models.interfaces.FaceFit.pose`, relative to the first frame with a face; smoothed.
        gaze: shape (T, 2), radians; held through blinks.
        eye_motion: shape (T, 21), of `models.facespace.eye_motion`.
        size: width and height of the video as displayed, shape (2,).
        lag: frames by which the sound is late: what is said in frame t is heard in frame t + lag.
        confidence: of the sync probe at that lag.
        span: first frame, and the one after the last, that have both picture and sound; shape (2,).
    """

    landmarks: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    gaze: np.ndarray
    eye_motion: np.ndarray
    size: np.ndarray
    lag: np.ndarray
    confidence: np.ndarray
    span: np.ndarray

    @property
    def frames(self) -> int:
        """Number of usable frames."""
        return int(self.span[1] - self.span[0])

    @property
    def seen(self) -> np.ndarray:
        """Frames in which there is a face, shape (T,), bool."""
        return np.isfinite(self.pose[:, 0])


def check_file(path: Path, checks: TakeChecks) -> None:
    """Refuse what can be refused from a file's headers. Raises VideoError, AudioError."""
    info = probe(path)
    if not info.has_video:
        raise VideoError(f"{path} has no video stream", "use a video, not a sound file")
    if not info.has_audio:
        raise AudioError(f"{path} has no sound track", "training needs the speech that belongs to the face")
    if info.fps and info.fps < checks.least_fps:
        raise VideoError(
            f"{path} has {info.fps:g} frames per second, {checks.least_fps:g} are needed",
            "lips are too quick for this frame rate; use the original recording",
        )
    if info.duration_s and info.duration_s < checks.least_s:
        raise VideoError(f"{path} is {info.duration_s:.2f} s long, {checks.least_s:g} s are needed", "use longer clips")


def follow(path: Path, speech: SpeechFile, finder: FaceFinder, checks: TakeChecks) -> Take:
    """Follow and check one video.

    Args:
        speech: its decoded sound track.
    Raises:
        VideoError, FaceError, AudioError: it can't be learned from.
    """
    watch = _Watch(finder)
    seen = observe(path, watch)
    if len(seen) < checks.least_s * FPS:
        raise VideoError(f"{path} is {len(seen) / FPS:.2f} s long, {checks.least_s:g} s are needed", "use longer clips")
    info = probe(path)
    _check_shot(path, watch, seen)
    _check_face(path, watch, seen, max(info.width, info.height) / METRIC_SIDE, checks)
    sync = measure_sync(path, seen.landmarks, speech, checks)
    lag = int(sync.lag)
    first, last = max(0, -lag), min(len(seen), speech.frames - lag)
    if last - first < checks.least_s * FPS:
        raise AudioError(
            f"{path}: picture and sound have {max(0, last - first) / FPS:.2f} s in common", "use longer clips"
        )
    expression, pose, gaze, eyes = smoothed(seen)
    return Take(
        landmarks=seen.landmarks.astype(np.float32),
        expression=expression,
        pose=pose,
        gaze=gaze,
        eye_motion=eyes,
        size=np.array([info.width, info.height]),
        lag=np.array(lag),
        confidence=np.array(sync.confidence),
        span=np.array([first, last]),
    )


def measure_sync(path: Path, landmarks: np.ndarray, speech: SpeechFile, checks: TakeChecks) -> Sync:
    """Whether the sound belongs to the lips, and by how many frames it is late; 0 where that can't be told from noise.

    Args:
        landmarks: of the video's frames, shape (T, 68, 2).
    Raises:
        AudioError: it doesn't belong, drifts, or the video is too short to tell.
    """
    bands = np.concatenate([
        log_mel(speech.samples(start, min(start + LISTEN_STRETCH, speech.frames)))
        for start in range(0, speech.frames, LISTEN_STRETCH)
    ])  # fmt: skip
    mouth = mouth_signals(landmarks)
    frames = min(len(mouth), len(bands))
    if frames < LEAST_FRAMES:
        raise AudioError(
            f"{path} has {frames / FPS:.2f} s of picture and sound", f"{LEAST_FRAMES / FPS:g} s are needed"
        )
    sync = Probe.load().sync(mouth, bands)
    if not sync.confidence >= checks.least_sync:  # NaN where nothing moves or sounds
        raise AudioError(
            f"{path}: the lips don't follow the sound (confidence {sync.confidence:.2f}, "
            f"{checks.least_sync:g} is needed)",
            "dubbed, noisy or silent recordings can't be learned from",
        )
    if frames >= DRIFT_FROM:
        half = frames // 2
        halves = [Probe.load().sync(mouth[part], bands[part]) for part in (slice(0, half), slice(half, frames))]
        lags = [side.lag for side in halves if side.confidence >= SURE_SYNC]
        if len(lags) == 2 and abs(lags[0] - lags[1]) > DRIFT:
            raise AudioError(
                f"{path}: the sound drifts: it is {lags[0]:+.0f} frames late in the first half, {lags[1]:+.0f} in the "
                "second",
                "use a recording whose sound keeps pace",
            )
    if frames < SURE_FRAMES and abs(sync.lag) > SHORT_LAG:
        raise AudioError(
            f"{path}: the sound seems {sync.lag:+.0f} frames late, but {frames / FPS:.1f} s are too short to tell",
            f"use clips of at least {SURE_FRAMES / FPS:g} s, or bring the sound into step",
        )
    if abs(sync.lag) > SHORT_LAG and sync.confidence < SURE_SYNC:
        raise AudioError(
            f"{path}: the sound seems {sync.lag:+.0f} frames late, but the lips hardly follow it then "
            f"(confidence {sync.confidence:.2f}, {SURE_SYNC:g} is needed)",
            "use a recording in which sound and lips belong together, or bring them into step",
        )
    is_noise = abs(sync.lag) <= (NOISE_FRAMES if frames >= SURE_FRAMES else SHORT_LAG)
    return Sync(sync.score, sync.confidence, sync.best, 0.0 if is_noise else sync.lag)


def smoothed(seen: Observation) -> tuple[np.ndarray, ...]:
    """Expression (T, 64), pose (T, 6), gaze (T, 2) and eye motion (T, 21), smoothed within each run of seen frames."""
    space = OpenSpace.load()
    frames = len(seen)
    results = [np.full((frames, columns), np.nan, np.float32) for columns in (64, 6, 2, 21)]
    for run in runs_of(seen.seen):
        expression = smooth_calm_part(seen.expression[run].astype(np.float64), _sharp())
        eyes = eye_motion(space, expression)
        gaze = hold_through_blinks(seen.gaze[run].astype(np.float64), eyes[:, 0])
        for whole, part in zip(results, (expression, smooth_pose(seen.pose[run].astype(np.float64)), gaze, eyes)):
            whole[run] = part
    return tuple(results)


def runs_of(flags: np.ndarray) -> list[slice]:
    """Stretches of True in (T,) flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [slice(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2])]


def longest_run(flags: np.ndarray) -> slice | None:
    """The longest stretch of True in (T,) flags, the first of several; None if there is none."""
    return max(runs_of(flags), key=lambda run: run.stop - run.start, default=None)


def find_cut(changes: np.ndarray, landmarks: np.ndarray) -> int | None:
    """The first frame of a second shot, or None.

    Args:
        changes: mean change of grey levels from frame t to t + 1, shape (T - 1,).
        landmarks: shape (T, 68, 2), NaN where there is no face.
    """
    count = min(len(changes), len(landmarks) - 1)
    eyes = np.linalg.norm(landmarks[:, 36] - landmarks[:, 45], axis=1)
    jumps = np.linalg.norm(np.diff(landmarks.mean(1), axis=0), axis=1) / eyes[:-1]
    for t in range(count):
        around = np.concatenate([changes[max(0, t - CUT_AROUND) : t], changes[t + 1 : t + 1 + CUT_AROUND]])
        usual = float(np.median(around)) if len(around) else 0.0
        if changes[t] > CUT_CHANGE and changes[t] > CUT_RATIO * usual:
            return t + 1
        if jumps[t] > CUT_JUMP:  # False for NaN
            return t + 1
    return None


class _Watch:
    """A face finder that looks at the frames it passes on: how much they change, who else is in them."""

    def __init__(self, finder: FaceFinder):
        self._finder = finder
        self.changes: list[float] = []
        self.others: list[float] = []  # size of the second largest face over the largest one's, look by look

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        return self._finder.track(self._looked_at(frames))

    def _looked_at(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        last = None
        for number, frame in enumerate(frames):
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
            if last is not None:
                self.changes.append(float(np.abs(small - last).mean()))
            last = small
            if number % OTHERS_EVERY == 0:
                sizes = sorted((face.size_px for face in self._found(frame)), reverse=True)
                self.others.append(sizes[1] / sizes[0] if len(sizes) > 1 else 0.0)
            yield frame

    def _found(self, frame: np.ndarray) -> list:
        try:
            return self._finder.find(frame)
        except FaceError:  # all of them too small, which the track will tell better
            return []


def _check_shot(path: Path, watch: _Watch, seen: Observation) -> None:
    cut = find_cut(np.array(watch.changes), seen.landmarks)
    if cut is not None:
        raise VideoError(f"{path} has a second shot from {cut / FPS:.2f} s on", "cut it into one video per shot")


def _check_face(path: Path, watch: _Watch, seen: Observation, scale: float, checks: TakeChecks) -> None:
    share = float(seen.seen.mean())
    if share < checks.least_seen:
        raise FaceError(
            f"{path} shows a face in {share:.0%} of its frames, {checks.least_seen:.0%} are needed",
            "use a video of one person facing the camera all the time",
        )
    landmarks = seen.landmarks[seen.seen]
    size = float(np.median(np.linalg.norm(landmarks[:, 36] - landmarks[:, 45], axis=1))) * scale
    if size < checks.least_face_px:
        raise FaceError(
            f"{path}: the face is too small: {size:.0f} px between the outer eye corners, "
            f"{checks.least_face_px:g} px are needed",
            "use a larger video or one taken from nearer",
        )
    turned = float(np.degrees(np.percentile(np.abs(seen.pose[seen.seen, 1]), 90)))
    if turned > checks.most_yaw_deg:
        raise FaceError(f"{path}: the head is turned away by {turned:.0f} degrees", "use a video taken from the front")
    if np.mean(np.array(watch.others) > OTHER_SIZE) >= OTHERS_SHARE:
        raise FaceError(f"{path} shows several people", "crop it to the one who speaks")


@cache
def _sharp() -> np.ndarray:
    return Fitter(OpenSpace.load()).sharp
