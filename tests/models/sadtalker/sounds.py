"""Sound as the networks of speech hear it, and motion systems with random weights."""

import numpy as np
import torch

from models.interfaces import SAMPLES_PER_FRAME, Motion
from models.sadtalker.expnet import ExpNet
from models.sadtalker.motion import SadTalkerMotion
from models.sadtalker.posevae import PoseVAE

CHANNELS = (2, 3, 4, 5, 8)


class Noise:
    """Speech (`models.interfaces.Speech`) that is made when it is asked for.

    Attributes:
        longest: frames of the longest stretch that was read.
    """

    def __init__(self, frames: int, seed: int = 0):
        self.frames, self.longest = frames, 0
        self._mels = np.random.default_rng(seed).uniform(-4, 4, (997, 80)).astype(np.float32)

    def samples(self, start: int, stop: int) -> np.ndarray:
        return 0.1 * np.sin(np.arange(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME) ** 1.2).astype(np.float32)

    def mel_windows(self, start: int, stop: int) -> np.ndarray:
        self.longest = max(self.longest, stop - start)
        rows = (np.arange(start, stop)[:, None] * 3 + np.arange(16)) % len(self._mels)
        return self._mels[rows].transpose(0, 2, 1)


def networks(official: bool = False, styles: int = 5) -> tuple[ExpNet, PoseVAE]:
    """Tiny, with weights that are the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"channels": CHANNELS, "filters": (2, 3, 4, 5), "latent": 4, "critic": None}
        sizes |= {"encoder_hidden": (12,), "decoder_hidden": (16,)}
        expnet, posevae = ExpNet(CHANNELS), PoseVAE(**sizes, styles=styles, official=official)
        posevae.decoder.pose_linear.weight.data *= 4
        posevae.decoder.resunet.output_layer.get_parameter("0.weight").data *= 20  # heads that move visibly
    return expnet.eval(), posevae.eval()


def system(official: bool = False, space: str | None = None) -> SadTalkerMotion:
    """Own weights of the open space unless said otherwise; published ones are always of bfm."""
    return SadTalkerMotion(*networks(official), space=space or ("bfm" if official else "open"), official=official)


def nodding(frames: int, space: str = "open") -> Motion:
    """A video whose head nods once and whose expression is its frame's number."""
    pose = np.zeros((frames, 6), np.float32)
    pose[:, 0] = 0.1 + 0.2 * np.sin(np.linspace(0, np.pi, frames))
    expression = np.tile(np.arange(frames, dtype=np.float32)[:, None], (1, 64))
    return Motion(space, expression, pose, np.zeros((frames, 2), np.float32))
