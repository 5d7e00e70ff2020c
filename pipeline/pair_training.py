"""What the trainings of face-vid2vid's networks and of SadTalker's mapping network share: pairs of frames of one video.

Pictures are the tight squares that `renderer=facevid2vid` is given in service, standing still within a row.

Legend: B samples, N frames, P pixels, K keypoints.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.facevid2vid import losses
from models.facevid2vid.discriminator import MultiScaleDiscriminator
from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import Head, HeadEstimator, KeypointDetector
from models.facevid2vid.losses import TOTAL, Vgg19
from models.facevid2vid.sizes import SIZES
from models.frozen import Frozen
from pipeline.config import Section
from pipeline.features import CROP, Features
from pipeline.framing import Box, resample, tight_square
from pipeline.previews import SHOWN
from pipeline.take import longest_run, runs_of
from pipeline.trainables import Batch, Data, Networks, Turn
from pipeline.weights import how_to_get

BETAS = (0.5, 0.999)  # of Adam, as in face-vid2vid (section 4)
RENDERER: Mapping[str, type[nn.Module]] = {
    "generator": Generator,
    "keypoints": KeypointDetector,
    "head_estimator": HeadEstimator,
}
PERCEPTUAL, CRITIC = "perceptual", "critic"
LEARNING_RATES = {"paper": 2e-4, "small": 1e-3}  # of Adam; face-vid2vid has the former


class PairOptions(Section):
    """Settings of both trainings."""

    size: Literal["paper", "small"] = Field(default="small", description="of the networks")
    px: Literal[64, 256] = Field(default=64, description="side of the pictures, pixels")
    stride: int = Field(default=2, ge=1, description="frames from one driving frame to the next")
    critic: bool = Field(default=True, description="learn from a critic of pictures, too")
    learning_rate: float | None = Field(
        default=None, gt=0, description="of Adam, all turns; default: face-vid2vid's 2e-4, for small networks 1e-3"
    )


class Pair(NamedTuple):
    """A source and a driving frame of a row.

    Args:
        run: frames of the row around both, all of which show the face.
        frames: their numbers, shape (2,).
        square: what is cut out of both, pixels of the crops.
        pictures: uint8, shape (2, 3, P, P).
    """

    run: slice
    frames: np.ndarray
    square: Box
    pictures: np.ndarray


class PairTraining:
    """What both trainings share: pairs of frames, and how painted pictures are judged."""

    columns: tuple[str, ...] = ("pose", "landmarks", "seen", "crops")
    average = 0.0
    clip = 0.0  # the gradient of the heads' angles is hundreds of times the painter's, and would shrink it to nothing
    batch = 8
    score = "l1"
    turns: Mapping[str, Turn]

    def __init__(self, options: PairOptions, data: Data, paints: bool = True):
        """
        Args:
            options: settings.
            data: features, pack, and the user's weights.
            paints: whether painted pictures are learned from.
        Raises:
            ValueError: the features have no pictures.
        """
        if not data.crops:
            raise ValueError("the features have no face crops to learn from: prepare them with crops=true")
        self._options, self._data, self._paints = options, data, paints
        self._criticised = paints and options.critic
        self._rate = options.learning_rate or LEARNING_RATES[options.size]
        critic = Turn((CRITIC,), self._rate, BETAS)
        self.turns = {CRITIC: critic} if self._criticised else {}

    def warnings(self) -> list[str]:
        """Says so if there is no perceptual network. Raises WeightsError for a file of another one."""
        if not self._paints:
            return []
        path = self._data.weights("vgg19")
        if path:
            Vgg19.load(path)
            return []
        return [f"no perceptual loss, pixels are compared instead: it needs VGG-19; {how_to_get('vgg19')}"]

    def helpers(self) -> dict[str, nn.Module]:
        """Critic and perceptual network, as far as they are wanted and there."""
        networks: dict[str, nn.Module] = {}
        if self._criticised:
            networks[CRITIC] = MultiScaleDiscriminator(**SIZES[self._options.size][CRITIC])
        path = self._data.weights("vgg19") if self._paints else None
        if path:
            networks[PERCEPTUAL] = Frozen(Vgg19.load(path))
        return networks

    def pairs(self, features: Features, rng: np.random.Generator, jitter: float = 0.0) -> Iterator[Pair]:
        """Driving frames, each with a source before or after it, many of them near.

        Args:
            features: the row.
            rng: picks sources, and where pictures are cut.
            jitter: share of the square's side that is cut off both pictures, anywhere.
        """
        if not features.crops:
            return
        box = _square_of(features)
        for run in runs_of(features["seen"]):
            crop = cache(features.image)
            for driving in range(run.start, run.stop, self._options.stride):
                frames = np.array([_source_of(driving, run, rng), driving])
                square = _trimmed(box, jitter, rng)
                pictures = np.stack([_cut(crop(int(frame)), square, self._options.px) for frame in frames])
                yield Pair(run, frames, square, pictures)

    def from_first(self, features: Features) -> tuple[slice, np.ndarray, np.ndarray] | None:
        """As `pairs`, some frames of the longest run at once, its first one being the source of all; None without."""
        run = longest_run(features["seen"])
        if run is None or not features.crops:
            return None
        frames = np.unique(np.linspace(run.start, run.stop - 1, SHOWN).astype(int))
        box = _square_of(features)
        pictures = np.stack([_cut(features.image(int(frame)), box, self._options.px) for frame in frames])
        pairs = np.stack([np.full_like(frames, run.start), frames], 1)
        return run, pairs, np.stack([np.broadcast_to(pictures[0], pictures.shape), pictures], 1)

    def likeness(self, networks: Networks, made_B3PP: Tensor, real_B3PP: Tensor) -> dict[str, Tensor]:
        """Losses of painted pictures, by their names in `losses.WEIGHTS`."""
        sizes = losses.pyramid(self._options.px)
        if PERCEPTUAL in networks:
            parts = {"perceptual": losses.perceptual(networks[PERCEPTUAL], made_B3PP, real_B3PP, sizes)}
        else:
            parts = {"reconstruction": losses.reconstruction(made_B3PP, real_B3PP, sizes)}
        if self._criticised:
            made, real = networks[CRITIC](made_B3PP), networks[CRITIC](real_B3PP)
            parts |= {"adversarial": losses.adversarial(made), "matching": losses.matching(made, real)}
        return parts

    def scores(self, networks: Networks, made_B3PP: Tensor, real_B3PP: Tensor) -> dict[str, Tensor]:
        """Metrics of painted pictures: mean difference of colours in percent, PSNR, perceptual distance if known."""
        found = {"l1": 100 * (made_B3PP - real_B3PP).abs().mean(), "psnr": losses.psnr(made_B3PP, real_B3PP)}
        if PERCEPTUAL in networks:
            sizes = losses.pyramid(self._options.px)
            found["perceptual"] = losses.perceptual(networks[PERCEPTUAL], made_B3PP, real_B3PP, sizes)
        return found


# ---- what networks make of pictures


def draw_order(generator: torch.Generator) -> Tensor:
    """Which frame of every pair is the source: each may drive the other."""
    return torch.randperm(2, generator=generator, device=generator.device)


def pictures_of(batch: Batch, order: Tensor) -> tuple[Tensor, Tensor]:
    """Source and driving pictures in 0 .. 1, shape (B, 3, P, P)."""
    source, driving = (batch["pictures"][:, order].float() / 255).unbind(1)
    return source, driving


def heads_of(networks: Networks, *pictures_B3PP: Tensor) -> Head:
    """Heads of pictures, one after the other."""
    return in_float(networks["head_estimator"](torch.cat(pictures_B3PP)))


def paint(networks: Networks, source_B3PP: Tensor, in_source_BK3: Tensor, in_driving_BK3: Tensor) -> Tensor:
    """Driving frames from their sources and the keypoints of both, shape (B, 3, P, P)."""
    return networks["generator"](source_B3PP, in_source_BK3, in_driving_BK3).frame.float()


def criticism(critic: nn.Module, made_B3PP: Tensor, real_B3PP: Tensor) -> dict[str, Tensor]:
    """The critic's own loss."""
    return {TOTAL: losses.discrimination(critic(made_B3PP), critic(real_B3PP))}


