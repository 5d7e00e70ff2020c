"""How face-vid2vid's networks and SadTalker's mapping network learn from pairs of frames of one video.

First keypoint detector, head estimator and generator (with its motion network), together (face-vid2vid, section 3.3).
The head's angles are those of the fitted face where the paper asks a trained estimator, and landmarks tell where the
first keypoints are, which the paper leaves to be found (so LivePortrait, 2024).
Then, with all of these as they are, the mapping network: from coefficients to the keypoints that the pictures have
(SadTalker, section 3.3).

Pictures are the tight squares that `renderer=facevid2vid` is given in service, standing still within a row.

Legend: B samples, N frames, P pixels, C coefficients, W frames of a window, K keypoints.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.checkpoint import load_strict
from models.facespace import camera
from models.facevid2vid import losses
from models.facevid2vid.discriminator import MultiScaleDiscriminator
from models.facevid2vid.frozen import Frozen
from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import Angles, Head, HeadEstimator, KeypointDetector, angles, place, turn_of
from models.facevid2vid.losses import TOTAL, Distortion, Vgg19
from models.facevid2vid.sizes import KEYPOINTS, MAPPING_SIZES, SIZES, TRAINED_SIDES
from models.sadtalker.mapping import MappingNet
from models.sadtalker.windows import coefficient_windows
from pipeline.config import Section
from pipeline.features import CROP, Features
from pipeline.framing import Box, resample, tight_square
from pipeline.previews import SHOWN
from pipeline.take import longest_run, runs_of
from pipeline.trainables import Batch, Data, Networks, Preview, Sample, Turn
from pipeline.weights import how_to_get

BETAS = (0.5, 0.999)  # of Adam, as in face-vid2vid (section 4)
RENDERER: Mapping[str, type[nn.Module]] = {
    "generator": Generator,
    "keypoints": KeypointDetector,
    "head_estimator": HeadEstimator,
}
PERCEPTUAL, CRITIC, MAPPING = "perceptual", "critic", "mapping"
LEARNING_RATES = {"paper": 2e-4, "small": 1e-3}  # of Adam; face-vid2vid has the former
GUIDES = [30, 36, 45, 8, 4, 12, 51, 57]  # iBUG: nose tip, outer corners of the eyes, chin, cheeks, upper and lower lip


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


class FaceVid2VidTrainable(PairTraining):
    """Keypoint detector, head estimator, and generator with its motion network."""

    class Options(PairOptions):
        """Settings."""

        jitter: float = Field(
            default=0.15, ge=0, le=0.5, description="share of the pictures' side that is cut off, anywhere"
        )
        guide: bool = Field(
            default=True, description="landmarks say where the first keypoints are; false: face-vid2vid's losses only"
        )

    def __init__(self, options: Options, data: Data):
        super().__init__(options, data)
        self._jitter, self._guided = options.jitter, options.guide
        pack = data.pack()
        for other in (f"generator_{px}" for px in TRAINED_SIDES if px != options.px):
            if pack is not None and other in pack:
                raise ValueError(
                    f"the pack {pack.where} has {other}: other sizes of pictures go into packs of their own"
                )
        self.turns = {**self.turns, "renderer": Turn(tuple(RENDERER), self._rate, BETAS)}

    def build(self) -> dict[str, nn.Module]:
        """ "generator", "keypoints", "head_estimator", and helpers.

        Heads begin without expression and shift: what moves a picture at random, the generator learns to leave out.
        """
        sizes = SIZES[self._options.size]
        estimator = HeadEstimator(**sizes["head_estimator"])
        for weights in (*estimator.fc_exp.parameters(), *estimator.fc_t.parameters()):
            nn.init.zeros_(weights)
        return {
            "generator": Generator(**sizes["generator"]),
            "keypoints": KeypointDetector(**sizes["keypoints"]),
            "head_estimator": estimator,
            **self.helpers(),
        }

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """Two frames; yaw, pitch, roll of the heads in degrees, as `keypoints.rotation` takes them; landmarks."""
        turns, guides = _turns(features["pose"]), features["landmarks"][:, GUIDES]
        for pair in self.pairs(features, rng, self._jitter):
            guide = _in_square(guides[pair.frames], pair.square)
            yield {"pictures": pair.pictures, "turns": turns[pair.frames], "guides": guide}

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The critic's, or those of section 3.3 and the landmarks'; PSNR is shown besides, the source's too."""
        order = _order(generator)
        source, driving = _pictures(batch, order)
        if turn == CRITIC:
            with torch.no_grad():
                made, _ = _animated(networks, source, driving)
            return _criticism(networks[CRITIC], made, driving)
        distortion = Distortion.draw(len(driving), generator)
        canonical = networks["keypoints"](source).float()
        head = _estimated(networks, source, driving, distortion.picture(driving))
        in_source, in_driving, in_distorted = place(canonical.repeat(3, 1, 1), head).chunk(3)
        made = _painted(networks, source, in_source, in_driving)
        undistorted = Head(*(part[: 2 * len(source)] for part in head))
        parts = {
            **self.likeness(networks, made, driving),
            "equivariance": losses.equivariance(in_driving, in_distorted, distortion),
            "spread": losses.spread(torch.cat([in_source, in_driving])),
            "head_pose": losses.head_pose(angles(undistorted), _known_angles(batch, order)),
            "deformation": losses.deformation(undistorted.expression),
        }
        if self._guided:
            guides = batch["guides"][:, order].transpose(0, 1).flatten(0, 1)
            parts["guide"] = losses.guide(torch.cat([in_source, in_driving]), guides)
        return {**losses.combined(parts), **_shown(made.detach(), source, driving)}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Likeness of painted pictures, and the error of the head's angles in degrees."""
        order = _order(generator)
        source, driving = _pictures(batch, order)
        made, head = _animated(networks, source, driving)
        found = {"head_pose": losses.head_pose(angles(head), _known_angles(batch, order))}
        return {**self.scores(networks, made, driving), **found}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """Frames of a row, painted from the first of them."""
        found = self.from_first(features)
        if found is None:
            return None
        _, pairs, pictures = found
        source, real = _pictures({"pictures": _tensor(pictures, networks)}, torch.arange(2))
        with torch.no_grad():
            made, _ = _animated(networks, source, real)
        return Preview(int(pairs[0, 1]), _as_bytes(made), _as_bytes(real))

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """As `renderer=facevid2vid` wants them, and the head estimator, which the training of `mapping` wants."""
        return {_file(name, self._options.px): dict(networks[name].state_dict()) for name in RENDERER}

    def sizes(self) -> dict[str, dict[str, Any]]:
        """Of what is exported."""
        return {_file(name, self._options.px): SIZES[self._options.size][name] for name in RENDERER}


