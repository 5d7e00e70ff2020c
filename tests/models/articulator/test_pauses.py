"""When mouths rest: in silence, and not in every dip of the voice."""

import numpy as np

from models.articulator.pauses import LEAST_SILENCE, find_speech
from models.prosody import listen
from tests.models.voices import Voice, vowel

RNG = np.random.default_rng(0)


def speaking(signal: np.ndarray) -> np.ndarray:
    speech = Voice(signal)
    return find_speech(speech, listen(speech).voice)


def frames(count: int) -> np.ndarray:
    return np.zeros(640 * count)


def test_a_mouth_rests_in_silence():
    said = speaking(np.concatenate([frames(50), vowel("a", 1.0), frames(50)]))
    assert not said[:48].any() and said[52:73].all() and not said[-46:].any()


def test_closures_within_words_are_no_rest():
    syllable = np.concatenate([vowel("a", 0.4), frames(LEAST_SILENCE - 2)])
    said = speaking(np.concatenate([syllable] * 5))
    assert said[:-LEAST_SILENCE].all()


def test_a_faint_voice_speaks():
    loud = vowel("a", 1.0)
    said = speaking(np.concatenate([loud, 0.05 * loud, frames(50)]))
    assert said[27:48].all()


def test_nobody_speaks_in_the_noise_of_a_room():
    noise = 0.02 * RNG.standard_normal(640 * 150)
    voice = np.concatenate([frames(50), vowel("a", 2.0), frames(50)])
    said = speaking(noise + voice)
    assert said[53:97].all() and not said[:46].any()


def test_silence_alone():
    assert not speaking(frames(60)).any()
    assert find_speech(Voice(frames(1)), np.zeros(1)).shape == (1,)
