"""What face-vid2vid is trained to minimise (section 3.3 of the paper, supplement A.2), and SadTalker's MappingNet.

All functions give the mean over the batch. `WEIGHTS` has the published factors, `combined` adds up.

Legend: B pictures, C channels, H W pixels, K keypoints, N points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoint import fill, read_state
from models.facevid2vid.discriminator import Verdict, shrunk
from models.facevid2vid.keypoints import Angles

WEIGHTS = {
    "perceptual": 10.0,
    "reconstruction": 100.0,  # ours, where there is no perceptual network
    "adversarial": 1.0,
    "matching": 10.0,  # of the discriminator's features; not in the paper, customary
    "equivariance": 20.0,
    "spread": 10.0,
    "head_pose": 20.0,
    "deformation": 5.0,
    "guide": 20.0,  # ours: a percent of the picture's side counts as much as a degree of the head's angles
    "mapped": 20.0,  # SadTalker, section 3.3
}
TOTAL = "total"
MIN_SQUARED_DISTANCE = 0.1  # of two keypoints
MEAN_DEPTH = 0.33  # of all keypoints

# torchvision's `features` of VGG-19: channels of a 3x3 convolution and its ReLU, or a pooling; up to relu5_1
VGG_LAYERS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512, 512, 512, "pool", 512)
VGG_TAPS = (2, 7, 12, 21, 30)  # layers that end with relu1_1 to relu5_1
VGG_WEIGHTS = (0.03125, 0.0625, 0.125, 0.25, 1.0)
VGG_UNUSED = ("classifier.", "features.30.", "features.32.", "features.34.")
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PYRAMID = 4  # sizes of a picture: whole, half, quarter, eighth
LEAST_SIDE = 16  # pixels: what VGG halves four times


class Vgg19(nn.Module):
    """Features that people's judgement of likeness goes by; torchvision's network up to relu5_1."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential()
        inside = 3
        for layer in VGG_LAYERS:
            if isinstance(layer, int):
                self.features.extend([nn.Conv2d(inside, layer, 3, padding=1), nn.ReLU()])
                inside = layer
            else:
                self.features.append(nn.MaxPool2d(2, stride=2))
        self.register_buffer("_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Vgg19":
        """The network with torchvision's weights (`vgg19-dcbb9e9d.pth`), which are not part of this project.

        Raises:
            WeightsError: it is another file.
        """
        network = cls()
        fill(network, read_state(path), path, optional=VGG_UNUSED)
        return network.to(device)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """relu1_1 to relu5_1 of pictures in 0 .. 1."""
        x = (image_B3HW - self.get_buffer("_mean")) / self.get_buffer("_deviation")
        outputs = []
        for number, layer in enumerate(self.features, 1):
            x = layer(x)
            if number in VGG_TAPS:
                outputs.append(x)
        return outputs


def combined(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts, and as "total" their sum, each times its factor of `WEIGHTS`."""
    return {TOTAL: torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum(), **parts}


def pyramid(side_px: int) -> int:
    """At how many sizes pictures of a side are compared: four, or fewer where the last would be under 16 pixels."""
    return sum(side_px >> halvings >= LEAST_SIDE for halvings in range(PYRAMID))


def perceptual(network: nn.Module, made_B3HW: Tensor, real_B3HW: Tensor, sizes: int = PYRAMID) -> Tensor:
    """How different the features of pictures are, at several sizes.

    Args:
        network: `Vgg19`.
        made_B3HW, real_B3HW: in 0 .. 1.
        sizes: of the pyramid; each is half of the one before.
    """
    total = made_B3HW.new_zeros(())
    for halvings in range(sizes):
        made = network(shrunk(made_B3HW, halvings))
        with torch.no_grad():
            real = network(shrunk(real_B3HW, halvings))
        for weight, a, b in zip(VGG_WEIGHTS, made, real):
            total = total + weight * F.l1_loss(a, b)
    return total


def reconstruction(made_B3HW: Tensor, real_B3HW: Tensor, sizes: int = PYRAMID) -> Tensor:
    """How different pixels are, mean over sizes: what stands in for `perceptual` without its network; not in the paper.

    Args: as of `perceptual`.
    """
    levels = [F.l1_loss(shrunk(made_B3HW, halvings), shrunk(real_B3HW, halvings)) for halvings in range(sizes)]
    return torch.stack(levels).mean()


def psnr(made_B3HW: Tensor, real_B3HW: Tensor) -> Tensor:
    """Peak signal to noise ratio of pictures in 0 .. 1, dB; of the mean squared error over the batch."""
    return -10 * F.mse_loss(made_B3HW, real_B3HW).clamp_min(1e-10).log10()


def adversarial(made: Sequence[Verdict]) -> Tensor:
    """Hinge loss of the generator, summed over scales."""
    return torch.stack([-verdict.realness.mean() for verdict in made]).sum()


def discrimination(made: Sequence[Verdict], real: Sequence[Verdict]) -> Tensor:
    """Hinge loss of the discriminator, summed over scales; the made pictures are to be detached."""
    sides = [(1 + a.realness).relu().mean() + (1 - b.realness).relu().mean() for a, b in zip(made, real)]
    return torch.stack(sides).sum()


def matching(made: Sequence[Verdict], real: Sequence[Verdict]) -> Tensor:
    """How different the discriminator's features are: mean over the blocks of a scale, summed over scales."""
    scales = [
        torch.stack([F.l1_loss(x, y.detach()) for x, y in zip(a.features, b.features)]).mean()
        for a, b in zip(made, real)
    ]
    return torch.stack(scales).sum()


@dataclass(frozen=True)
class Distortion:
    """A smooth random map of the picture plane, per picture: affine, and a thin-plate spline on top.

    Siarohin et al.: First Order Motion Model (2019), section 3.1 and supplement.

    Args:
        affine_B23: matrix and shift.
        controls_N2: points that the spline bends at, in -1 .. 1.
        bends_BN: strength at each.
    """

    affine_B23: Tensor
    controls_N2: Tensor
    bends_BN: Tensor

    @classmethod
    def draw(
        cls,
        pictures: int,
        generator: torch.Generator,
        affine: float = 0.05,
        bend: float = 0.005,
        controls: int = 5,
    ) -> "Distortion":
        """Random ones, on the generator's device.

        Args:
            pictures: B.
            generator: of all that is random.
            affine, bend: standard deviations of matrix entries and strengths.
            controls: points along each side.
        """
        device = generator.device
        axis = torch.linspace(-1, 1, controls, device=device)
        noise_B23 = torch.randn(pictures, 2, 3, generator=generator, device=device)
        bends_BN = bend * torch.randn(pictures, controls**2, generator=generator, device=device)
        return cls(torch.eye(2, 3, device=device) + affine * noise_B23, torch.cartesian_prod(axis, axis), bends_BN)

    def points(self, points_BN2: Tensor) -> Tensor:
        """Where points of the plane go, shape (B, N, 2)."""
        straight = points_BN2 @ self.affine_B23[:, :, :2].transpose(1, 2) + self.affine_B23[:, None, :, 2]
        distance = (points_BN2[:, :, None] - self.controls_N2).abs().sum(-1)
        bent = torch.einsum("bnk,bk->bn", distance.square() * (distance + 1e-6).log(), self.bends_BN)
        return straight + bent[..., None]

    def picture(self, image_BCHW: Tensor) -> Tensor:
        """Pictures whose every pixel shows what is where its place goes; mirrored beyond the border."""
        height, width = image_BCHW.shape[2:]
        y, x = torch.meshgrid(
            *(torch.linspace(-1, 1, n, device=image_BCHW.device) for n in (height, width)), indexing="ij"
        )
        grid_BN2 = torch.stack([x, y], -1).flatten(0, 1).expand(len(image_BCHW), -1, -1)
        flow = self.points(grid_BN2).unflatten(1, (height, width))
        return F.grid_sample(image_BCHW, flow, padding_mode="reflection", align_corners=True)


def equivariance(keypoints_BK3: Tensor, of_distorted_BK3: Tensor, distortion: Distortion) -> Tensor:
    """How far keypoints of a distorted picture are from where the distortion has them.

    Args:
        keypoints_BK3: of the pictures; x and y count, as the projection is orthographic.
        of_distorted_BK3: of `distortion.picture` of them.
    """
    return F.l1_loss(distortion.points(of_distorted_BK3[..., :2]), keypoints_BK3[..., :2])


def spread(keypoints_BK3: Tensor) -> Tensor:
    """The keypoint prior: keypoints crowd together, or lie off the preferred depth on average.

    The first part adds up what every ordered pair lacks to the minimal squared distance.
    """
    squared_BKK = (keypoints_BK3[:, :, None] - keypoints_BK3[:, None]).square().sum(-1)
    lacking = (MIN_SQUARED_DISTANCE - squared_BKK).relu()
    pairs = lacking.sum((1, 2)) - lacking.diagonal(dim1=1, dim2=2).sum(1)
    return pairs.mean() + (keypoints_BK3[..., 2].mean(1) - MEAN_DEPTH).abs().mean()


def head_pose(found: Angles, known: Angles) -> Tensor:
    """Difference of angles in degrees, mean of the three; `known` comes from a trained estimator."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(found, known)]).mean()


def guide(keypoints_BK3: Tensor, landmarks_BG2: Tensor) -> Tensor:
    """How far the first keypoints are from landmarks of the picture, along each axis, in percent of the picture's side.

    Not in the paper: Guo et al., LivePortrait (2024), section 3.2, has it, with another norm.

    Args:
        keypoints_BK3: of pictures.
        landmarks_BG2: x, y in -1 .. 1; G is at most K.
    """
    return 50 * F.l1_loss(keypoints_BK3[:, : landmarks_BG2.shape[1], :2], landmarks_BG2)


def deformation(expression_BC: Tensor) -> Tensor:
    """Size of the keypoints' shifts by expression, mean over coordinates: small ones leave the pose to the rotation."""
    return expression_BC.abs().mean()


def mapped(mapped_BK3: Tensor, driving_BK3: Tensor) -> Tensor:
    """Keypoints that MappingNet leads to against those of the driving picture, mean over coordinates (SadTalker)."""
    return F.l1_loss(mapped_BK3, driving_BK3)
