"""ExpNet and PoseVAE as they ship: lips that rest in silence, heads that move smoothly, and chance only in the seed."""

import itertools

import numpy as np
import pytest

from models.controls import BlinkControls, Controls
from models.lips import opening_direction
from models.registry import build_motion_system
from tests.models.articulator.test_motion import TALK, Heard
from tests.models.voices import face


@pytest.fixture(scope="module")
def system():
    return build_motion_system("sadtalker")


def generate(system, seed=0, signal=TALK):
    return system.generate(Heard(signal), face(), Controls(blink=BlinkControls(mode="off")), seed)


def test_lips_move_in_speech_and_rest_in_silence(system):
    opening = generate(system).expression @ opening_direction()
    assert np.abs(opening[:18]).max() < 0.01  # the first second is silent
    assert opening[25:].std() > 0.015 and opening.max() < 0.35
    silent = generate(system, signal=np.zeros(64_000)).expression @ opening_direction()
    assert np.abs(silent).max() < 0.01


def test_five_seeds_are_five_heads_and_one_seed_is_one(system):
    heads = [np.degrees(generate(system, seed).pose[:, :3]) for seed in range(5)]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(heads, 2)) > 1
    assert np.array_equal(np.degrees(generate(system, 2).pose[:, :3]), heads[2])


def test_heads_are_smooth_and_stay_near_the_portrait(system):
    for style in (0, system.styles - 1):
        motion = system.generate(Heard(TALK), face(), Controls(), 1, style=style)
        angles = np.degrees(motion.pose[:, :3])
        assert np.abs(angles).max() < 25 and np.abs(motion.pose[:, 3:]).max() < 0.6
        assert np.abs(np.diff(angles, n=3, axis=0)).max() < 3, "degrees per frame^3"
        assert angles.std(0).max() > 0.5
