"""The `envelope` motion system: a face that follows the sound of a voice. No learning, no weights.

It is the honest baseline: what loudness and spectral shape alone can tell about lips (`models.prosody`), and what
a face does by itself (`models.idle`). It hears that a mouth is open and how wide; it can't tell "p" from "t".
"""

import numpy as np

from models.controls import Controls
from models.facespace.open import OpenSpace
from models.facespace.topology import LOWER_LIP_INNER, UPPER_LIP_INNER
from models.idle import blink_closure, gaze_over_time, head_pose
from models.interfaces import EXPRESSION, IDENTITY, FaceFit, Motion, Speech
from models.prosody import Prosody, listen
from models.rest import Move, add_up, both_sides, face_at_rest

# Lip gaps in model units, as measured in videos of people speaking: mean 0.05 to 0.1, deviation 0.03 to 0.07.
GAP_MEAN, GAP_SPREAD, GAP_LIMIT = 0.083, 0.065, 0.26
JAW_SHARE, LOWER_LIP_SHARE, UPPER_LIP_SHARE = 0.74, 0.16, 0.10  # of the gap
STRETCH = 0.15  # strength of stretched lips per standard deviation of width
PUCKER, FUNNEL = 0.22, 0.13  # strength of rounded lips per standard deviation
WIDTH_LIMIT = 2.5  # standard deviations
PRESS_FROM, PRESS, PRESS_LIMIT = -1.2, 0.35, 1.5  # opening from which closed lips press together, strength, how far
BROWS = 0.12  # strength of raised brows per standard deviation of emphasis


class EnvelopeMotion:
    """A motion system (`models.interfaces.MotionSystem`) in the open space.

    Args:
        open_space: the morphable model; default: the shipped one.
    """

    space = "open"

    def __init__(self, open_space: OpenSpace | None = None):
        self._space = open_space or OpenSpace.load()

    def generate(self, speech: Speech, source: FaceFit, controls: Controls, seed: int) -> Motion:
        """Motion of the whole clip. The same arguments give the same numbers.

        Args:
            speech: at least one frame.
            source: the portrait's face in the open space.
            controls: pose, expression, blink and gaze are read.
            seed: of blinks, head and glances, each with its own stream.
        """
        prosody = listen(speech)
        blink_stream, head_stream, gaze_stream = (
            np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
        )
        closure = blink_closure(speech.frames, controls.blink, blink_stream)
        pose = head_pose(source.pose, prosody.voice, prosody.emphasis, controls.pose, head_stream)
        gaze = gaze_over_time(source.gaze, pose[:, :2] - source.pose[:2], controls.gaze, gaze_stream)
        calm, relaxing = face_at_rest(self._space, source, prosody.voice)
        moves = [*relaxing, (closure, self._space.blink(source).sum(0))]
        moves += [(controls.expression.scale * strength, move) for strength, move in self._speaking(prosody)]
        expression = add_up(calm, moves)
        return Motion(self.space, expression, pose.astype(np.float32), gaze.astype(np.float32))

    def _speaking(self, prosody: Prosody) -> list[Move]:
        """What the voice adds to the face at rest."""
        voice, space = prosody.voice, self._space
        wide = np.clip(prosody.width, 0, WIDTH_LIMIT) * voice
        rounded = np.clip(-prosody.width, 0, WIDTH_LIMIT) * voice
        gap = voice * _soft_limit(np.maximum(0, GAP_MEAN + GAP_SPREAD * prosody.opening), GAP_LIMIT)
        pressed = PRESS * np.clip(PRESS_FROM - prosody.opening, 0, PRESS_LIMIT) * voice
        funnel = FUNNEL * rounded * np.minimum(1, gap / GAP_MEAN)  # rounded lips of an open mouth protrude
        opened = np.maximum(0, gap - funnel * self._gap_of(space.direction("funnel")))
        brows = both_sides(space, "brow_inner") + both_sides(space, "brow_outer")
        return [
            (opened, self._opening()),
            (STRETCH * wide, both_sides(space, "stretch")),
            (PUCKER * rounded, space.direction("pucker")),
            (funnel, space.direction("funnel")),
            (pressed, space.direction("press")),
            (BROWS * np.maximum(0, prosody.emphasis), brows),
        ]

    def _opening(self) -> np.ndarray:
        """The movement of jaw and lips that opens the mouth by one model unit, shape (64,)."""
        shares = {"jaw_open": JAW_SHARE, "lower_depress": LOWER_LIP_SHARE, "upper_raise": UPPER_LIP_SHARE}
        directions = ((share, self._space.direction(name)) for name, share in shares.items())
        return np.sum([share / self._gap_of(d) * d for share, d in directions], axis=0)

    def _gap_of(self, expression: np.ndarray) -> float:
        """How far an expression change moves the middles of the lips apart, model units."""
        moved = self._space.vertices(np.zeros(IDENTITY), np.stack([np.zeros(EXPRESSION), expression]))
        middle = len(UPPER_LIP_INNER) // 2
        gaps = moved[:, LOWER_LIP_INNER[middle], 1] - moved[:, UPPER_LIP_INNER[middle], 1]
        return float(gaps[1] - gaps[0])


def _soft_limit(values: np.ndarray, limit: float) -> np.ndarray:
    """Values >= 0 bent smoothly below the limit; small ones stay as they are."""
    return limit * np.tanh(values / limit)
