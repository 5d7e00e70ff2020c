"""Lips by rule: closures seal, rounding reaches over its neighbours, tongues leave lips alone, silence rests."""

import numpy as np
import pytest

from models.facespace.open import OpenSpace
from models.lips import opening_direction, width_direction
from models.teachers.visemes import CLOSE, JAW, NAMES, VISEMES, Phone, channel_curves, expression_curves

SPACE = OpenSpace.load()
PUCKER = NAMES.index("pucker")


def spoken(*letters: str, each_s: float = 0.12) -> list[Phone]:
    return [Phone(0.2 + k * each_s, 0.2 + (k + 1) * each_s, letter) for k, letter in enumerate(letters)]


def middle(phones: list[Phone], number: int) -> int:
    return int((phones[number].start + phones[number].end) / 2 * 25)


@pytest.mark.parametrize("seal", ["p", "b", "m"])
def test_the_lips_meet_between_open_vowels(seal):
    phones = spoken("a", seal, "a")
    opening = expression_curves(phones, 30, SPACE) @ opening_direction()
    assert opening[middle(phones, 1)] < 0.25 * opening[middle(phones, 0)]


def test_a_tongue_consonant_stays_nearer_to_the_vowels_than_a_seal():
    openings = [
        channel_curves(spoken("a", letter, "a"), 30)[middle(spoken("a", letter, "a"), 1), JAW] for letter in "dp"
    ]
    assert openings[0] > 1.5 * openings[1]


def test_rounding_begins_before_its_vowel():
    phones = spoken("a", "t", "u")
    curves = channel_curves(phones, 30)
    assert curves[middle(phones, 1), PUCKER] > 0.2
    width = expression_curves(phones, 30, SPACE) @ width_direction()
    assert width[middle(phones, 2)] < width[middle(phones, 0)]


def test_silence_rests():
    curves = channel_curves([Phone(0.0, 1.0, "")], 25)
    assert np.abs(curves).max() < 0.02
    assert channel_curves([], 5).shape == (5, len(NAMES))


def test_a_diphthong_is_two_shapes():
    phones = spoken("aɪ", each_s=0.4)
    jaw = channel_curves(phones, 20)[:, JAW]
    assert jaw[middle(phones, 0) - 2] > jaw[middle(phones, 0) + 3]


def test_only_closures_close():
    closing = {letter for letter, viseme in VISEMES.items() if viseme.shape[CLOSE] > 0.5}
    assert closing == set("pbmɓʙ")