class MappingTrainable(PairTraining):
    """The mapping network, in front of the renderer of the pack that it is added to."""

    class Options(PairOptions):
        """Settings."""

        pictures: bool = Field(default=True, description="learn from painted pictures, too; false: from keypoints only")

    columns = ("expression", *PairTraining.columns)

    def __init__(self, options: Options, data: Data):
        super().__init__(options, data, paints=options.pictures)
        pack = data.pack()
        wanted = [_file(name, options.px) for name in RENDERER]
        lacking = [name for name in wanted if pack is None or name not in pack]
        if pack is None or lacking:
            raise ValueError(
                f"there is no {', '.join(lacking)} in the pack that it is added to: "
                f"train trainable=facevid2vid options.px={options.px} with the same pack=FOLDER first"
            )
        self._pack = pack
        keypoints = pack.sizes(_file("generator", options.px)).get("keypoints", KEYPOINTS["paper"])
        self._sizes = {**MAPPING_SIZES[options.size], "keypoints": keypoints}
        self.turns = {**self.turns, MAPPING: Turn((MAPPING,), self._rate, BETAS)}

    def build(self) -> dict[str, nn.Module]:
        """ "mapping", helpers, and the pack's "generator", "keypoints" and "head_estimator", frozen.

        Raises:
            PackError, WeightsError: the pack's files are not what it says.
        """
        networks: dict[str, nn.Module] = {MAPPING: MappingNet(**self._sizes), **self.helpers()}
        for name, kind in RENDERER.items():
            file = _file(name, self._options.px)
            network = kind(**self._pack.sizes(file))
            load_strict(network, self._pack.path(file))
            networks[name] = Frozen(network)
        return networks

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """Two frames, and the windows of coefficients around them, shape (2, C, W)."""
        rows = _coefficients(features)
        for pair in self.pairs(features, rng):
            windows = coefficient_windows(rows[pair.run], pair.frames - pair.run.start)
            yield {"pictures": pair.pictures, "windows": windows}

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The critic's; or of keypoints against those of the pictures, and of painted pictures, with PSNR as above."""
        order = _order(generator)
        source, driving = _pictures(batch, order)
        if turn == CRITIC:
            with torch.no_grad():
                found, _ = self._keypoints(networks, batch, order)
                made = self._painted(networks, batch, order, found)
            return _criticism(networks[CRITIC], made, driving)
        found, wanted = self._keypoints(networks, batch, order)
        parts = {"mapped": losses.mapped(found, wanted)}
        if not self._paints:
            return losses.combined(parts)
        made = self._painted(networks, batch, order, found)
        parts |= self.likeness(networks, made, driving)
        return {**losses.combined(parts), **_shown(made.detach(), source, driving)}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Likeness of painted pictures, and how far keypoints are from those of the pictures."""
        order = _order(generator)
        found, wanted = self._keypoints(networks, batch, order)
        made = self._painted(networks, batch, order, found)
        seen = self.scores(networks, made, _pictures(batch, order)[1])
        return {**seen, "mapped": losses.mapped(found, wanted)}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """Frames of a row, painted from the first of them and coefficients."""
        found = self.from_first(features)
        if found is None:
            return None
        run, pairs, pictures = found
        rows = _coefficients(features)[run]
        windows = np.stack([coefficient_windows(rows, pair - run.start) for pair in pairs])
        batch = {"pictures": _tensor(pictures, networks), "windows": _tensor(windows, networks)}
        order = torch.arange(2)
        with torch.no_grad():
            made = self._painted(networks, batch, order, self._keypoints(networks, batch, order)[0])
        return Preview(int(pairs[0, 1]), _as_bytes(made), _as_bytes(_pictures(batch, order)[1]))

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """As `renderer=facevid2vid` wants it, for all framings."""
        return {"mapping_crop": dict(networks[MAPPING].state_dict())}

    def sizes(self) -> dict[str, dict[str, Any]]:
        """Of what is exported."""
        return {"mapping_crop": self._sizes}

    def _keypoints(self, networks: Networks, batch: Batch, order: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints that coefficients lead to, and those of the pictures; of all sources, then of all driving frames,
        shape (2 B, K, 3)."""
        source, driving = _pictures(batch, order)
        windows_NCW = batch["windows"][:, order].transpose(0, 1).flatten(0, 1).float()
        with torch.no_grad():
            canonical = networks["keypoints"](source).float().repeat(2, 1, 1)
            wanted = place(canonical, _estimated(networks, source, driving))
        return place(canonical, _float(networks[MAPPING](windows_NCW))), wanted

    def _painted(self, networks: Networks, batch: Batch, order: Tensor, keypoints_NK3: Tensor) -> Tensor:
        """Driving frames from their sources and keypoints, shape (B, 3, P, P)."""
        return _painted(networks, _pictures(batch, order)[0], *keypoints_NK3.chunk(2))


