"""Head, eyes and brows over time. T frames at 25 fps, C channels; angles in the unit that the argument names."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, percentile_filter
from scipy.signal import welch

from models.interfaces import FPS

# Beat Align (Siyao et al., Bailando, 2022), at 25 fps
BEAT_SIGMA = 3.0  # frames
SPEED_SIGMA = 5.0  # frames
# SSIM over time (GoHD, eq. 26)
K1, K2 = 0.01, 0.03
BROWS_AND_EYES = (*range(17, 27), *range(36, 48))
# Blinks (Soukupova and Cech 2016)
EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))
BASELINE_S, BASELINE_PERCENTILE = 3, 90
BLINK_FRAMES = (2, 12)  # shortest and longest blink
LEAST_BLINK_S = 10  # seconds below which a rate says nothing
HIGH_HZ = 5.0  # heads don't move that fast on purpose
WELCH_FRAMES = 64


def motion_beats(pose: np.ndarray) -> np.ndarray:
    """Frames at which the head turns slowest: strict local minima of ||x_{t+1} - x_t|| smoothed by sigma 5 frames.

    Args:
        pose: shape (T, C), usually yaw, pitch and roll in degrees.
    Returns:
        frame numbers, none for a head that doesn't move.
    """
    if len(pose) < 4:
        return np.zeros(0, int)
    speed = np.linalg.norm(np.diff(pose, axis=0), axis=1)
    speed = gaussian_filter1d(speed, SPEED_SIGMA, mode="reflect")
    return 1 + np.flatnonzero((speed[1:-1] < speed[:-2]) & (speed[1:-1] < speed[2:]))


def beat_align(audio: np.ndarray, motion: np.ndarray, sigma: float = BEAT_SIGMA) -> float:
    """Beat Align (Bailando's form): mean over audio beats b of exp(-min_m (m - b)^2 / (2 sigma^2)), 0..1.

    Higher is better, but every motion lies near 0.25 by chance: look at the difference to other speech.
    The form of AI Choreographer, which averages over the motion's beats, is `beat_align(motion, audio)`.

    Args:
        audio, motion: beats in frames.
        sigma: frames.
    Returns:
        NaN without audio beats, 0 without motion beats.
    """
    if len(audio) == 0:
        return float("nan")
    if len(motion) == 0:
        return 0.0
    nearest = np.abs(np.asarray(audio, float)[:, None] - np.asarray(motion, float)).min(1)
    return float(np.exp(-(nearest**2) / (2 * sigma**2)).mean())


def channel_ssim(values: np.ndarray, real: np.ndarray, unit_range: float = 1.0) -> float:
    """SSIM_p and SSIM_e (GoHD, eq. 26): the mean over channels of SSIM with one window over the whole time.

    S = (2 m m' + C1)(2 cov + C2) / ((m^2 + m'^2 + C1)(var + var' + C2)), C1 = (0.01 R)^2, C2 = (0.03 R)^2, population
    moments. It saturates near 1 for small motions: read it with `channel_correlation`.

    Args:
        values, real: shape (T, C): for SSIM_p the six pose numbers (radians, model units), for SSIM_e x and y of brows
            and eyes in distances of the outer eye corners.
        unit_range: R, 1 radian or 1 model unit.
    Returns:
        -1..1, higher is better.
    """
    c1, c2 = (K1 * unit_range) ** 2, (K2 * unit_range) ** 2
    mean, real_mean = values.mean(0), real.mean(0)
    covariance = ((values - mean) * (real - real_mean)).mean(0)
    near = (2 * mean * real_mean + c1) / (mean**2 + real_mean**2 + c1)
    alike = (2 * covariance + c2) / (values.var(0) + real.var(0) + c2)
    return float((near * alike).mean())


def channel_correlation(values: np.ndarray, real: np.ndarray) -> float:
    """Mean over channels of Pearson's correlation over time, -1..1; channels that don't vary are left out."""
    spread = values.std(0) * real.std(0)
    varies = spread > 1e-12
    if not varies.any():
        return float("nan")
    covariance = ((values - values.mean(0)) * (real - real.mean(0))).mean(0)
    return float((covariance[varies] / spread[varies]).mean())


def channel_variance(values: np.ndarray) -> float:
    """Var_p and Var_e: mean over channels of the population variance over time, in the squared unit of the input."""
    return float(values.var(0).mean())


def log_ratio(value: float, real: float) -> float:
    """|ln(value / real)| of two positive numbers: 0 is as the real one, 0.69 twice or half as much."""
    return float(abs(np.log(value / real))) if value > 0 and real > 0 else float("nan")


def pose_diversity(angles_deg: np.ndarray) -> float:
    """div_pose: mean over yaw, pitch and roll of the population standard deviation over time, degrees.

    Near the real clip's is best. Not to be set beside published figures, which are of network features.
    """
    return float(angles_deg.std(0).mean())


def jitter(angles_deg: np.ndarray) -> float:
    """Mean of ||x_{t+3} - 3 x_{t+2} + 3 x_{t+1} - x_t||, degrees per frame^3; near the real clip's is best."""
    if len(angles_deg) < 4:
        return float("nan")
    return float(np.linalg.norm(np.diff(angles_deg, n=3, axis=0), axis=1).mean())


def fast_share(angles_deg: np.ndarray) -> float:
    """Share of the motion's power above 5 Hz (Welch, 64 frames), 0..1; near the real clip's is best."""
    if len(angles_deg) < WELCH_FRAMES:
        return float("nan")
    hertz, power = welch(angles_deg, fs=FPS, nperseg=WELCH_FRAMES, axis=0)
    total = power[hertz > 0].sum()
    return float(power[hertz > HIGH_HZ].sum() / total) if total > 0 else float("nan")


def seam_ratio(values: np.ndarray, seams: list[int]) -> float:
    """Chunk seams: the mean change of velocity at known seams over the median elsewhere; must be below 2.

    A frame's change of velocity is ||x_{t+1} - 2 x_t + x_{t-1}||; a seam before frame b has the larger one of frames
    b - 1 and b, both of which are left out of the median.

    Args:
        values: shape (T, C): angles, coefficients or flattened landmarks.
        seams: first frames of the second and later chunks, 2..T - 2.
    Returns:
        NaN without seams, or where nothing moves.
    """
    bend = np.linalg.norm(np.diff(values, n=2, axis=0), axis=1)  # of frames 1 .. T - 2
    inside = [b for b in seams if 2 <= b <= len(values) - 2]
    at_seams = [bend[[b - 2, b - 1]].max() for b in inside]
    elsewhere = np.delete(bend, sorted({k for b in inside for k in (b - 2, b - 1)}))
    if not at_seams or not len(elsewhere) or np.median(elsewhere) == 0:
        return float("nan")
    return float(np.mean(at_seams) / np.median(elsewhere))


def eye_aspect_ratio(landmarks: np.ndarray) -> np.ndarray:
    """EAR, the mean of both eyes of (|p1 - p5| + |p2 - p4|) / (2 |p0 - p3|): shape (T, 68, 2) -> (T,)."""

    def apart(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)

    return np.mean([(apart(p[1], p[5]) + apart(p[2], p[4])) / (2 * apart(p[0], p[3])) for p in EYES], axis=0)


@dataclass(frozen=True)
class Blinks:
    """Blinks of a clip.

    Args:
        per_minute: rate; people who speak blink 15 to 30 times.
        length_s: mean length, 0.1 to 0.4 s in real speech; NaN without blinks.
        depth: mean of the smallest EAR of each blink over its baseline, NaN without blinks.
    """

    per_minute: float
    length_s: float
    depth: float


def find_blinks(ratio: np.ndarray, closed_below: float = 0.6) -> Blinks:
    """Blinks in a sequence of eye aspect ratios (Soukupova and Cech 2016).

    An eye is closed where EAR < `closed_below` of its baseline, the running 90th percentile over 3 s; single open
    frames inside are closed, too; a blink is 2..12 closed frames in a row.

    Args:
        ratio: EAR, shape (T,); NaN where there was no face.
        closed_below: depends on the detector: compare only clips processed alike.
    Returns:
        NaN in all fields for less than 10 s of face.
    """
    seen = np.isfinite(ratio)
    if seen.sum() < LEAST_BLINK_S * FPS:
        return Blinks(*[float("nan")] * 3)
    frames = np.arange(len(ratio))
    filled = np.interp(frames, frames[seen], ratio[seen])
    relative = filled / percentile_filter(filled, BASELINE_PERCENTILE, size=BASELINE_S * FPS, mode="nearest")
    closed = relative < closed_below
    closed[1:-1] |= closed[:-2] & closed[2:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(int)))
    shortest, longest = BLINK_FRAMES
    blinks = [(a, b) for a, b in zip(edges[::2], edges[1::2]) if shortest <= b - a <= longest]
    per_minute = len(blinks) * 60 * FPS / seen.sum()
    if not blinks:
        return Blinks(0.0, float("nan"), float("nan"))
    length = np.mean([b - a for a, b in blinks]) / FPS
    return Blinks(float(per_minute), float(length), float(np.mean([relative[a:b].min() for a, b in blinks])))
