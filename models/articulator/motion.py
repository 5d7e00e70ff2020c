"""The `articulator` motion system: lips from a small network, the rest of the face as it lives by itself.

The network tells where lips are about their mean, and like every regression it tells too little: a calibration gives
them the spread of real lips, closes the mouth where it should be closed, and hands it back to the face in silence.
"""

from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter1d

from models.articulator.hearing import Habit, hear
from models.articulator.inference import TrainedArticulator
from models.articulator.lip_basis import COORDINATES, LipBasis
from models.articulator.pauses import find_speech
from models.controls import Controls
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, Speech
from models.prosody import listen
from models.rest import add_up, living_face

STRETCH_FRAMES, FADE_FRAMES = 1500, 50  # heard at once; over which neighbouring stretches fade into each other

# Model units, as measured in videos of people speaking.
OPENING_SPREAD, WIDTH_SPREAD = 0.041, 0.033
MOST_GAIN = 2.5
CLOSED_PERCENTILE = 15  # of the opening while speaking: the lips touch for as much of the time
PARTED = 0.008  # lips nearer than this meet
GATE_SMOOTHING = 0.8  # standard deviation, frames: lips close within 0.1 s
# Before and after speech lips take their shape, shut: rounding begins before it is heard. Frames.
SHAPED_FRAMES, SHAPE_SMOOTHING = 4, 2.0
LEAST_SPEECH = 10  # frames, to know a clip's spread by


class ArticulatorMotion:
    """A motion system (`models.interfaces.MotionSystem`) in the open space.

    Args:
        network: tells lips.
        open_space: the morphable model; default: the shipped one.
    """

    space = "open"

    def __init__(self, network: TrainedArticulator, open_space: OpenSpace | None = None):
        self._network, self._space, self._basis = network, open_space or OpenSpace.load(), LipBasis.load()

    @classmethod
    def load(cls, path: Path) -> "ArticulatorMotion":
        """With the network of a file."""
        return cls(TrainedArticulator.load(path))

    def generate(self, speech: Speech, source: FaceFit, controls: Controls, seed: int) -> Motion:
        """Motion of the whole clip. The same arguments give the same numbers.

        Args:
            speech: at least one frame.
            source: the portrait's face in the open space.
            controls: pose, expression, blink and gaze are read.
            seed: of blinks, head and glances, each with its own stream; lips have no chance in them.
        """
        prosody = listen(speech)
        face = living_face(self._space, prosody, source, controls, seed)
        lips = controls.expression.scale * self._lips(speech, find_speech(speech, prosody.voice))
        expression = add_up(face.calm, [*face.moves, *zip(lips.T, self._basis.movements)])
        return Motion(self.space, expression, face.pose.astype(np.float32), face.gaze.astype(np.float32))

    def _lips(self, speech: Speech, speaking: np.ndarray) -> np.ndarray:
        """What the voice adds to a face with closed lips: lip coordinates, shape (T, K)."""
        habit, frames = Habit.of_speech(speech), speech.frames
        coordinates = np.zeros((frames, COORDINATES), np.float32)
        step = STRETCH_FRAMES - FADE_FRAMES
        for start in range(0, max(1, frames - FADE_FRAMES), step):
            stop = min(start + STRETCH_FRAMES, frames)
            told = self._network.tell(hear(speech.mel_windows(start, stop), habit))
            coordinates[start:stop] += _fades(stop - start, start > 0, stop < frames)[:, None] * told
        return calibrate(coordinates, speaking, self._basis)


def calibrate(lips: np.ndarray, speaking: np.ndarray, basis: LipBasis) -> np.ndarray:
    """Lips about their mean -> lips of a speaker whose mouth is shut at rest.

    Opening and width get the spread of real lips; whatever else lips do stays as far as it could be told, which is what
    keeps them near the real ones.

    Args:
        lips: lip coordinates, shape (T, K).
        speaking: frames with speech, bool, shape (T,).
        basis: of the coordinates.
    Returns:
        lip coordinates, shape (T, K): 0 is the closed mouth.
    """
    opened = _gate(speaking, GATE_SMOOTHING)
    shaped = _gate(binary_dilation(speaking, iterations=SHAPED_FRAMES), SHAPE_SMOOTHING)
    if speaking.sum() < LEAST_SPEECH:
        speaking = np.ones(len(lips), bool)
    lips = lips - lips[speaking].mean(0)
    said = basis.said(lips)
    gains = [_gain(part[speaking], spread) for part, spread in zip(said.T, (OPENING_SPREAD, WIDTH_SPREAD))]
    lips = lips + (said * (np.array(gains) - 1)) @ basis.saying
    parted = basis.said(lips)[:, 0]
    shut = np.percentile(parted[speaking], CLOSED_PERCENTILE)  # as often as people's mouths are
    wanted = np.where(parted - shut < PARTED, 0.0, parted - shut)
    return shaped[:, None] * lips + np.outer(opened * wanted - shaped * parted, basis.saying[0])


def _gate(held: np.ndarray, smoothing: float) -> np.ndarray:
    """0 to 1, shape (T,)."""
    return gaussian_filter1d(held.astype(np.float64), smoothing, mode="nearest")


def _fades(frames: int, begins: bool, ends: bool) -> np.ndarray:
    """Weight of a stretch over time, which together with its neighbours' is 1 everywhere; shape (frames,)."""
    rise = (np.arange(FADE_FRAMES) + 1) / (FADE_FRAMES + 1)
    weight = np.ones(frames, np.float32)
    if begins:
        weight[:FADE_FRAMES] = rise
    if ends:
        weight[-FADE_FRAMES:] = rise[::-1]
    return weight


def _gain(values: np.ndarray, spread: float) -> float:
    return float(np.clip(spread / max(values.std(), 1e-6), 1.0, MOST_GAIN))
