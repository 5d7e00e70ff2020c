"""Head motion from chunks: any length, the reference's order, and no seams where chunks fade into each other."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from models.sadtalker.chunks import count_in_turn, decode_blended, decode_in_turn, draw_starts, linger, smooth
from tests.models.sadtalker.sounds import networks

START = np.array([0.1, -0.1, 0.05, 0.2, 0.1, 0.3], np.float32)


def decode(frames: int, blended: bool, seed: int = 0) -> np.ndarray:
    network = networks()[1]
    rng = np.random.default_rng(seed)
    heard = rng.normal(size=(frames, 6)).astype(np.float32)
    if not blended:
        return decode_in_turn(network, heard, START, 1, rng.normal(size=(count_in_turn(frames, 32), 4)))
    starts = draw_starts(frames, 32, rng)
    return decode_blended(network, heard, START, 1, rng.normal(size=(len(starts), 4)), starts)


@pytest.mark.parametrize("blended", [False, True])
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 12, 20, 31, 32, 33, 34, 47, 48, 49, 64, 65, 300])
def test_every_length(frames, blended):
    change = decode(frames, blended)
    assert change.shape == (frames, 6) and change.dtype == np.float32 and np.isfinite(change).all()


@pytest.mark.parametrize("frames, chunks", [(0, 0), (1, 1), (32, 1), (33, 2), (64, 2), (65, 3)])
def test_numbers_of_chunks_in_turn(frames, chunks):
    assert count_in_turn(frames, 32) == chunks


@pytest.mark.parametrize("frames", [1, 2, 31, 32, 33, 34, 48, 65, 15_000])
def test_chunks_follow_at_irregular_distances_and_end_with_the_motion(frames):
    starts = draw_starts(frames, 32, np.random.default_rng(0))
    hops = np.diff(starts)
    assert starts[-1] == frames - 32 and (frames <= 32 or starts[0] == 0)
    assert ((hops[:-1] >= 12) & (hops[:-1] <= 20)).all() and ((hops >= 1) & (hops <= 20)).all()
    if frames == 15_000:
        assert set(hops) >= set(range(12, 21)) and abs(hops.mean() - 16) < 0.5


def test_a_longer_motion_begins_with_the_chunks_of_a_shorter_one():
    short, long = (draw_starts(frames, 32, np.random.default_rng(5)) for frames in (400, 1000))
    assert np.array_equal(short[:-1], long[: len(short) - 1])
    assert not np.array_equal(draw_starts(400, 32, np.random.default_rng(6)), short)


def test_latents_linger_as_told():
    shares = np.tile([0.2, 0.9], 20_000)
    latents = linger(np.random.default_rng(0).standard_normal((40_000, 1)), shares)[:, 0]
    assert latents.std() == pytest.approx(1, abs=0.02)
    for k, share in enumerate((0.2, 0.9)):
        now = np.arange(k + 2, 40_000, 2)
        assert np.corrcoef(latents[now - 1], latents[now])[0, 1] == pytest.approx(share, abs=0.02)


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
    expected = decode_in_turn(network, led_in, START, 1, latents)[-5:]
    assert np.allclose(decode_in_turn(network, heard, START, 1, latents), expected, atol=1e-6)
    assert np.allclose(decode_blended(network, heard, START, 1, latents, np.array([-27])), expected, atol=1e-6)


def test_blended_chunks_have_no_seams():
    jumps = {}
    for blended in (False, True):
        steps = np.abs(np.diff([decode(320, blended, seed) for seed in range(8)], axis=1)).mean((0, 2))
        borders = np.arange(31, 319, 32)
        jumps[blended] = steps[borders].mean() / np.delete(steps, borders).mean()
    assert jumps[True] < 1.3 < 1.6 < jumps[False]


def test_a_single_chunk_is_left_as_it_is():
    network, rng = networks()[1], np.random.default_rng(0)
    heard, latents = rng.normal(size=(32, 6)).astype(np.float32), rng.normal(size=(1, 4))
    alone = decode_in_turn(network, heard, START, 1, latents)
    assert np.allclose(decode_blended(network, heard, START, 1, latents, np.array([0])), alone, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 12, 13, 14, 90])
def test_smoothing_is_savitzky_and_golay_s(frames):
    pose = np.random.default_rng(1).normal(size=(frames, 6))
    window = min(13, 2 * ((frames - 1) // 2) + 1)
    expected = savgol_filter(pose, window, 2, axis=0) if window > 2 else pose
    assert np.abs(smooth(pose) - expected).max() < 1e-6
