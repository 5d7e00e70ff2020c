"""A portrait's own face while it speaks: lips together, a smile that relaxes, and movements that add up on it."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.controls import Controls
from models.facespace.open import OpenSpace
from models.idle import blink_closure, gaze_over_time, head_pose
from models.interfaces import EXPRESSION, FPS, FaceFit
from models.prosody import Prosody

# A smile would stay frozen behind the words. What is above KEPT relaxes: partly at rest, further in speech.
KEPT_SMILE, KEPT_STRETCH = 0.1, 0.15
RELAX_AT_REST, RELAX_SPEAKING = 0.35, 0.8
RELAXING_S = 0.4  # smoothing of the change between the two
MOUTH_SHAPES = ("smile", "stretch", "upper_raise", "lower_depress", "jaw_open", "frown", "pucker", "lips_part", "press")
SHAPE_RIDGE = 0.05  # steadies the split of a face into these

BROWS = 0.12  # strength of raised brows per standard deviation of emphasis

Move = tuple[np.ndarray, np.ndarray]  # strength over time (T,), and the expression change (64,) it stands for
STRETCH_FRAMES = 1000  # frames computed at a time


@dataclass(frozen=True)
class LivingFace:
    """All that a speaking face does besides its lips.

    Args:
        calm: expression of the portrait with its lips closed, shape (64,).
        moves: what is added to it over time: a smile that relaxes, blinks, brows.
        pose: shape (T, 6).
        gaze: shape (T, 2).
    """

    calm: np.ndarray
    moves: list[Move]
    pose: np.ndarray
    gaze: np.ndarray


def living_face(space: OpenSpace, prosody: Prosody, source: FaceFit, controls: Controls, seed: int) -> LivingFace:
    """Blinks, head, glances and brows of a portrait to a voice. The same arguments give the same numbers.

    Args:
        space: the morphable model.
        prosody: of T frames of speech.
        source: the portrait's face in the space.
        controls: pose, expression scale, blink and gaze are read.
        seed: of blinks, head and glances, each with its own stream.
    """
    blink_stream, head_stream, gaze_stream = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    closure = blink_closure(len(prosody.voice), controls.blink, blink_stream)
    pose = head_pose(source.pose, prosody.voice, prosody.emphasis, controls.pose, head_stream)
    gaze = gaze_over_time(source.gaze, pose[:, :2] - source.pose[:2], controls.gaze, gaze_stream)
    calm, relaxing = face_at_rest(space, source, prosody.voice)
    brows = both_sides(space, "brow_inner") + both_sides(space, "brow_outer")
    raised = controls.expression.scale * BROWS * np.maximum(0, prosody.emphasis)
    return LivingFace(calm, [*relaxing, (closure, space.blink(source).sum(0)), (raised, brows)], pose, gaze)


def face_at_rest(space: OpenSpace, source: FaceFit, voice: np.ndarray) -> tuple[np.ndarray, list[Move]]:
    """The portrait's own face with the lips closed (64,), and how its smile relaxes.

    Args:
        space: the morphable model.
        source: the portrait's face in it.
        voice: 0 in silence, 1 while speaking, shape (T,).
    """
    calm = source.expression + space.closing(source)
    shapes = np.stack([both_sides(space, name) for name in MOUTH_SHAPES], axis=1)
    strengths = np.linalg.solve(shapes.T @ shapes + SHAPE_RIDGE * np.eye(shapes.shape[1]), shapes.T @ calm)
    excess = np.maximum(0, strengths[:2] - [KEPT_SMILE, KEPT_STRETCH])
    relaxed = RELAX_AT_REST + (RELAX_SPEAKING - RELAX_AT_REST) * gaussian_filter1d(voice, RELAXING_S * FPS)
    return calm, [(-relaxed, shapes[:, :2] @ excess)]


def both_sides(space: OpenSpace, name: str) -> np.ndarray:
    """A movement of the whole face: of one name, or the sum of right and left, shape (64,)."""
    if name in space.direction_names:
        return space.direction(name)
    return space.direction(f"{name}_R") + space.direction(f"{name}_L")


def add_up(start: np.ndarray, moves: list[Move]) -> np.ndarray:
    """start (64,) + the sum of all moves, shape (T, 64), float32; in stretches, for hours in little memory."""
    strengths = np.stack([strength for strength, _ in moves], axis=1)
    changes = np.stack([change for _, change in moves])
    total = np.empty((len(strengths), EXPRESSION), np.float32)
    for begin in range(0, len(total), STRETCH_FRAMES):
        stretch = slice(begin, begin + STRETCH_FRAMES)
        total[stretch] = start + strengths[stretch] @ changes
    return total