# ---- what networks make of pictures


def _order(generator: torch.Generator) -> Tensor:
    """Which frame of every pair is the source: each may drive the other."""
    return torch.randperm(2, generator=generator, device=generator.device)


def _pictures(batch: Batch, order: Tensor) -> tuple[Tensor, Tensor]:
    """Source and driving pictures in 0 .. 1, shape (B, 3, P, P)."""
    source, driving = (batch["pictures"][:, order].float() / 255).unbind(1)
    return source, driving


def _known_angles(batch: Batch, order: Tensor) -> Angles:
    """Of all sources, then of all driving frames."""
    return Angles(*batch["turns"][:, order].float().transpose(0, 1).flatten(0, 1).unbind(1))


def _estimated(networks: Networks, *pictures_B3PP: Tensor) -> Head:
    """Heads of pictures, one after the other."""
    return _float(networks["head_estimator"](torch.cat(pictures_B3PP)))


def _animated(networks: Networks, source_B3PP: Tensor, driving_B3PP: Tensor) -> tuple[Tensor, Head]:
    """Driving frames painted from their sources, and the heads of both."""
    head = _estimated(networks, source_B3PP, driving_B3PP)
    canonical = networks["keypoints"](source_B3PP).float()
    return _painted(networks, source_B3PP, *place(canonical.repeat(2, 1, 1), head).chunk(2)), head


