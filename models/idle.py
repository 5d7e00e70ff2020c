"""What a living face does by itself: blinks, small head movements, glances. Seeded; a few numbers per frame.

Angles are in radians unless a name says degrees; order and signs as in `models.interfaces`.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from models.controls import BlinkControls, GazeControls, PoseControls, Track
from models.facespace.camera import rotation
from models.interfaces import FPS

BLINK = np.array([0.35, 0.85, 1.0, 0.9, 0.6, 0.3, 0.1])  # closure per frame: shut fast, opened slowly
FIRST_BLINK_S = (0.7, 2.0)
INTERVAL_SPREAD = 0.55  # intervals vary by this share around their mean: 1.6 to 5.5 s at 17 per minute

# Fitted to how heads of 39 real talking videos move, slowly and quickly; angles a tenth wider, as other speakers' are.
ANGLE_DEGREES = np.array([4.2, 5.1, 3.5])  # standard deviations of pitch, yaw, roll
MOVEMENTS = (0.45, 2.0), (0.7, 0.6), (0.55, 0.17)  # share of the movement and its smoothing in seconds
NOD_DEGREES = 1.6  # lowering of the nose per standard deviation of emphasis
CALM = 0.55  # share of the movement that is left in silence
SWAY = 0.01  # standard deviation of the head's shift, model units
RAMP_S = 1.0  # movement sets in over this time: the first frame is the portrait
NECK = np.array([0.0, 1.0, 0.9])  # what the head turns about, model units in its own frame

FOLLOW = 0.6  # share of the head's turning that the eyes undo, to keep looking at the viewer
FOLLOW_LIMIT = np.radians(12)
GLANCE_DEGREES = np.array([1.6, 0.9])  # standard deviations of small glances, yaw and pitch
FIXATION_S = (0.5, 2.2)


def blink_closure(frames: int, controls: BlinkControls, generator: np.random.Generator) -> np.ndarray:
    """Closure of the lids, 0 to 1, shape (frames,). A blink that would not end within the clip is left out."""
    closure = np.zeros(frames)
    if controls.mode == "off":
        return closure
    mean_s = 60 / controls.per_minute
    time_s = min(mean_s, 1.0) * generator.uniform(*FIRST_BLINK_S)
    while (start := round(time_s * FPS)) + len(BLINK) <= frames:
        closure[start : start + len(BLINK)] = BLINK
        pause_s = mean_s * generator.uniform(1 - INTERVAL_SPREAD, 1 + INTERVAL_SPREAD)
        time_s += max(pause_s, (len(BLINK) + 1) / FPS)
    return closure


def head_pose(
    start: np.ndarray,
    voice: np.ndarray,
    emphasis: np.ndarray,
    controls: PoseControls,
    generator: np.random.Generator,
) -> np.ndarray:
    """Head pose over time: small smooth movements about the portrait's pose, livelier in speech, with nods.

    Args:
        start: the portrait's pose, shape (6,).
        voice, emphasis: as in `models.prosody.Prosody`, shape (T,).
        controls: gain, stillness, and tracks that replace an angle.
        generator: source of all randomness.
    Returns:
        shape (T, 6), float64.
    """
    frames = len(voice)
    noise = _smooth_noise(frames, 5, generator)
    ramp = np.minimum(1, np.arange(frames) / (RAMP_S * FPS))
    gain = 0.0 if controls.still else controls.scale
    lively = CALM + (1 - CALM) * gaussian_filter1d(voice, 0.5 * FPS, mode="nearest")
    amount = (gain * ramp * lively)[:, None]
    turn = amount * noise[:, :3] * np.radians(ANGLE_DEGREES)
    turn[:, 0] += gain * ramp * np.radians(NOD_DEGREES) * emphasis
    for axis, track in enumerate((controls.pitch, controls.yaw, controls.roll)):
        if track is not None:
            turn[:, axis] = np.radians(spread_keys(track, frames))
    pose = np.tile(np.asarray(start, np.float64), (frames, 1))
    pose[:, :3] += turn
    # The neck stays where it is; the origin, inside the head, moves around it.
    shift = (rotation(start[:3]) - rotation(pose[:, :3])) @ NECK
    pose[:, 3:5] += np.exp(-start[5]) * shift[:, :2] + SWAY * amount * noise[:, 3:]
    return pose


def gaze_over_time(
    start: np.ndarray, turn: np.ndarray, controls: GazeControls, generator: np.random.Generator
) -> np.ndarray:
    """Direction of the eyes relative to the head: yaw, pitch, shape (T, 2).

    Mode "source" keeps looking where the portrait looks, with small glances and against the head's turning; mode
    "fixed" holds the given direction.

    Args:
        start: the portrait's gaze, shape (2,).
        turn: pitch and yaw of the head relative to the portrait, shape (T, 2).
    """
    frames = len(turn)
    if controls.mode == "fixed":
        return np.tile(np.radians([controls.yaw, controls.pitch]), (frames, 1))
    glance = np.zeros((frames, 2))
    begin = round(generator.uniform(*FIXATION_S) * FPS)  # the first look is the portrait's own
    while begin < frames:
        end = begin + max(2, round(generator.uniform(*FIXATION_S) * FPS))
        glance[begin:end] = np.radians(GLANCE_DEGREES) * generator.standard_normal(2).clip(-2, 2)
        begin = end
    return start + glance - np.clip(FOLLOW * turn[:, ::-1], -FOLLOW_LIMIT, FOLLOW_LIMIT)


def _smooth_noise(frames: int, channels: int, generator: np.random.Generator) -> np.ndarray:
    """Smooth random movements of standard deviation 1 over long times, shape (frames, channels)."""
    total = np.zeros((frames, channels))
    for share, smoothing_s in MOVEMENTS:
        sigma = smoothing_s * FPS
        margin = int(4 * sigma) + 1
        white = generator.standard_normal((frames + 2 * margin, channels))
        smooth = gaussian_filter1d(white, sigma, axis=0)[margin : margin + frames]
        total += share * smooth * np.sqrt(2 * sigma * np.sqrt(np.pi))  # a Gaussian filter shrinks noise by this
    return total


def spread_keys(track: Track, frames: int) -> np.ndarray:
    """A number, or key values spread evenly over the clip and joined smoothly without overshoot; shape (frames,)."""
    keys = np.atleast_1d(np.asarray(track, np.float64))
    if len(keys) == 1:
        return np.full(frames, keys[0])
    return PchipInterpolator(np.linspace(0, max(frames - 1, 1), len(keys)), keys)(np.arange(frames))
