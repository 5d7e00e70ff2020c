"""All metrics of one video: its face and sound, and the real clip's, brought together.

What the pictures themselves tell is in appearance.py. Values that aren't defined come with a reason.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from models.facespace.open import OpenSpace
from models.interfaces import IDENTITY
from pipeline.hearing import Hearing
from pipeline.metrics import gaze, landmarks, motion, sync
from pipeline.observation import Observation

NOTHING = float("nan")
STRETCH = 500  # frames


@dataclass(frozen=True)
class Value:
    """A metric of a clip.

    Args:
        value: NaN where it isn't defined.
        frames: how many frames it is from.
        note: why it isn't defined, or "".
    """

    value: float
    frames: int = 0
    note: str = ""


Values = dict[str, Value]
Phones = Sequence[tuple[float, float, str]]


def dumps(values: Values) -> bytes:
    """As JSON."""
    return json.dumps({name: astuple(value) for name, value in values.items()}).encode()


def loads(data: bytes) -> Values:
    """The inverse of `dumps`."""
    return {name: Value(*fields) for name, fields in json.loads(data).items()}


def measure(
    face: Observation,
    sound: Hearing | None,
    real: Observation | None,
    others: list[Hearing],
    phones: Phones = (),
    seams: Sequence[int] = (),
) -> Values:
    """All metrics of tier B.

    Args:
        face: of the video.
        sound: that it should fit.
        real: the face of the real clip, compared frame by frame.
        others: sounds of other clips, for what Beat Align gives by chance.
        phones: (start in s, end in s, phone) of the sound, where they are known.
        seams: first frames of the second and later chunks, where they are known.
    """
    values: Values = {"face_found": Value(float(face.seen.mean()), len(face))}
    values |= _alone(face, list(seams))
    values |= _against_sound(face, sound, others, phones) if sound else _missing(SOUND_METRICS, "no sound")
    values |= _against_real(face, real) if real else _missing(REAL_METRICS, "no real clip")
    return {name: _explained(value) for name, value in values.items()}


SOUND_METRICS = (
    *("sync", "sync_lag", "sync_score", "loudness_sync", "loudness_lag", "silence_closure"),
    *("bilabial_closure", "bilabial_chance", "beat_align", "beat_align_gain", "beat_align_motion", "beat_align_track"),
)
REAL_METRICS = (
    *("m_lmd", "f_lmd", "m_lmd_relative", "f_lmd_relative", "lvd", "mld", "ssim_e", "corr_e", "var_e_ratio"),
    *("ssim_p", "corr_p", "var_p_ratio", "gaze_error"),
)


def _missing(names: tuple[str, ...], why: str) -> Values:
    return {name: Value(NOTHING, 0, why) for name in names}


def _explained(value: Value) -> Value:
    if np.isfinite(value.value) or value.note:
        return value
    return Value(NOTHING, value.frames, "not defined for this clip: too short, too still or without a face")


def _alone(face: Observation, seams: list[int]) -> Values:
    """What a face tells by itself."""
    count = int(face.seen.sum())
    angles = np.degrees(face.pose[face.seen, :3])
    blinks = motion.find_blinks(motion.eye_aspect_ratio(face.landmarks))
    few = "" if np.isfinite(blinks.per_minute) else "less than 10 s"
    none = few or ("" if blinks.per_minute else "no blink")
    values = {
        "diversity": motion.pose_diversity(angles),
        "jitter": motion.jitter(angles),
        "fast_share": motion.fast_share(angles),
        "var_p": 1e3 * motion.channel_variance(face.pose[face.seen, :3]),
        "var_e": 1e4 * motion.channel_variance(brows_and_eyes(face.expression[face.seen])),
    }
    return {name: Value(value, count) for name, value in values.items()} | {
        "blink_rate": Value(blinks.per_minute, count, few),
        "blink_length": Value(blinks.length_s, count, none),
        "blink_depth": Value(blinks.depth, count, none),
        "seam_ratio": Value(motion.seam_ratio(angles, seams), count, "" if seams else "no chunks known"),
    }


def _against_sound(face: Observation, sound: Hearing, others: list[Hearing], phones: Phones) -> Values:
    frames = min(len(face), len(sound))
    mouth = sync.mouth_signals(face.landmarks[:frames])
    opening = mouth[:, 0]
    probed = sync.Probe.load().sync(mouth, sound.bands)
    loud = sync.loudness_sync(mouth, sound.level)
    no_phones = "" if phones else "no phones given"
    chance = sync.closure_by_chance(opening, phones, np.random.default_rng(0))
    return {
        "sync": Value(probed.confidence, frames),
        "sync_lag": Value(probed.lag, frames),
        "sync_score": Value(probed.score, frames),
        "loudness_sync": Value(loud.best, frames),
        "loudness_lag": Value(loud.lag, frames),
        "silence_closure": Value(sync.silence_closure(opening, sound.level), frames, _silence_note(sound)),
        "bilabial_closure": Value(sync.bilabial_closure(opening, phones), frames, no_phones),
        "bilabial_chance": Value(chance, frames, no_phones),
        **_beats(face, sound, others),
    }


def _silence_note(sound: Hearing) -> str:
    silent = sync.find_silence(sound.level)
    return "" if silent.any() and not silent.all() else "no silence between words"


def _beats(face: Observation, sound: Hearing, others: list[Hearing]) -> Values:
    angles = np.degrees(face.pose[face.seen, :3])
    frames = len(angles)
    moving = motion.motion_beats(angles)

    def align(beats: np.ndarray) -> float:
        return motion.beat_align(beats[beats < frames], moving)

    own = align(sound.onsets)
    chance = [align(other.onsets) for other in others]
    note = "" if np.isfinite(own) else "no onset in the sound"
    found = [value for value in chance if np.isfinite(value)]
    gain = own - float(np.mean(found)) if found else NOTHING
    return {
        "beat_align": Value(own, frames, note),
        "beat_align_gain": Value(gain, frames, note or ("" if found else "no other clip's sound to compare with")),
        "beat_align_motion": Value(motion.beat_align(moving, sound.onsets), frames),
        "beat_align_track": Value(align(sound.beats), frames),
    }


def _against_real(face: Observation, real: Observation) -> Values:
    frames = min(len(face), len(real))
    both = face.seen[:frames] & real.seen[:frames]
    count = int(both.sum())
    if not count:
        return _missing(REAL_METRICS, "no frame with both faces")
    points, real_points = (side.landmarks[:frames][both].astype(np.float64) for side in (face, real))
    expression, real_expression = (side.expression[:frames][both] for side in (face, real))
    pose, real_pose = (side.pose[:frames][both] for side in (face, real))
    eyes, real_eyes = brows_and_eyes(expression), brows_and_eyes(real_expression)
    face_lmd, mouth_lmd = landmarks.face_distance(points, real_points), landmarks.mouth_distance(points, real_points)
    mld = landmarks.coefficient_mouth_distance(neutral_landmarks(expression), neutral_landmarks(real_expression))
    variance = [motion.channel_variance(side) for side in (eyes, real_eyes, pose[:, :3], real_pose[:, :3])]
    values = {
        "f_lmd": face_lmd.mean(),
        "m_lmd": mouth_lmd.mean(),
        "f_lmd_relative": landmarks.relative_distance(face_lmd, real_points).mean(),
        "m_lmd_relative": landmarks.relative_distance(mouth_lmd, real_points).mean(),
        "lvd": landmarks.velocity_distance(points, real_points).mean() if count > 1 else NOTHING,
        "mld": 100 * mld.mean(),
        "ssim_e": motion.channel_ssim(eyes, real_eyes),
        "corr_e": motion.channel_correlation(eyes, real_eyes),
        "var_e_ratio": motion.log_ratio(variance[0], variance[1]),
        "ssim_p": motion.channel_ssim(pose, real_pose),
        "corr_p": motion.channel_correlation(pose, real_pose),
        "var_p_ratio": motion.log_ratio(variance[2], variance[3]),
        "gaze_error": gaze.angular_error(face.gaze[:frames][both], real.gaze[:frames][both]).mean(),
    }
    return {name: Value(float(value), count) for name, value in values.items()}


def neutral_landmarks(expression: np.ndarray) -> np.ndarray:
    """iBUG landmarks of the mean person, head straight: expression (T, 64) -> (T, 68, 2), in eye distances."""
    space = OpenSpace.load()
    landmarks = np.empty((len(expression), 68, 2))
    for first in range(0, len(expression), STRETCH):  # the whole mesh of a long video would take gigabytes
        part = expression[first : first + STRETCH]
        still = np.zeros((len(part), 6))
        landmarks[first : first + STRETCH] = space.landmarks68(np.zeros(IDENTITY), part, still)[..., :2]
    return landmarks


def brows_and_eyes(expression: np.ndarray) -> np.ndarray:
    """x and y of the 22 landmarks of brows and eyes: expression (T, 64) -> (T, 44), in eye distances."""
    return neutral_landmarks(expression)[:, list(motion.BROWS_AND_EYES)].reshape(len(expression), -1)
