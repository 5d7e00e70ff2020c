"""SyncNet v2, the network of LSE-C and LSE-D (Chung and Zisserman, "Out of time", 2016).

Modules carry the names of the published syncnet_v2.model. What is done with the vectors is in `syncscore`.
Legend: B windows, C channels, T frames, H W pixels, M MFCC coefficients, R MFCC rows.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import load_strict

VECTOR = 1024  # numbers per window


def _conv2d(inside: int, outside: int, kernel: tuple[int, int], padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, kernel, padding=padding), nn.BatchNorm2d(outside), nn.ReLU()]


def _conv3d(inside: int, outside: int, side: int, padding: int, stride: int = 1, frames: int = 1) -> list[nn.Module]:
    convolution = nn.Conv3d(
        inside, outside, (frames, side, side), stride=(1, stride, stride), padding=(0, padding, padding)
    )
    return [convolution, nn.BatchNorm3d(outside), nn.ReLU()]


def _pool3d(padding: int = 0) -> nn.MaxPool3d:
    return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, padding, padding))


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, VECTOR))


class SyncNet(nn.Module):
    """Picture and sound into one space; an `Embedder` of `syncscore`. Vectors are not normalised."""

    def __init__(self):
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, 64, (3, 3), 1),
            nn.Identity(),  # the original has a 1x1 pooling here, which changes nothing
            *_conv2d(64, 192, (3, 3), 1),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_conv2d(192, 384, (3, 3), 1),
            *_conv2d(384, 256, (3, 3), 1),
            *_conv2d(256, 256, (3, 3), 1),
            nn.MaxPool2d(3, stride=2),
            *_conv2d(256, 512, (5, 4), 0),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, 96, 7, padding=0, stride=2, frames=5),
            _pool3d(),
            *_conv3d(96, 256, 5, padding=1, stride=2),
            _pool3d(padding=1),
            *_conv3d(256, 256, 3, padding=1),
            *_conv3d(256, 256, 3, padding=1),
            *_conv3d(256, 256, 3, padding=1),
            _pool3d(),
            *_conv3d(256, 512, 6, padding=0),
        )

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "SyncNet":
        """The network with published weights. Raises WeightsError."""
        network = cls()
        load_strict(network, path)
        return network.to(device)

    def embed_video(self, frames_B3THW: Tensor) -> Tensor:
        """Windows of five frames, **BGR** in 0 .. 255, shape (B, 3, 5, 224, 224), to vectors (B, 1024)."""
        return self.netfclip(self.netcnnlip(frames_B3THW).flatten(1))

    def embed_audio(self, mfcc_B1MR: Tensor) -> Tensor:
        """MFCC of 0.2 s, shape (B, 1, 13, 20), to vectors (B, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc_B1MR).flatten(1))

    @torch.inference_mode()
    def video(self, windows: np.ndarray) -> np.ndarray:
        """RGB crops, uint8, shape (B, 5, 224, 224, 3), to vectors, float32, shape (B, 1024)."""
        bgr_BTHW3 = torch.tensor(windows, device=self._device).flip(-1).float()
        return self.embed_video(bgr_BTHW3.permute(0, 4, 1, 2, 3)).cpu().numpy()

    @torch.inference_mode()
    def audio(self, windows: np.ndarray) -> np.ndarray:
        """MFCC, shape (B, 13, 20), to vectors, float32, shape (B, 1024)."""
        mfcc_BMR = torch.tensor(windows, dtype=torch.float32, device=self._device)
        return self.embed_audio(mfcc_BMR[:, None]).cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device
