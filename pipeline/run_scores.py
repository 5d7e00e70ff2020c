"""Scores that only a whole run has: FID, KID and Emo_Acc, from what `networks` found in its clips."""

from collections.abc import Sequence

import numpy as np

from models.frechet import FEW, Moments, frechet_distance, kernel_distance
from pipeline.scoring import NOTHING, Value, Values

MOST_KERNEL = 10_000  # vectors that KID draws from, so that its memory is bounded


def fid(fake: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> Values:
    """FID and KID of a run: `fid` in squared features, `kid` times 1000.

    FID wants as many frames as Inception has features, 2048 on either side; with fewer it isn't told.

    Args:
        fake, real: features of each clip, shape (n, 2048).
    """
    counts = [sum(map(len, side)) for side in (fake, real)]
    fewest = min(counts)
    if fewest < 2:
        return {name: Value(NOTHING, fewest, "no frames") for name in ("fid", "kid")}
    thinned = []
    for side, count in zip((fake, real), counts):
        step = -(-count // MOST_KERNEL)
        thinned.append(np.concatenate([clip[::step] for clip in side]))
    kernel = 1e3 * kernel_distance(thinned[0], thinned[1], np.random.default_rng(0))[0]
    values = {"kid": Value(kernel, fewest)}
    if fewest < FEW:
        return values | {"fid": Value(NOTHING, fewest, f"{fewest} frames, {FEW} needed: KID instead")}
    moments = []
    for side in (fake, real):
        moments.append(Moments(side[0].shape[1]))
        for clip in side:
            moments[-1].add(clip)
    return values | {"fid": Value(frechet_distance(moments[0], moments[1]), fewest)}


def emotion_accuracy(labels: Sequence[str], probabilities: Sequence[np.ndarray]) -> tuple[Value, np.ndarray]:
    """Emo_Acc: the share of clips whose likeliest emotion is their label.

    Args:
        labels: of `models.emotion.EMOTIONS`, one per clip.
        probabilities: of the clips, shape (8,) each.
    Returns:
        The share (`frames` counts clips), and how often label i was taken for emotion j, shape (8, 8).
    Raises:
        ValueError: a label that the network doesn't know.
    """
    from models.emotion import EMOTIONS

    unknown = sorted(set(labels) - set(EMOTIONS))
    if unknown:
        raise ValueError(f"unknown emotions: {', '.join(unknown)}; known: {', '.join(EMOTIONS)}")
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for label, vector in zip(labels, probabilities, strict=True):
        confusion[EMOTIONS.index(label), int(np.argmax(vector))] += 1
    count = len(labels)
    share = float(np.trace(confusion)) / count if count else NOTHING
    return Value(share, count, "" if count else "no clip with a label"), confusion
