"""How SadTalker's motion networks learn from features of talking videos (SadTalker, 3; supplement, B.3).

Legend: B samples, T frames, M S mel bands and steps, E expression, P pose.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, IDENTITY, Motion
from models.sadtalker import expnet, posevae
from models.sadtalker.expnet import ExpNet
from models.sadtalker.landmarks import FrontalLandmarks
from models.sadtalker.losses import critic_loss, expnet_losses, eye_ratio, posevae_losses, ratio_when_closed
from models.sadtalker.posevae import PoseDiscriminator, PoseVAE
from models.teachers.visemes import LABELLED
from pipeline.config import Section
from pipeline.features import Features
from pipeline.take import runs_of
from pipeline.trainables import TOTAL, Batch, Data, Networks, Preview, Sample, Turn

# Beginnings of names of movements.
LIPS = ("jaw", "pucker", "funnel", "press", "lips", "upper", "lower", "stretch", "smile")
LIDS = ("blink", "lid", "squint")
SHUT_RATIO = 0.25  # of the open eye's height: a blink ratio down here is a shut eye
OPEN_PERCENTILE = 75  # of the blink ratio over a row: how the eyes are when they are open


class ExpNetTrainable:
    """ExpNet: mel windows, a reference expression and a blink signal to expressions.

    The paper's teacher is a lip network run on a still picture, so that nothing but lips moves. Ours is the real face
    of the same moment, of which lips and lids are taken and the rest is the reference's: brows and cheeks, which the
    sound doesn't determine, stay where they were, and lids do what the blink signal says.
    """

    class Options(Section):
        """Settings."""

        size: Literal["paper", "small"] = Field(default="small", description="of the network")
        frames: int = Field(default=5, ge=1, le=250, description="consecutive frames of a sample")
        teacher: Literal["lips", "all"] = Field(
            default="lips", description="what is learned of the real face: lips and lids (open space only), or all"
        )
        learning_rate: float = Field(default=2e-5, gt=0, description="of Adam; the paper's is 2e-5")

    columns = ("expression", "eye_motion", "mel", "seen")
    average = 0.0
    batch = 32
    score = "lips"

    def __init__(self, options: Options, data: Data):
        if data.space != "open":
            raise ValueError(f"the features' space is '{data.space}': landmark losses know the open one only, so far")
        self._options = options
        self._keep = _span(OpenSpace.load(), (*LIPS, *LIDS)) if options.teacher == "lips" else np.eye(EXPRESSION)
        self.turns = {"expnet": Turn(("expnet",), options.learning_rate)}

    def build(self) -> dict[str, nn.Module]:
        """ "expnet", and "landmarks", which has no weights."""
        return {"expnet": ExpNet(**expnet.SIZES[self._options.size]), "landmarks": FrontalLandmarks(OpenSpace.load())}

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """Stretches without gaps, each with a reference of open eyes from anywhere in the row."""
        closure = closure_of(features["eye_motion"][:, 0])
        candidates = np.flatnonzero(features["seen"] & (closure < 0.2))
        if not len(candidates):
            return
        for start in _starts(features["seen"], self._options.frames, self._options.frames):
            part = slice(start, start + self._options.frames)
            reference = features["expression"][rng.choice(candidates)]
            yield {
                "mel": features["mel"][part],
                "expression": features["expression"][part],
                "reference": reference,
                "closure": closure[part],
            }

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Distillation, eyes and landmarks. Without a lip reader, which the user would bring, there is no read loss."""
        made, teacher, landmarks, ratio = self._made(networks, batch)
        return expnet_losses(made, teacher, landmarks=landmarks, eye_ratio_BT=ratio)

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Distillation, eyes, landmarks, and the mean error of the lips' landmarks in percent of the eye distance."""
        made, teacher, landmarks, ratio = self._made(networks, batch)
        parts = expnet_losses(made, teacher, landmarks=landmarks, eye_ratio_BT=ratio)
        ours, wanted = (points[:, :, 48:] for points in landmarks)
        eye_distance = (landmarks[1][..., 45, :] - landmarks[1][..., 36, :]).norm(dim=-1)
        lips = 100 * ((ours - wanted).norm(dim=-1).mean(-1) / eye_distance).mean()
        return {"lips": lips, **{name: value for name, value in parts.items() if name != TOTAL}}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """The row's sound and blinks on the face of its first frame; head and gaze are the real ones."""
        run = _longest(features["seen"])
        if run is None:
            return None
        device = next(networks["expnet"].parameters()).device
        frames = run.stop - run.start
        with torch.no_grad():
            made = networks["expnet"](
                torch.from_numpy(features["mel"][run].astype(np.float32))[:, None].to(device),
                torch.from_numpy(features["expression"][[run.start] * frames].copy()).to(device),
                torch.from_numpy(closure_of(features["eye_motion"][:, 0])[run].copy())[:, None].to(device),
            )
        expression = made.float().cpu().numpy()
        motion = Motion(features.origin.space, expression, features["pose"][run], features["gaze"][run])
        return Preview(run.start, motion)

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """expnet.safetensors, as `models.sadtalker.motion.SadTalkerMotion.load` wants it."""
        return {"expnet": dict(networks["expnet"].state_dict())}

    def _made(self, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
        """Generated and teacher's expression, both faces' landmarks, and what the eyes shall do."""
        mel_BTMS, real_BTE, reference_BE = (batch[name].float() for name in ("mel", "expression", "reference"))
        closure_BT = batch["closure"].float()
        frames = mel_BTMS.shape[1]
        reference_BTE = reference_BE[:, None].expand(-1, frames, -1)
        keep = torch.from_numpy(self._keep).to(real_BTE)
        teacher_BTE = reference_BTE + (real_BTE - reference_BTE) @ keep
        made_NE = networks["expnet"](
            mel_BTMS.flatten(0, 1)[:, None], reference_BTE.flatten(0, 1), closure_BT.flatten()[:, None]
        )
        made_BTE = made_NE.float().unflatten(0, (-1, frames))
        nobody = made_BTE.new_zeros(len(made_BTE), IDENTITY)
        place = networks["landmarks"]
        open_ratio_B = eye_ratio(place(nobody, reference_BTE[:, :1]))[:, 0]
        landmarks = place(nobody, made_BTE), place(nobody, teacher_BTE)
        return made_BTE, teacher_BTE, landmarks, ratio_when_closed(open_ratio_B, closure_BT)


class PoseVAETrainable:
    """PoseVAE: sound, style and noise to half a second and more of head motion, with a critic."""

    class Options(Section):
        """Settings."""

        size: Literal["paper", "small"] = Field(default="small", description="of the network")
        stride: int = Field(default=8, ge=1, description="frames from one sample to the next")
        learning_rate: float = Field(default=1e-4, gt=0, description="of Adam, both turns; the paper's is 1e-4")

    columns = ("pose", "mel", "seen")
    average = 0.0
    batch = 64
    score = "reconstruction"

    def __init__(self, options: Options, data: Data):
        self._options, self._styles = options, max(1, data.styles)
        rate = options.learning_rate
        self.turns = {"critic": Turn(("critic",), rate), "posevae": Turn(("posevae",), rate)}

    def build(self) -> dict[str, nn.Module]:
        """ "posevae" and "critic"."""
        size: dict[str, Any] = dict(posevae.SIZES[self._options.size])
        widths = size.pop("critic", (256, 512, 1024))
        return {
            "posevae": PoseVAE(**size, styles=self._styles, critic=None),
            "critic": PoseDiscriminator(widths),
        }

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """A reference frame and the chunk after it; speakers of other splits borrow a style."""
        if features.origin.speaker.startswith(LABELLED):
            return  # its head doesn't move
        style = features.origin.style if features.origin.style >= 0 else features.origin.identity % self._styles
        for start in _starts(features["seen"], 1 + posevae.CHUNK, self._options.stride):
            part = slice(start + 1, start + 1 + posevae.CHUNK)
            first = features["pose"][start]
            yield {
                "mel": features["mel"][part],
                "start": first,
                "change": features["pose"][part] - first,
                "style": np.array(style, np.int64),
            }

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The critic's, or those of the autoencoder with the critic's opinion."""
        if turn == "critic":
            with torch.no_grad():
                made, _, _ = self._made(networks, batch, generator)
            critic = networks["critic"]
            return {TOTAL: critic_loss(critic(batch["change"]), critic(made.detach()))}
        made, mean, log_variance = self._made(networks, batch, generator)
        return posevae_losses(
            made.float(), batch["change"], mean.float(), log_variance.float(), networks["critic"](made)
        )

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and divergence, and how lively motion from noise is: its spread over the real one's."""
        made, mean, log_variance = self._made(networks, batch, generator)
        parts = posevae_losses(made.float(), batch["change"], mean.float(), log_variance.float())
        free = self._decoded(networks, batch, torch.randn(mean.shape, generator=generator, device=mean.device))
        spread = free.float().std(1).mean() / batch["change"].std(1).mean().clamp_min(1e-6)
        return {"spread": spread, **{name: value for name, value in parts.items() if name != TOTAL}}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """A head motion from noise for the row's first chunk; face and gaze are the real ones."""
        starts = _starts(features["seen"], 1 + posevae.CHUNK, 1)
        if not starts:
            return None
        device = next(networks["posevae"].parameters()).device
        part = slice(starts[0] + 1, starts[0] + 1 + posevae.CHUNK)
        first = features["pose"][starts[0]]
        batch = {
            "mel": torch.from_numpy(features["mel"][part].copy())[None].to(device),
            "start": torch.from_numpy(first.copy())[None].to(device),
            "style": torch.zeros(1, dtype=torch.int64, device=device),
        }
        latent = torch.Generator().manual_seed(0)
        with torch.no_grad():
            noise = torch.randn(1, networks["posevae"].latent, generator=latent).to(device)  # pyright: ignore
            change = self._decoded(networks, batch, noise)[0].float().cpu().numpy()
        motion = Motion(features.origin.space, features["expression"][part], first + change, features["gaze"][part])
        return Preview(part.start, motion)

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """posevae.safetensors, as `models.sadtalker.motion.SadTalkerMotion.load` wants it, critic included."""
        critic = {f"netD_motion.{name}": tensor for name, tensor in networks["critic"].state_dict().items()}
        return {"posevae": {**networks["posevae"].state_dict(), **critic}}

    def _made(self, networks: Networks, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        network: Any = networks["posevae"]
        noise = torch.randn(len(batch["start"]), network.latent, generator=generator, device=batch["start"].device)
        return network(batch["change"], batch["start"], self._embedded(network, batch), batch["style"], noise)

    def _decoded(self, networks: Networks, batch: Batch, latent_BZ: Tensor) -> Tensor:
        network: Any = networks["posevae"]
        heard = network.decoder.linear_audio(self._embedded(network, batch))
        return network.decoder(batch["start"], latent_BZ, heard, batch["style"])

    def _embedded(self, network: Any, batch: Batch) -> Tensor:
        mel_BTMS = batch["mel"].float()
        return network.embed(mel_BTMS.flatten(0, 1)[:, None]).unflatten(0, mel_BTMS.shape[:2])


def closure_of(blink_ratio: np.ndarray) -> np.ndarray:
    """How far the lids are shut, 0 open to 1 shut, from blink ratios (T,); gaps count as open. float32, shape (T,)."""
    seen = np.isfinite(blink_ratio)
    if not seen.any():
        return np.zeros(len(blink_ratio), np.float32)
    usual = np.percentile(blink_ratio[seen], OPEN_PERCENTILE)
    closure = (1 - blink_ratio / max(usual, 1e-6)) / (1 - SHUT_RATIO)
    return np.nan_to_num(closure).clip(0, 1).astype(np.float32)


def _starts(seen: np.ndarray, frames: int, stride: int) -> list[int]:
    """First frames of stretches without gaps."""
    return [start for run in runs_of(seen) for start in range(run.start, run.stop - frames + 1, stride)]


def _longest(seen: np.ndarray) -> slice | None:
    return max(runs_of(seen), key=lambda run: run.stop - run.start, default=None)


def _span(space: OpenSpace, beginnings: tuple[str, ...]) -> np.ndarray:
    """Projection (64, 64) of expressions onto the movements whose names begin so."""
    names = [name for name in space.direction_names if name.startswith(beginnings)]
    basis = np.linalg.qr(np.stack([space.direction(name) for name in names], 1))[0]
    return (basis @ basis.T).astype(np.float32)
