"""Head motion from chunks: any length, the reference's order, and no seams where chunks fade into each other."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from models.sadtalker.chunks import count_chunks, decode_blended, decode_in_turn, smooth
from tests.models.sadtalker.sounds import networks

START = np.array([0.1, -0.1, 0.05, 0.2, 0.1, 0.3], np.float32)


def decode(frames: int, blended: bool, seed: int = 0) -> np.ndarray:
    network = networks()[1]
    rng = np.random.default_rng(seed)
    heard = rng.normal(size=(frames, 6)).astype(np.float32)
    latents = rng.normal(size=(count_chunks(frames, 32, blended=blended), 4))
    return (decode_blended if blended else decode_in_turn)(network, heard, START, 1, latents)


@pytest.mark.parametrize("blended", [False, True])
@pytest.mark.parametrize("frames", [0, 1, 2, 20, 31, 32, 33, 47, 48, 49, 64, 65, 300])
def test_every_length(frames, blended):
    change = decode(frames, blended)
    assert change.shape == (frames, 6) and change.dtype == np.float32 and np.isfinite(change).all()


@pytest.mark.parametrize("frames, in_turn, blended", [(0, 0, 0), (1, 1, 1), (32, 1, 1), (33, 2, 2), (65, 3, 4)])
def test_numbers_of_chunks(frames, in_turn, blended):
    assert count_chunks(frames, 32, blended=False) == in_turn
    assert count_chunks(frames, 32, blended=True) == blended


def test_the_rest_is_the_end_of_a_chunk_that_hears_the_last_frames():
    network, rng = networks()[1], np.random.default_rng(0)
    heard, latents = rng.normal(size=(70, 6)).astype(np.float32), rng.normal(size=(3, 4))
    whole = decode_in_turn(network, heard, START, 1, latents)
    last = decode_in_turn(network, heard[-32:], START, 1, latents[2:])
    assert np.allclose(whole[64:], last[-6:], atol=1e-6)


def test_short_sound_is_led_in_by_its_first_frame():
    network, rng = networks()[1], np.random.default_rng(0)
    heard, latents = rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=(1, 4))
    led_in = np.concatenate([np.repeat(heard[:1], 27, 0), heard])
    for way in (decode_in_turn, decode_blended):
        expected = way(network, led_in, START, 1, latents)[-5:]
        assert np.allclose(way(network, heard, START, 1, latents), expected, atol=1e-6)


def test_blended_chunks_have_no_seams():
    jumps = {}
    for blended in (False, True):
        steps = np.abs(np.diff([decode(320, blended, seed) for seed in range(8)], axis=1)).mean((0, 2))
        borders = np.arange(31, 319, 32)
        jumps[blended] = steps[borders].mean() / np.delete(steps, borders).mean()
    assert jumps[True] < 1.3 < 1.6 < jumps[False]


def test_a_single_chunk_is_left_as_it_is():
    assert np.allclose(decode(32, True), decode(32, False), atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 12, 13, 14, 90])
def test_smoothing_is_savitzky_and_golay_s(frames):
    pose = np.random.default_rng(1).normal(size=(frames, 6))
    window = min(13, 2 * ((frames - 1) // 2) + 1)
    expected = savgol_filter(pose, window, 2, axis=0) if window > 2 else pose
    assert np.abs(smooth(pose) - expected).max() < 1e-6
