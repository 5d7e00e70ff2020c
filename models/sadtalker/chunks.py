"""Head motion of any length from a network that makes it in chunks.

Every chunk is conditioned on the portrait's pose, so that the head never drifts away (SadTalker, supplement, B.5).
Legend: T frames after the reference frame, A numbers heard per frame, P pose, Z latent, K chunks.
"""

import numpy as np
import torch

from models.facespace.temporal import fit_parabolas
from models.sadtalker.posevae import PoseVAE

SMOOTHING = 13  # frames of a parabola
HOPS = 3 / 8, 5 / 8  # of a chunk, from one that is blended to the next: shortest and longest, half on average
BATCH = 64  # chunks decoded at once


def count_in_turn(frames: int, chunk: int) -> int:
    """How many chunks, and latents, a motion of `frames` frames takes whose chunks follow one after the other."""
    return -(-frames // chunk)


def draw_starts(frames: int, chunk: int, generator: np.random.Generator) -> np.ndarray:
    """First frames of chunks that overlap, for `decode_blended`; ascending, int64, shape (K,).

    A head is slower in the middle of a chunk than where it passes to the next one. From chunks at regular distances it
    would therefore move at a beat, twice per chunk; here every hop has another length, drawn evenly from `HOPS`.

    Args:
        frames: of the motion.
        chunk: frames of a chunk.
        generator: of the hops, which are the same for any number of frames, except the last: it leads to where the
            last chunk ends with the motion. A single chunk that is longer than the motion begins before it.
    """
    if not frames:
        return np.zeros(0, np.int64)
    shortest, longest = (round(share * chunk) for share in HOPS)
    starts = [0]
    while starts[-1] + chunk < frames:
        starts.append(starts[-1] + int(generator.integers(shortest, longest, endpoint=True)))
    starts[-1] = frames - chunk
    return np.array(starts, np.int64)


def linger(latents_KZ: np.ndarray, share_K: np.ndarray) -> np.ndarray:
    """Independent standard normal latents (K, Z) -> such that resemble the one before, correlated by `share_K`.

    Args:
        share_K: correlation of each with the one before, the first one's is not read; shape (K,).
    """
    lingering = latents_KZ.copy()
    for k, share in enumerate(share_K[1:], start=1):
        lingering[k] = share * lingering[k - 1] + np.sqrt(1 - share**2) * latents_KZ[k]
    return lingering


def decode_in_turn(
    network: PoseVAE, heard_TA: np.ndarray, start_P: np.ndarray, style: int, latents_KZ: np.ndarray
) -> np.ndarray:
    """One chunk after the other, as the reference does: only the smoothing hides where they meet.

    What is left after whole chunks is the end of one more chunk, which hears the last frames; where there are fewer
    than a chunk has, the first of them goes before them as often as needed.

    Args:
        heard_TA: from `PoseVAE.hear`, shape (T, A).
        start_P: the portrait's pose, shape (6,).
        style: row of the style table.
        latents_KZ: standard normal, one per chunk of `count_in_turn`, shape (K, latent).
    Returns:
        Pose minus the start's, shape (T, 6).
    """
    frames, chunk = len(heard_TA), network.chunk
    whole, rest = divmod(frames, chunk)
    starts = [k * chunk for k in range(whole)] + ([frames - chunk] if rest else [])
    changes = _decode(network, heard_TA, np.array(starts, int), start_P, style, latents_KZ)
    pieces = [*changes[:whole], *([changes[whole][chunk - rest :]] if rest else [])]
    return np.concatenate(pieces) if pieces else np.zeros((0, len(start_P)), np.float32)


def decode_blended(
    network: PoseVAE,
    heard_TA: np.ndarray,
    start_P: np.ndarray,
    style: int,
    latents_KZ: np.ndarray,
    starts_K: np.ndarray,
) -> np.ndarray:
    """Chunks that overlap and fade into each other: every frame but the ends' is a mean of two or three. No seams.

    Other arguments and result as in `decode_in_turn`.

    Args:
        latents_KZ: standard normal, one per chunk, shape (K, latent).
        starts_K: first frames of the chunks, from `draw_starts`, shape (K,).
    """
    frames, chunk = len(heard_TA), network.chunk
    changes = _decode(network, heard_TA, starts_K, start_P, style, latents_KZ)
    fade = np.sin(np.pi * (np.arange(chunk) + 0.5) / chunk)[:, None] ** 2
    total, weight = np.zeros((frames, len(start_P))), np.zeros((frames, 1))
    for start, change in zip(starts_K, changes):
        inside = slice(max(0, -start), chunk)
        total[start + inside.start : start + chunk] += (fade * change)[inside]
        weight[start + inside.start : start + chunk] += fade[inside]
    return (total / weight).astype(np.float32)


def smooth(pose_TP: np.ndarray) -> np.ndarray:
    """Poses on parabolas through 13 frames (Savitzky and Golay), or as many, odd, as there are; float32, (T, 6)."""
    window = min(SMOOTHING, 2 * ((len(pose_TP) - 1) // 2) + 1)
    return fit_parabolas(pose_TP.astype(np.float64), max(window, 3)).astype(np.float32)


@torch.inference_mode()
def _decode(
    network: PoseVAE,
    heard_TA: np.ndarray,
    starts_K: np.ndarray,
    start_P: np.ndarray,
    style: int,
    latents_KZ: np.ndarray,
) -> np.ndarray:
    """Chunks from frames on, those before the first count as the first; shape (K, chunk, 6), float32."""
    device = network.decoder.classbias.device
    start = torch.tensor(start_P, dtype=torch.float32, device=device)[None]
    decoded = [np.zeros((0, network.chunk, len(start_P)), np.float32)]
    for first in range(0, len(starts_K), BATCH):
        some = starts_K[first : first + BATCH]
        rows = np.maximum(some[:, None] + np.arange(network.chunk), 0)
        heard = torch.from_numpy(heard_TA[rows]).to(device)
        latents = torch.tensor(latents_KZ[first : first + BATCH], dtype=torch.float32, device=device)
        styles = torch.full((len(some),), style, device=device)
        decoded.append(network.decoder(start.expand(len(some), -1), latents, heard, styles).cpu().numpy())
    return np.concatenate(decoded)
