"""The classifier of Emo_Acc: a frame attention network (Meng et al., "Emotion-FAN", 2019) fine-tuned on MEAD.

Modules carry the names of the published code and of the checkpoint that EAT's authors share (eight classes). A video
is seen as a set of faces: each gets a vector and a weight of its own, then a second weight for how it relates to the
weighted mean. Legend: B faces, T faces of one video, C channels, H W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.alignment import DLIB_POINTS, align, pick_points
from models.checkpoint import load_strict

EMOTIONS = ("happy", "angry", "disgusted", "fear", "sad", "neutral", "surprised", "contempt")  # the network's order
VECTOR = 512  # numbers per face
SIZE = 224  # pixels of a face's side
MARGIN = 0.25  # around dlib's mean face, of its size
# dlib's mean face of five points in a square of side 1: outer and inner corners of either eye, base of the nose.
MEAN_FACE = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)


def emotion_crop(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face as the classifier was trained on it: dlib's face chip with a margin of 0.25.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        landmarks: 68 or 478, in the project's pixels, shape (n, 2 or more).
    Returns:
        RGB, uint8, shape (224, 224, 3).
    """
    targets = (MEAN_FACE + MARGIN) / (1 + 2 * MARGIN) * SIZE
    return align(image, pick_points(landmarks, DLIB_POINTS), targets, SIZE)


class _Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if inside != outside:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        kept = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return (self.bn2(self.conv2(self.bn1(self.conv1(x_BCHW)).relu())) + kept).relu()


def _stage(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(inside, outside, stride), _Block(outside, outside, 1))


class EmotionNetwork(nn.Module):
    """ResNet-18 with attention over frames."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2 = _stage(64, 64, 1), _stage(64, 128, 2)
        self.layer3, self.layer4 = _stage(128, 256, 2), _stage(256, VECTOR, 2)
        self.alpha = nn.Sequential(nn.Linear(VECTOR, 1), nn.Sigmoid())
        self.beta = nn.Sequential(nn.Linear(2 * VECTOR, 1), nn.Sigmoid())
        self.pred_fc1 = nn.Linear(VECTOR, len(EMOTIONS))  # of the variant without `beta`; loaded, never asked
        self.pred_fc2 = nn.Linear(2 * VECTOR, len(EMOTIONS))

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "EmotionNetwork":
        """The network with the user's weights. Raises WeightsError."""
        network = cls()
        load_strict(network, path)
        return network.to(device)

    def embed(self, faces_B3HW: Tensor) -> Tensor:
        """RGB in 0 .. 1, 224 pixels wide and high, to vectors of shape (B, 512)."""
        x = self.maxpool(self.bn1(self.conv1(faces_B3HW)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))

    @torch.inference_mode()
    def features(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `classify` needs of faces, which may come in batches.

        Args:
            crops: RGB, uint8, shape (B, 224, 224, 3).
        Returns:
            Vectors, shape (B, 512), and each one's own weight in 0 .. 1, shape (B,); float32.
        """
        faces = torch.tensor(crops, device=next(self.parameters()).device).permute(0, 3, 1, 2).float() / 255
        vectors = self.embed(faces)
        return vectors.cpu().numpy(), self.alpha(vectors)[:, 0].cpu().numpy()

    @torch.inference_mode()
    def classify(self, features: np.ndarray, alpha: np.ndarray, as_trained: bool = False) -> np.ndarray:
        """Probabilities of the emotions over a whole video.

        With f the vectors, f' = sum(alpha f) / sum(alpha) and beta the weight of [f, f'], the paper classifies
        sum(alpha beta [f, f']) / sum(alpha beta). Scripts that produced the published accuracies leave beta out of
        the numerator when they evaluate, and only then.

        Args:
            features: of all frames with a face, shape (T, 512), T >= 1.
            alpha: their weights, shape (T,).
            as_trained: the paper's formula instead of the published scripts'.
        Returns:
            Shape (8,), in the order of `EMOTIONS`.
        """
        device = next(self.parameters()).device
        vectors = torch.tensor(features, dtype=torch.float32, device=device)
        own = torch.tensor(alpha, dtype=torch.float32, device=device)[:, None]
        mean = (own * vectors).sum(0) / own.sum()
        pairs = torch.cat([vectors, mean.expand_as(vectors)], 1)
        beta = self.beta(pairs)
        weight = own * beta if as_trained else own
        joined = (weight * pairs).sum(0) / (own * beta).sum()
        return self.pred_fc2(joined).softmax(0).cpu().numpy()
