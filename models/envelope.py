"""The `envelope` motion system: a face that follows the sound of a voice. No learning, no weights.

It is the honest baseline: what loudness and spectral shape alone can tell about lips (`models.prosody`), and what
a face does by itself (`models.idle`). It hears that a mouth is open and how wide; it can't tell "p" from "t".
"""

import numpy as np

from models.controls import Controls
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, Speech
from models.lips import opening_direction, opening_movement
from models.prosody import Prosody, listen
from models.rest import Move, add_up, both_sides, living_face

# Lip gaps in model units, as measured in videos of people speaking: mean 0.05 to 0.1, deviation 0.03 to 0.07.
GAP_MEAN, GAP_SPREAD, GAP_LIMIT = 0.083, 0.065, 0.26
STRETCH = 0.15  # strength of stretched lips per standard deviation of width
PUCKER, FUNNEL = 0.22, 0.13  # strength of rounded lips per standard deviation
WIDTH_LIMIT = 2.5  # standard deviations
PRESS_FROM, PRESS, PRESS_LIMIT = -1.2, 0.35, 1.5  # opening from which closed lips press together, strength, how far


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
        face = living_face(self._space, prosody, source, controls, seed)
        lips = [(controls.expression.scale * strength, move) for strength, move in self._speaking(prosody)]
        expression = add_up(face.calm, [*face.moves, *lips])
        return Motion(self.space, expression, face.pose.astype(np.float32), face.gaze.astype(np.float32))

    def _speaking(self, prosody: Prosody) -> list[Move]:
        """What the voice adds to the face at rest."""
        voice, space = prosody.voice, self._space
        wide = np.clip(prosody.width, 0, WIDTH_LIMIT) * voice
        rounded = np.clip(-prosody.width, 0, WIDTH_LIMIT) * voice
        gap = voice * _soft_limit(np.maximum(0, GAP_MEAN + GAP_SPREAD * prosody.opening), GAP_LIMIT)
        pressed = PRESS * np.clip(PRESS_FROM - prosody.opening, 0, PRESS_LIMIT) * voice
        funnel = FUNNEL * rounded * np.minimum(1, gap / GAP_MEAN)  # rounded lips of an open mouth protrude
        opened = np.maximum(0, gap - funnel * (space.direction("funnel") @ opening_direction(space)))
        return [
            (opened, opening_movement(space)),
            (STRETCH * wide, both_sides(space, "stretch")),
            (PUCKER * rounded, space.direction("pucker")),
            (funnel, space.direction("funnel")),
            (pressed, space.direction("press")),
        ]


def _soft_limit(values: np.ndarray, limit: float) -> np.ndarray:
    """Values >= 0 bent smoothly below the limit; small ones stay as they are."""
    return limit * np.tanh(values / limit)
