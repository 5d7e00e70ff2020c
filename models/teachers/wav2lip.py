"""Wav2Lip's generator (Prajwal et al., 2020): redraws the lower half of a face so that its lips follow speech.

SadTalker's ExpNet is distilled from it (Sec. 3.1): on a still picture it moves the lips and nothing else. Names are
those of the published files wav2lip.pth and wav2lip_gan.pth, which the user brings; they are for research only.
Legend: N frames, C channels, H W pixels, M mel bands, S mel steps in time.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import load_strict
from models.sadtalker.audio_encoder import AudioEncoder, ConvLayer

SIDE = 96  # pixels of the faces that it sees and paints
AT_ONCE = 64  # frames in one batch


class Wav2Lip(nn.Module):
    """A U-net from a face and a masked face to a face, with 0.2 s of speech in its narrowest place."""

    def __init__(self):
        super().__init__()
        self.face_encoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvLayer(6, 16, kernel=7, padding=3)),  # H W 96
                _downward(16, 32, residuals=2),
                _downward(32, 64, residuals=3),
                _downward(64, 128, residuals=2),
                _downward(128, 256, residuals=2),
                _downward(256, 512, residuals=1),  # H W 3
                nn.Sequential(ConvLayer(512, 512, padding=0), ConvLayer(512, 512, kernel=1, padding=0)),
            ]
        )
        self.audio_encoder = AudioEncoder()
        self.face_decoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvLayer(512, 512, kernel=1, padding=0)),
                nn.Sequential(_UpwardLayer(1024, 512, stride=1), *_residuals(512, 1)),  # H W 3
                nn.Sequential(_UpwardLayer(1024, 512), *_residuals(512, 2)),
                nn.Sequential(_UpwardLayer(768, 384), *_residuals(384, 2)),
                nn.Sequential(_UpwardLayer(512, 256), *_residuals(256, 2)),
                nn.Sequential(_UpwardLayer(320, 128), *_residuals(128, 2)),
                nn.Sequential(_UpwardLayer(160, 64), *_residuals(64, 2)),  # H W 96
            ]
        )
        self.output_block = nn.Sequential(ConvLayer(80, 32), nn.Conv2d(32, 3, 1), nn.Sigmoid())

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Wav2Lip":
        """The network with published weights. Raises WeightsError."""
        network = cls()
        load_strict(network, path)
        return network.to(device)

    def forward(self, mel_N1MS: Tensor, faces_N6HW: Tensor) -> Tensor:
        """The face as it speaks.

        Args:
            mel_N1MS: mel windows in -4 .. 4, shape (N, 1, 80, 16).
            faces_N6HW: **BGR** in 0 .. 1, first the face with its lower half black, then a face of the same person,
                shape (N, 6, 96, 96).
        Returns:
            BGR in 0 .. 1, shape (N, 3, 96, 96).
        """
        seen = []
        x = faces_N6HW
        for block in self.face_encoder_blocks:
            x = block(x)
            seen.append(x)
        x = self.audio_encoder(mel_N1MS)[:, :, None, None]
        for block in self.face_decoder_blocks:
            x = torch.cat([block(x), seen.pop()], dim=1)
        return self.output_block(x)

    @torch.inference_mode()
    def speak(self, face: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """A still face with moving lips.

        Args:
            face: RGB, uint8, shape (H, W, 3): from forehead to chin, cheek to cheek.
            windows: one mel window per frame, shape (T, 80, 16).
        Returns:
            RGB, uint8, shape (T, 96, 96, 3).
        """
        device = next(self.parameters()).device
        still = torch.tensor(cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA), device=device)
        still_3HW = still.flip(-1).permute(2, 0, 1).float() / 255
        masked_3HW = still_3HW.clone()
        masked_3HW[:, SIDE // 2 :] = 0
        both_6HW = torch.cat([masked_3HW, still_3HW])
        frames = []
        for mel_NMS in torch.tensor(windows, dtype=torch.float32, device=device).split(AT_ONCE):
            painted_N3HW = self(mel_NMS[:, None], both_6HW.expand(len(mel_NMS), -1, -1, -1))
            frames.append((255 * painted_N3HW).byte().permute(0, 2, 3, 1).flip(-1).cpu().numpy())
        return np.concatenate(frames)


def _downward(inside: int, outside: int, residuals: int) -> nn.Sequential:
    return nn.Sequential(ConvLayer(inside, outside, stride=(2, 2)), *_residuals(outside, residuals))


def _residuals(channels: int, count: int) -> list[nn.Module]:
    return [ConvLayer(channels, channels, residual=True) for _ in range(count)]


class _UpwardLayer(nn.Module):
    """Transposed convolution, normalisation and ReLU: to twice the size, or with stride 1 from one pixel to 3 x 3."""

    def __init__(self, inside: int, outside: int, stride: int = 2):
        super().__init__()
        margin = 1 if stride == 2 else 0
        convolution = nn.ConvTranspose2d(inside, outside, 3, stride, padding=margin, output_padding=margin)
        self.conv_block = nn.Sequential(convolution, nn.BatchNorm2d(outside))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.conv_block(x_NCHW).relu()
