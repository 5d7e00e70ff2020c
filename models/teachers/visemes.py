"""Lips of labelled speech: phones with their times become expression curves with coarticulation.

Every phone asks for a mouth shape with a strength that fades before and after it (dominance functions: Cohen and
Massaro 1993); the mouth does the weighted mean of what is asked. Closures of p, b, m dominate what surrounds them
for a moment, rounding spreads far, and consonants of the tongue leave the lips to the vowels around them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, FPS

LABELLED = "labelled:"  # what speakers of labelled speech are called begins with this

# How far each movement of the face space goes at full strength of a channel.
CHANNELS: dict[str, dict[str, float]] = {
    "jaw": {"jaw_open": 0.42},
    "pucker": {"pucker": 0.75},
    "funnel": {"funnel": 0.8},
    "stretch": {"stretch_L": 0.45, "stretch_R": 0.45, "smile_L": 0.15, "smile_R": 0.15},
    "close": {"press": 0.55, "roll_lower": 0.15, "roll_upper": 0.1},
    "bite": {"roll_lower": 0.7, "upper_raise": 0.3},  # the lower lip under the upper teeth
    "raise": {"upper_raise": 0.5},
    "lower": {"lower_depress": 0.55},
}
NAMES = tuple(CHANNELS)
JAW, CLOSE = NAMES.index("jaw"), NAMES.index("close")
CLOSED_JAW = 0.75  # of the jaw's opening that closing lips take back

FADE_S = {"pucker": 0.085, "funnel": 0.085, "close": 0.032, "bite": 0.032}  # time constants of the strength
USUAL_FADE_S = 0.045
HELD = 0.35  # of a phone's length to either side of its middle, at full strength
SMOOTHING = 0.8  # standard deviation, frames

PAUSE, SHORT_PAUSE_S = "", 0.12


@dataclass(frozen=True)
class Viseme:
    """A mouth shape, and how strongly it is insisted upon.

    Args:
        shape: strength of each channel, 0 to 1, shape (8,).
        dominance: against the neighbours' 1, per channel, shape (8,).
    """

    shape: np.ndarray
    dominance: np.ndarray


def _viseme(dominance: dict[str, float] | float = 1.0, **shape: float) -> Viseme:
    usual = dominance if isinstance(dominance, float) else dominance.get("all", 1.0)
    special = {} if isinstance(dominance, float) else dominance
    strengths = [special.get(name, usual) for name in NAMES]
    return Viseme(np.array([shape.get(name, 0.0) for name in NAMES]), np.array(strengths))


_SEALED = {"jaw": 2.0, "close": 6.0, "bite": 3.0, "lower": 3.0}
_BITTEN = {"jaw": 1.8, "bite": 4.0}
_ROUND = {"pucker": 3.0, "funnel": 3.0}
_TONGUE = {"all": 0.5, "close": 1.0}  # the lips do what the vowels beside it want

_BY_LETTERS: tuple[tuple[str, Viseme], ...] = (
    ("pbmɓʙ", _viseme(_SEALED, jaw=0.10, close=1.0)),
    ("fvʋ", _viseme(_BITTEN, jaw=0.16, stretch=0.1, close=0.2, bite=1.0, **{"raise": 0.25})),
    ("θð", _viseme(_TONGUE, jaw=0.22, stretch=0.1, lower=0.25, **{"raise": 0.1})),
    ("tdnɾlʔɫʈɖɳ", _viseme(_TONGUE, jaw=0.24, stretch=0.15, lower=0.2, **{"raise": 0.08})),
    ("kgɡŋxhɣɲqcɦχ", _viseme(_TONGUE, jaw=0.30, stretch=0.1, lower=0.1, **{"raise": 0.05})),
    ("szç", _viseme(jaw=0.13, stretch=0.35, lower=0.5, **{"raise": 0.2})),
    ("ʃʒɕʑʂʐ", _viseme(_ROUND, jaw=0.18, pucker=0.15, funnel=0.7, lower=0.45, **{"raise": 0.3})),
    ("ɹrɻʁʀɚɝ", _viseme(jaw=0.25, pucker=0.2, funnel=0.35, lower=0.2, **{"raise": 0.1})),
    ("w", _viseme(_ROUND, jaw=0.16, pucker=0.95, funnel=0.1)),
    ("ɥ", _viseme(jaw=0.16, pucker=0.8, funnel=0.1)),
    ("jʲ", _viseme(jaw=0.20, stretch=0.4, lower=0.2, **{"raise": 0.1})),
    ("aɑæɐä", _viseme(jaw=1.0, stretch=0.15, lower=0.3, **{"raise": 0.12})),
    ("ɔɒ", _viseme(_ROUND, jaw=0.7, pucker=0.2, funnel=0.55, lower=0.15, **{"raise": 0.05})),
    ("oɤ", _viseme(_ROUND, jaw=0.5, pucker=0.5, funnel=0.4, lower=0.1)),
    ("uʊɯ", _viseme(_ROUND, jaw=0.27, pucker=0.85, funnel=0.15)),
    ("yøœʏ", _viseme(jaw=0.3, pucker=0.6, funnel=0.3, lower=0.05)),
    ("iɪɨ", _viseme(jaw=0.27, stretch=0.6, lower=0.3, **{"raise": 0.12})),
    ("eɛ", _viseme(jaw=0.5, stretch=0.45, lower=0.3, **{"raise": 0.12})),
    ("əʌɜɘɵ", _viseme(jaw=0.45, stretch=0.1, lower=0.15, **{"raise": 0.05})),
)
VISEMES: dict[str, Viseme] = {letter: viseme for letters, viseme in _BY_LETTERS for letter in letters}
_BREAK, _GAP = _viseme({"all": 1.2, "close": 0.3}), _viseme({"all": 0.8, "close": 0.3})


@dataclass(frozen=True)
class Phone:
    """A stretch of speech: IPA letters, "" for a pause; times in seconds."""

    start: float
    end: float
    ipa: str


def channel_curves(phones: Iterable[Phone], frames: int) -> np.ndarray:
    """How strongly each channel moves over time, shape (frames, 8), at the middles of the frames."""
    times = (np.arange(frames) + 0.5) / FPS
    fades = np.array([FADE_S.get(name, USUAL_FADE_S) for name in NAMES])
    asked, weight = np.zeros((frames, len(NAMES))), np.full((frames, len(NAMES)), 1e-6)
    for start, length, viseme in _targets(phones):
        middle, reach = start + length / 2, 12 * fades.max() + length
        near = slice(*np.searchsorted(times, [middle - reach, middle + reach]))
        beyond = np.maximum(0, np.abs(times[near] - middle) - HELD * length)
        strength = viseme.dominance * np.exp(-beyond[:, None] / fades)
        asked[near] += strength * viseme.shape
        weight[near] += strength
    return gaussian_filter1d(asked / weight, SMOOTHING, axis=0, mode="nearest")


def expression_curves(phones: Iterable[Phone], frames: int, space: OpenSpace) -> np.ndarray:
    """Expression relative to a face at rest with its lips together, shape (frames, 64)."""
    channels = channel_curves(phones, frames)
    channels[:, JAW] *= 1 - CLOSED_JAW * channels[:, CLOSE]
    return channels @ channel_movements(space)


def channel_movements(space: OpenSpace) -> np.ndarray:
    """The expression change of each channel at full strength, shape (8, 64)."""
    moves = np.zeros((len(NAMES), EXPRESSION))
    for number, parts in enumerate(CHANNELS.values()):
        moves[number] = sum(share * space.direction(name) for name, share in parts.items())
    return moves


def _targets(phones: Iterable[Phone]) -> Iterable[tuple[float, float, Viseme]]:
    """(start, length, viseme): a diphthong or an affricate is two of them."""
    for phone in phones:
        shapes = [VISEMES[letter] for letter in phone.ipa if letter in VISEMES][:2]
        length = (phone.end - phone.start) / max(1, len(shapes))
        if not shapes:
            yield phone.start, length, _GAP if length < SHORT_PAUSE_S else _BREAK
        for number, viseme in enumerate(shapes):
            yield phone.start + number * length, length, viseme