def shown(made_B3PP: Tensor, source_B3PP: Tensor, driving_B3PP: Tensor) -> dict[str, Tensor]:
    """How like the driving frames the painted ones are, and what leaving the sources as they are would give, dB."""
    return {"psnr": losses.psnr(made_B3PP, driving_B3PP), "psnr_of_source": losses.psnr(source_B3PP, driving_B3PP)}


def in_float(head: Head) -> Head:
    """A head's numbers in single precision, whatever the networks worked in."""
    return Head(*(part.float() for part in head))


def on_device_of(networks: Networks, array: np.ndarray) -> Tensor:
    """An array as a tensor on the networks' device."""
    return torch.from_numpy(array).to(next(networks["generator"].parameters()).device)


def as_bytes(pictures_N3PP: Tensor) -> np.ndarray:
    """Pictures in 0 .. 1 as uint8, shape (N, P, P, 3)."""
    return pictures_N3PP.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def file_name(name: str, px: int) -> str:
    """Name of a network in a pack; of all but the head estimator there is one per size of pictures."""
    return name if name == "head_estimator" else f"{name}_{px}"


# ---- what rows of features say


def _square_of(features: Features) -> Box:
    """The square of a row's crops that is learned from: around the head in its median place and size, inside."""
    squares = [tight_square(points) for points in features["landmarks"][features["seen"]]]
    centre = np.median([centre for centre, _ in squares], 0)
    side = min(float(np.median([side for _, side in squares])), float(CROP))
    left, top = np.clip(centre - side / 2, 0, CROP - side)
    return float(left), float(top), float(left + side), float(top + side)


def _source_of(driving: int, run: slice, rng: np.random.Generator) -> int:
    """A frame of the run whose distance in time is as likely below its square root as above.

    Between neighbours a picture is best copied, which is what there must be before anything can be moved; among frames
    that are far apart only, those of one speaker are best answered with their mean.
    """
    distance = round((run.stop - run.start) ** rng.random())
    frames = [frame for frame in (driving - distance, driving + distance) if run.start <= frame < run.stop]
    return int(rng.choice(frames)) if frames else int(rng.integers(run.start, run.stop))


def _trimmed(box: Box, share: float, rng: np.random.Generator) -> Box:
    """A square that lacks a share of its side, anywhere inside."""
    x0, y0, x1, _ = box
    side = (1 - share) * (x1 - x0)
    left, top = np.array([x0, y0]) + rng.uniform(0, share * (x1 - x0), 2)
    return float(left), float(top), float(left + side), float(top + side)


def _cut(crop: np.ndarray, box: Box, px: int) -> np.ndarray:
    """A square of a crop, uint8, shape (3, P, P)."""
    return np.ascontiguousarray(resample(crop, box, (px, px)).transpose(2, 0, 1))
