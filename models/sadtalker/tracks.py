"""Key values of an angle spread over a clip at an even pace."""

from itertools import pairwise

import numpy as np

from models.controls import Track


def spread_by_travel(track: Track, frames: int) -> np.ndarray:
    """Straight ways from key to key at one speed, so that the whole way takes the whole clip; shape (frames,).

    As SadTalker does it: every way starts anew on its key, so that a key may come up to a frame late and the last one
    is not always reached. Keys that are equal to the one before take no time (there they break the reference).

    Args:
        track: a number, or key values.
        frames: of the clip, at least one.
    """
    keys = np.atleast_1d(np.asarray(track, np.float64)).tolist()
    travel = sum(abs(b - a) for a, b in pairwise(keys))
    if not travel:
        return np.full(frames, keys[0])
    step = travel / max(frames - 1, 1)
    ways = [np.arange(a, b, step if b > a else -step) for a, b in pairwise(keys) if a != b]
    values = np.concatenate(ways)[:frames]
    return np.pad(values, (0, frames - len(values)), mode="edge")
