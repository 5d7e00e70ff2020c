"""How face-vid2vid's networks learn from pairs of frames of one video (face-vid2vid, section 3.3).

Keypoint detector, head estimator and generator (with its motion network), together. The head's angles are those of the
fitted face where the paper asks a trained estimator, and landmarks tell where the first keypoints are, which the paper
leaves to be found (so LivePortrait, 2024).

Legend: B samples, N frames, P pixels, K keypoints.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.facespace import camera
from models.facevid2vid import losses
from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import Angles, Head, HeadEstimator, KeypointDetector, angles, place, turn_of
from models.facevid2vid.losses import Distortion
from models.facevid2vid.sizes import SIZES, TRAINED_SIDES
from pipeline.features import Features
from pipeline.framing import Box
from pipeline.pair_training import (
    BETAS,
    CRITIC,
    RENDERER,
    PairOptions,
    PairTraining,
    as_bytes,
    criticism,
    draw_order,
    file_name,
    heads_of,
    on_device_of,
    paint,
    pictures_of,
    shown,
)
from pipeline.trainables import Batch, Data, Networks, Preview, Sample, Turn

GUIDES = [30, 36, 45, 8, 4, 12, 51, 57]  # iBUG: nose tip, outer corners of the eyes, chin, cheeks, upper and lower lip


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
        order = draw_order(generator)
        source, driving = pictures_of(batch, order)
        if turn == CRITIC:
            with torch.no_grad():
                made, _ = _animated(networks, source, driving)
            return criticism(networks[CRITIC], made, driving)
        distortion = Distortion.draw(len(driving), generator)
        canonical = networks["keypoints"](source).float()
        head = heads_of(networks, source, driving, distortion.picture(driving))
        in_source, in_driving, in_distorted = place(canonical.repeat(3, 1, 1), head).chunk(3)
        made = paint(networks, source, in_source, in_driving)
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
        return {**losses.combined(parts), **shown(made.detach(), source, driving)}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Likeness of painted pictures, and the error of the head's angles in degrees."""
        order = draw_order(generator)
        source, driving = pictures_of(batch, order)
        made, head = _animated(networks, source, driving)
        found = {"head_pose": losses.head_pose(angles(head), _known_angles(batch, order))}
        return {**self.scores(networks, made, driving), **found}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """Frames of a row, painted from the first of them."""
        found = self.from_first(features)
        if found is None:
            return None
        _, pairs, pictures = found
        source, real = pictures_of({"pictures": on_device_of(networks, pictures)}, torch.arange(2))
        with torch.no_grad():
            made, _ = _animated(networks, source, real)
        return Preview(int(pairs[0, 1]), as_bytes(made), as_bytes(real))

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """As `renderer=facevid2vid` wants them, and the head estimator, which the training of `mapping` wants."""
        return {file_name(name, self._options.px): dict(networks[name].state_dict()) for name in RENDERER}

    def sizes(self) -> dict[str, dict[str, Any]]:
        """Of what is exported."""
        return {file_name(name, self._options.px): SIZES[self._options.size][name] for name in RENDERER}


def _known_angles(batch: Batch, order: Tensor) -> Angles:
    """Of all sources, then of all driving frames."""
    return Angles(*batch["turns"][:, order].float().transpose(0, 1).flatten(0, 1).unbind(1))


def _animated(networks: Networks, source_B3PP: Tensor, driving_B3PP: Tensor) -> tuple[Tensor, Head]:
    """Driving frames painted from their sources, and the heads of both."""
    head = heads_of(networks, source_B3PP, driving_B3PP)
    canonical = networks["keypoints"](source_B3PP).float()
    return paint(networks, source_B3PP, *place(canonical.repeat(2, 1, 1), head).chunk(2)), head


def _in_square(points_N2: np.ndarray, square: Box) -> np.ndarray:
    """Pixels of a crop as places in a square of it, -1 .. 1 from border to border; float32, shape (..., 2)."""
    left, top, right, _ = square
    return ((points_N2 - [left, top]) * (2 / (right - left)) - 1).astype(np.float32)


def _turns(pose_NP: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll of heads in degrees, as `keypoints.rotation` takes them; float32, shape (N, 3)."""
    return torch.stack([*turn_of(torch.from_numpy(camera.rotation(pose_NP[:, :3])))], 1).float().numpy()
