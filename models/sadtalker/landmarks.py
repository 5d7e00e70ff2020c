"""Landmarks of a face that gradients flow through, for SadTalker's losses on them.

Legend: B clips, T frames, I identity, E expression, L landmarks.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.facespace.deep3d import SCALE_PX
from models.interfaces import EXPRESSION, IDENTITY, POSE


class Landmarked(Protocol):
    """A morphable model that knows its landmarks."""

    def landmarks68(self, identity: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """iBUG landmarks in model units, shape (T, 68, 3), of expression (T, 64) and pose (T, 6)."""
        ...


class FrontalLandmarks(nn.Module):
    """The 68 landmarks of faces that look straight ahead, in pixels.

    A morphable model is linear: it is asked once for the mean face and for every coefficient on its own.

    Args:
        face: the morphable model.
        scale_px: pixels per model unit; the losses' weights suit the default, that of a face in 224 pixels.
    """

    _mean: Tensor
    _people: Tensor
    _moves: Tensor

    def __init__(self, face: Landmarked, scale_px: float = SCALE_PX):
        super().__init__()

        def ask(identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
            ahead = np.zeros((len(expression), POSE), np.float32)
            return (face.landmarks68(identity, expression, ahead)[..., :2] * scale_px).astype(np.float32)

        nobody, nothing = np.zeros(IDENTITY, np.float32), np.zeros((1, EXPRESSION), np.float32)
        mean = ask(nobody, nothing)
        people = np.concatenate([ask(one, nothing) for one in np.eye(IDENTITY, dtype=np.float32)]) - mean
        moves = ask(nobody, np.eye(EXPRESSION, dtype=np.float32)) - mean
        self.register_buffer("_mean", torch.from_numpy(mean[0]))
        self.register_buffer("_people", torch.from_numpy(people))
        self.register_buffer("_moves", torch.from_numpy(moves))

    def forward(self, identity_BI: Tensor, expression_BTE: Tensor) -> Tensor:
        """Landmarks x, y of identities (B, 80) with expressions (B, T, 64); shape (B, T, 68, 2)."""
        neutral = self._mean + torch.einsum("bi,ilc->blc", identity_BI, self._people)
        return neutral[:, None] + torch.einsum("bte,elc->btlc", expression_BTE, self._moves)
