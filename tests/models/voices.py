"""Voices from formulas, and faces from the open space, for tests of motion."""

import numpy as np

from models.facespace import camera
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit

FORMANTS_HZ = {"a": (750, 1200, 2500), "i": (280, 2300, 3000), "u": (300, 700, 2300), "m": (250, 1100, 2200)}
STRENGTHS = {"a": (1, 0.6, 0.25), "i": (1, 0.5, 0.4), "u": (1, 0.25, 0.03), "m": (1, 0.05, 0.02)}
SCALE_PX, ORIGIN_PX = 200.0, np.array([256.0, 256.0], np.float32)


def vowel(name: str, seconds: float) -> np.ndarray:
    """A held sound, 16 kHz, peak about 0.4."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    total = np.zeros_like(time)
    for harmonic in range(1, 30):
        hertz = 120 * harmonic
        peaks = zip(FORMANTS_HZ[name], STRENGTHS[name])
        strength = sum(s / (1 + ((hertz - centre) / 90) ** 2) for centre, s in peaks)
        total += strength * np.sin(2 * np.pi * hertz * time + harmonic)
    return 0.1 * total


class Voice:
    """Speech (`models.interfaces.Speech`) from memory, without mel windows."""

    def __init__(self, signal: np.ndarray):
        self.frames = len(signal) // 640
        self._signal = signal.astype(np.float32)

    def samples(self, start: int, stop: int) -> np.ndarray:
        return self._signal[start * 640 : stop * 640].copy()

    def mel_windows(self, start: int, stop: int) -> np.ndarray:
        raise NotImplementedError


def face(expression: np.ndarray | None = None, pose: np.ndarray | None = None) -> FaceFit:
    """A face of mean identity whose detected points are exactly the model's."""
    space = OpenSpace.load()
    expression = np.zeros(64, np.float32) if expression is None else expression.astype(np.float32)
    pose = np.zeros(6, np.float32) if pose is None else pose.astype(np.float32)
    points = np.concatenate([space.vertices(np.zeros(80), expression), space.mean[468:]])
    landmarks = camera.project(points, pose, SCALE_PX, ORIGIN_PX)
    gaze = np.radians([3.0, -2.0]).astype(np.float32)
    identity = np.zeros(80, np.float32)
    return FaceFit("open", landmarks.astype(np.float32), identity, expression, pose, gaze, SCALE_PX, ORIGIN_PX, 0.0)
