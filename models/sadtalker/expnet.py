"""ExpNet: what the mouth does while a sound is heard, and the eyes while they blink (SadTalker, 3.1; supplement, B.2).

Every frame is computed on its own, from 0.2 s of sound, a reference expression and a blink signal. Names are those of
the published files. Legend: N frames, of any number of clips; E expression coefficients.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import fill, read_state
from models.errors import WeightsError
from models.interfaces import EXPRESSION
from models.sadtalker.audio_encoder import PAPER_CHANNELS, SMALL_CHANNELS, AudioEncoder

SIZES = {"paper": {"channels": PAPER_CHANNELS}, "small": {"channels": SMALL_CHANNELS}}  # arguments by name


class ExpNet(nn.Module):
    """Sound, reference and blink to expression coefficients.

    The last layer sees all three and adds nothing to the reference, as in the published network.

    Args:
        channels: of the audio encoder's stages.
        dropped: share of the sound's vector that is left out in training, against learning speakers by heart.
    """

    def __init__(self, channels: tuple[int, ...] = PAPER_CHANNELS, dropped: float = 0.0):
        super().__init__()
        self.audio_encoder = AudioEncoder(channels)
        self.drop = nn.Dropout(dropped)
        self.mapping1 = nn.Linear(channels[-1] + EXPRESSION + 1, EXPRESSION)

    @classmethod
    def load(cls, path: Path, prefix: str = "") -> "ExpNet":
        """A network of any size from its weights, for inference.

        Args:
            path: safetensors, or a training checkpoint with the state dict "model".
            prefix: of its names in a file with several networks.
        Raises:
            WeightsError: the file is damaged, or of another network.
        """
        state = read_state(path, "model", prefix)
        try:
            network = cls(**sizes_of(state))
        except KeyError as error:
            raise WeightsError(path, f"is not a checkpoint of ExpNet: {error} is missing") from error
        fill(network, state, path)
        return network

    @torch.no_grad()
    def keep_reference(self) -> None:
        """Begin training with the reference as it is: all there is to learn is what lips and lids do to it."""
        self.mapping1.weight.zero_()
        self.mapping1.weight[:, -1 - EXPRESSION : -1] = torch.eye(EXPRESSION)
        self.mapping1.bias.zero_()

    def lids(self) -> np.ndarray:
        """What a blink signal of 1 adds to the expression, whatever else is heard or shown; shape (64,)."""
        return self.mapping1.weight[:, -1].detach().cpu().numpy()

    def forward(self, mel_N1MS: Tensor, reference_NE: Tensor, blink_N1: Tensor) -> Tensor:
        """Expression of every frame.

        Args:
            mel_N1MS: mel windows in -4 .. 4, shape (N, 1, 80, 16).
            reference_NE: expression to keep where the sound says nothing: the portrait's, or of the same frame of
                another video; shape (N, 64).
            blink_N1: closure of the lids, 0 open to 1 shut, shape (N, 1).
        Returns:
            shape (N, 64).
        """
        heard = self.drop(self.audio_encoder(mel_N1MS))
        return self.mapping1(torch.cat([heard, reference_NE, blink_N1], dim=1))


def sizes_of(state: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of the `ExpNet` that a state dict is of. Raises KeyError where it is of none."""
    stages = (0, 3, 6, 9, 11)
    return {"channels": tuple(len(state[f"audio_encoder.{k}.conv_block.0.weight"]) for k in stages)}
