"""The `articulator` motion system: lips from a small network, the rest of the face as it lives by itself.

The network tells where lips are about their mean, and like every regression it tells too little: a calibration gives
them the spread of real lips, closes the mouth where it should be closed, and hands it back to the face in silence.
"""

from pathlib import Path

import numpy as np
from scipy.ndimage import binary_closing, gaussian_filter1d

from models.articulator.hearing import Habit, hear
from models.articulator.inference import TrainedArticulator
from models.articulator.lip_basis import COORDINATES, LipBasis
from models.controls import Controls
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, Speech
from models.lips import opening_direction, opening_movement, width_direction
from models.prosody import listen
from models.rest import Move, add_up, living_face

WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "open" / "articulator.safetensors"
STRETCH_FRAMES, FADE_FRAMES = 1500, 50  # heard at once; over which neighbouring stretches fade into each other

# Model units, as measured in videos of people speaking.
OPENING_SPREAD, WIDTH_SPREAD = 0.041, 0.033
MOST_GAIN = 2.5
CLOSED_PERCENTILE = 15  # of the opening while speaking: the lips touch for as much of the time
PARTED = 0.008  # lips nearer than this meet
SPEAKING = 0.85  # voice from which a frame counts as speech
PAUSE_FRAMES = 6  # shorter gaps between words leave the lips to the network
GATE_SMOOTHING = 0.8  # standard deviation, frames: lips close within 0.1 s
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
    def load(cls, path: Path = WEIGHTS) -> "ArticulatorMotion":
        """With the shipped weights, or others."""
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
        lips = [(controls.expression.scale * strength, move) for strength, move in self._lips(speech, prosody.voice)]
        expression = add_up(face.calm, [*face.moves, *lips])
        return Motion(self.space, expression, face.pose.astype(np.float32), face.gaze.astype(np.float32))

    def _lips(self, speech: Speech, voice: np.ndarray) -> list[Move]:
        """What the voice adds to a face with closed lips."""
        habit, frames = Habit.of_speech(speech), speech.frames
        coordinates = np.zeros((frames, COORDINATES), np.float32)
        step = STRETCH_FRAMES - FADE_FRAMES
        for start in range(0, max(1, frames - FADE_FRAMES), step):
            stop = min(start + STRETCH_FRAMES, frames)
            told = self._network.tell(hear(speech.mel_windows(start, stop), habit))
            coordinates[start:stop] += _fades(stop - start, start > 0, stop < frames)[:, None] * told
        movements = self._basis.movements
        lips, opened = calibrate(coordinates, voice, movements @ opening_direction(), movements @ width_direction())
        return [*zip(lips.T, movements), (opened, opening_movement(self._space))]


def calibrate(
    lips: np.ndarray, voice: np.ndarray, opens: np.ndarray, widens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lips about their mean -> lips of a speaker whose mouth is shut at rest.

    Args:
        lips: lip coordinates, shape (T, K).
        voice: 0 in silence, 1 while speaking, shape (T,).
        opens, widens: how far a coordinate of 1 parts the lips and widens the mouth, model units, shape (K,).
    Returns:
        lip coordinates, shape (T, K), and by how much the lips part beyond them, model units, shape (T,).
    """
    speaking = _without_gaps(voice > SPEAKING)
    gate = gaussian_filter1d(speaking.astype(np.float64), GATE_SMOOTHING, mode="nearest")
    if speaking.sum() < LEAST_SPEECH:
        speaking = np.ones(len(voice), bool)
    lips = lips - lips[speaking].mean(0)
    said = np.stack([lips @ opens, lips @ widens], axis=1)
    # what goes along with opening and with width is amplified, the rest stays as likely as it was
    along = np.linalg.lstsq(said[speaking], lips[speaking], rcond=None)[0]
    gains = [_gain(part[speaking], spread) for part, spread in zip(said.T, (OPENING_SPREAD, WIDTH_SPREAD))]
    lips = lips + (said * (np.array(gains) - 1)) @ along
    parted = lips @ opens
    shut = np.percentile(parted[speaking], CLOSED_PERCENTILE)  # as often as people's mouths are
    wanted = np.where(parted - shut < PARTED, 0.0, parted - shut)
    return gate[:, None] * lips, gate * (wanted - parted)


def _without_gaps(speaking: np.ndarray) -> np.ndarray:
    """Speech with its short pauses filled, bool, shape (T,)."""
    filled = binary_closing(np.pad(speaking, PAUSE_FRAMES), np.ones(PAUSE_FRAMES))
    return filled[PAUSE_FRAMES : PAUSE_FRAMES + len(speaking)]


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
