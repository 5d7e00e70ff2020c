"""The identity network of CSIM: ArcFace's improved residual networks (Deng et al., 2019; Duta et al., 2020).

Modules carry the names of InsightFace's PyTorch releases (`backbone.pth`); IR-18, -34, -50, -100 and -200 are told
apart by the file. Legend: B faces, C channels, H W pixels, T frames.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.alignment import ARCFACE_POINTS, align, pick_points
from models.checkpoint import count_blocks, fill, read_state

VECTOR = 512  # numbers per face
SIZE = 112  # pixels of a face's side
# Eyes, nose, corners of the mouth in a face of 112 pixels, from left to right in the picture.
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
WIDTHS = (64, 128, 256, 512)
IR50 = (3, 4, 14, 3)  # blocks per stage


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eyes, nose and corners of the mouth from 68 or 478 landmarks, as `align_face` takes them; shape (5, 2)."""
    return pick_points(landmarks, ARCFACE_POINTS)


def align_face(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face as ArcFace was trained on it.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        points: left and right eye, nose, left and right corner of the mouth as seen in the picture, in pixels with
            the first pixel's centre at 0, shape (5, 2).
    Returns:
        RGB, uint8, shape (112, 112, 3).
    """
    return align(image, points, TEMPLATE, SIZE)


def csim(source: np.ndarray, frames: np.ndarray) -> tuple[float, int]:
    """Mean cosine between the source's identity and that of every frame.

    Args:
        source: vector of unit length, shape (512,).
        frames: vectors of unit length, shape (T, 512); a row with NaN is a frame without a face.
    Returns:
        The mean, in [-1, 1], to which frames without a face contribute 0, and their number; NaN without frames.
    """
    if not len(frames):
        return float("nan"), 0
    cosines = np.asarray(frames, np.float64) @ np.asarray(source, np.float64)
    return float(np.nan_to_num(cosines, nan=0.0).mean()), int(np.isnan(cosines).sum())


class _Block(nn.Module):
    """Two convolutions between three normalisations, added to the input."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.prelu = nn.PReLU(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride > 1:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x_BCHW))))
        kept = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return self.bn3(self.conv2(y)) + kept


class Identity(nn.Module):
    """Aligned faces to vectors whose cosine says how much they are the same person.

    Args:
        blocks: per stage; the first of each halves the picture.
    """

    def __init__(self, blocks: tuple[int, ...] = IR50):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        inside = (WIDTHS[0], *WIDTHS)
        stages = [
            nn.Sequential(*(_Block(inside[k] if n == 0 else width, width, 2 if n == 0 else 1) for n in range(count)))
            for k, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True))
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1] * (SIZE // 16) ** 2, VECTOR)
        self.features = nn.BatchNorm1d(VECTOR)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Identity":
        """The network with weights of any depth. Raises WeightsError."""
        state = read_state(path)
        blocks = tuple(count_blocks(state, f"layer{k}") for k in (1, 2, 3, 4))
        network = cls(blocks if all(blocks) else IR50)
        fill(network, state, path)
        return network.to(device)

    def forward(self, faces_B3HW: Tensor) -> Tensor:
        """RGB in -1 .. 1, 112 pixels wide and high, to vectors of shape (B, 512), not normalised."""
        x = self.prelu(self.bn1(self.conv1(faces_B3HW)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))

    @torch.inference_mode()
    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Vectors of unit length, float32, shape (B, 512), of aligned RGB faces, uint8, shape (B, 112, 112, 3)."""
        scaled = torch.tensor(faces, device=next(self.parameters()).device).float() / 127.5 - 1
        return nn.functional.normalize(self(scaled.permute(0, 3, 1, 2))).cpu().numpy()