def _painted(networks: Networks, source_B3PP: Tensor, in_source_BK3: Tensor, in_driving_BK3: Tensor) -> Tensor:
    return networks["generator"](source_B3PP, in_source_BK3, in_driving_BK3).frame.float()


def _criticism(critic: nn.Module, made_B3PP: Tensor, real_B3PP: Tensor) -> dict[str, Tensor]:
    return {TOTAL: losses.discrimination(critic(made_B3PP), critic(real_B3PP))}


def _shown(made_B3PP: Tensor, source_B3PP: Tensor, driving_B3PP: Tensor) -> dict[str, Tensor]:
    """How like the driving frames the painted ones are, and what leaving the sources as they are would give, dB."""
    return {"psnr": losses.psnr(made_B3PP, driving_B3PP), "psnr_of_source": losses.psnr(source_B3PP, driving_B3PP)}


def _float(head: Head) -> Head:
    return Head(*(part.float() for part in head))


def _tensor(array: np.ndarray, networks: Networks) -> Tensor:
    """On the networks' device."""
    return torch.from_numpy(array).to(next(networks["generator"].parameters()).device)


def _as_bytes(pictures_N3PP: Tensor) -> np.ndarray:
    """Pictures in 0 .. 1 as uint8, shape (N, P, P, 3)."""
    return pictures_N3PP.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


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


def _in_square(points_N2: np.ndarray, square: Box) -> np.ndarray:
    """Pixels of a crop as places in a square of it, -1 .. 1 from border to border; float32, shape (..., 2)."""
    left, top, right, _ = square
    return ((points_N2 - [left, top]) * (2 / (right - left)) - 1).astype(np.float32)


def _turns(pose_NP: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll of heads in degrees, as `keypoints.rotation` takes them; float32, shape (N, 3)."""
    return torch.stack([*turn_of(torch.from_numpy(camera.rotation(pose_NP[:, :3])))], 1).float().numpy()


def _coefficients(features: Features) -> np.ndarray:
    """Expression and pose of every frame, float32, shape (N, C).

    Translations count from their median, as the square stands there: in service they count from the portrait's, which
    the square is cut around.
    """
    pose = features["pose"].copy()
    pose[:, 3:] -= np.median(pose[features["seen"], 3:], 0)
    return np.concatenate([features["expression"], pose], 1, dtype=np.float32)


def _file(name: str, px: int) -> str:
    """Of a network in a pack."""
    return name if name == "head_estimator" else f"{name}_{px}"
