"""How SadTalker's motion networks learn from features of talking videos (SadTalker, 3; supplement, B.3).

Both hear a voice against its own habit (`models.sadtalker.hearing`): what a room, a microphone or a voice adds is gone
before they listen.

Legend: B samples, T frames, M S mel bands and steps, E expression, P pose.
"""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.articulator.hearing import Habit
from models.articulator.lip_basis import LipBasis
from models.facespace.open import OpenSpace
from models.interfaces import EXPRESSION, FPS, IDENTITY, Motion
from models.sadtalker import expnet, posevae
from models.sadtalker.expnet import ExpNet
from models.sadtalker.hearing import compare
from models.sadtalker.landmarks import FrontalLandmarks
from models.sadtalker.losses import (
    ExpNetWeights,
    PoseWeights,
    critic_loss,
    expnet_losses,
    eye_ratio,
    posevae_losses,
    ratio_when_closed,
)
from models.sadtalker.posevae import PoseDiscriminator, PoseVAE
from models.teachers.visemes import LABELLED
from pipeline.articulator_training import (
    Alike,
    LabelledGain,
    correlation,
    in_another_room,
    in_another_voice,
    scores,
)
from pipeline.config import Section
from pipeline.features import Features
from pipeline.take import longest_run, runs_of
from pipeline.trainables import TOTAL, Batch, Data, Networks, Preview, Sample, Turn, halved

LIDS = ("blink", "lid", "squint")  # beginnings of names of movements
SHUT_RATIO = 0.25  # of the open eye's height: a blink ratio down here is a shut eye
OPEN_PERCENTILE = 75  # of the blink ratio over a row: how the eyes are when they are open
OPEN_EYES = 0.2  # largest closure of a reference
LEAST_FRAMES = FPS  # of a stretch, to know where its lips are on average
# With the paper's weights the lids, of which a sound says nothing, drown the lips where there is little to learn from.
WEIGHTS = ExpNetWeights(distill=1000.0, landmarks=0.2, eyes=10.0)
EMBEDDED = "embedded"  # what frozen ears make of mel windows
# What heads do in a second, radians and model units: one of each weighs the same in what PoseVAE learns.
USUAL_CHANGE = np.array([0.06, 0.07, 0.04, 0.09, 0.08, 0.01], np.float32)
# What the poses of two moments of somebody who speaks differ by, root mean square, in videos that were trained on.
MOMENTS_APART = np.array([0.084, 0.085, 0.057, 0.124, 0.113, 0.011], np.float32)
FADED = 1.08  # what fading chunks into each other and smoothing takes from that
LATENTS = 32  # per style, to know how much heads move


class ExpNetTrainable:
    """ExpNet: mel windows, a reference expression and a blink signal to expressions.

    The paper's teacher is a lip network run on a still picture, so that nothing but lips moves. Ours is made of what is
    known of the same moment: lips move about the reference's as the real ones, or those of labelled speech, do about
    their mean; lids are the real ones, which the blink signal tells; brows and cheeks, which the sound doesn't
    determine, stay the reference's. What a face wears at rest is thereby taken out.
    """

    class Options(Section):
        """Settings."""

        size: Literal["paper", "small"] = Field(default="small", description="of the network")
        frames: int = Field(default=FPS, ge=2, le=250, description="consecutive frames of a sample")
        teacher: Literal["lips", "all"] = Field(
            default="lips", description="what the sound moves: lips, or brows and cheeks as well"
        )
        labelled_gain: LabelledGain = 2.0
        noise: float = Field(default=0.3, ge=0, description="added to what is heard, standard deviations of a band")
        alike: Alike = 3.0
        voices: int = Field(
            default=2, ge=0, description="other voices, each in a room of its own, that a real stretch is heard in"
        )
        dropped: float = Field(default=0.3, ge=0, lt=1, description="share of the sound's vector left out in training")
        learning_rate: float = Field(
            default=2e-3, gt=0, description="of AdamW, at its highest; the paper's, of Adam on far more data, is 2e-5"
        )

    columns = ("expression", "eye_motion", "mel", "seen")
    average = 0.99
    clip = 1.0
    batch = 8
    score = "missed"

    def __init__(self, options: Options, data: Data):
        if data.space != "open":
            raise ValueError(f"the features' space is '{data.space}': landmark losses know the open one only, so far")
        self._options = options
        self._lids = _span(OpenSpace.load(), LIDS)
        everything, basis = np.eye(EXPRESSION), LipBasis.load()
        lips = basis.expression(basis.coordinates(everything))
        self._ways = torch.from_numpy(basis.said(basis.coordinates(everything)).astype(np.float32))
        self._heeded = (lips if options.teacher == "lips" else everything - self._lids).astype(np.float32)
        self.turns = {"expnet": Turn(("expnet",), options.learning_rate, weight_decay=0.03)}

    def build(self) -> dict[str, nn.Module]:
        """ "expnet", which begins by keeping the reference, and "landmarks", which has no weights."""
        network = ExpNet(**expnet.SIZES[self._options.size], dropped=self._options.dropped)
        network.keep_reference()
        return {"expnet": network, "landmarks": FrontalLandmarks(OpenSpace.load())}

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """Stretches without gaps, each with a reference of open eyes from anywhere in the row.

        Real speakers are heard as they are and as others in other rooms, labelled ones as one other: they are to be
        heard less.
        """
        labelled, learned = features.origin.speaker.startswith(LABELLED), features.origin.split == "train"
        closure = closure_of(features["eye_motion"][:, 0])
        candidates = np.flatnonzero(features["seen"] & (closure < OPEN_EYES))
        if not len(candidates) or (labelled and not learned):
            return
        windows = features["mel"].astype(np.float32)
        others = 1 if labelled else self._options.voices if learned else 0
        rooms = [] if labelled else [windows]
        rooms += [in_another_room(in_another_voice(windows, rng), rng) for _ in range(others)]
        gain = self._options.labelled_gain if labelled else 1.0
        for run in runs_of(features["seen"]):
            if run.stop - run.start < LEAST_FRAMES:
                continue
            real = features["expression"][run]
            moved = gain * (real - real.mean(0)) @ self._heeded
            for room in rooms:
                heard = compare(room[run], Habit.of_windows(room[run])).astype(np.float16)
                for start in range(0, len(real) - self._options.frames + 1, self._options.frames):
                    part = slice(start, start + self._options.frames)
                    reference = features["expression"][rng.choice(candidates)]
                    yield {
                        "mel": heard[part],
                        "reference": reference,
                        "change": (moved[part] + (real[part] - reference) @ self._lids).astype(np.float32),
                        "closure": closure[run][part],
                    }

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Distillation, eyes and landmarks, and how unlike opening and width are, as the articulator's are compared.

        Without a lip reader, which the user would bring, there is no read loss.
        """
        mel_BTMS = batch["mel"].float()
        noise = torch.randn(mel_BTMS.shape, generator=generator, device=mel_BTMS.device)
        made, teacher, landmarks, ratio = self._made(networks, batch, mel_BTMS + self._options.noise * noise)
        parts = expnet_losses(made, teacher, landmarks=landmarks, eye_ratio_BT=ratio, weights=WEIGHTS)
        unlike = 1 - self._alike(batch, made, teacher).mean()
        return {**parts, TOTAL: parts[TOTAL] + self._options.alike * unlike, "unlike": unlike}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Correlations of opening and width with the real ones, what both miss to 1 on average, and the losses' parts.

        Besides, the mean error of the lips' landmarks in percent of the eye distance.
        """
        made, teacher, landmarks, ratio = self._made(networks, batch, batch["mel"].float())
        parts = expnet_losses(made, teacher, landmarks=landmarks, eye_ratio_BT=ratio)
        ours, wanted = (points[:, :, 48:] for points in landmarks)
        eye_distance = (landmarks[1][..., 45, :] - landmarks[1][..., 36, :]).norm(dim=-1)
        lips = 100 * ((ours - wanted).norm(dim=-1).mean(-1) / eye_distance).mean()
        alike = scores(self._alike(batch, made, teacher))
        return {**alike, "lips": lips, **{k: value for k, value in parts.items() if k != TOTAL}}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """The row's sound and blinks on the face of its first frame; head and gaze are the real ones."""
        run = longest_run(features["seen"])
        if run is None:
            return None
        device = next(networks["expnet"].parameters()).device
        frames = run.stop - run.start
        with torch.no_grad():
            made = networks["expnet"](
                torch.from_numpy(_heard(features, run))[:, None].to(device),
                torch.from_numpy(features["expression"][[run.start] * frames].copy()).to(device),
                torch.from_numpy(closure_of(features["eye_motion"][:, 0])[run].copy())[:, None].to(device),
            )
        expression = made.float().cpu().numpy()
        motion = Motion(features.origin.space, expression, features["pose"][run], features["gaze"][run])
        return Preview(run.start, motion)

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """expnet.safetensors, in half precision, as `models.sadtalker.motion.SadTalkerMotion.load` wants it."""
        return {"expnet": halved(networks["expnet"].state_dict())}

    def _made(
        self, networks: Networks, batch: Batch, mel_BTMS: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
        """Generated and teacher's expression, both faces' landmarks, and what the eyes shall do."""
        reference_BE, closure_BT = batch["reference"].float(), batch["closure"].float()
        frames = mel_BTMS.shape[1]
        reference_BTE = reference_BE[:, None].expand(-1, frames, -1)
        teacher_BTE = reference_BTE + batch["change"].float()
        made_NE = networks["expnet"](
            mel_BTMS.flatten(0, 1)[:, None], reference_BTE.flatten(0, 1), closure_BT.flatten()[:, None]
        )
        made_BTE = made_NE.float().unflatten(0, (-1, frames))
        nobody = made_BTE.new_zeros(len(made_BTE), IDENTITY)
        place = networks["landmarks"]
        open_ratio_B = eye_ratio(place(nobody, reference_BTE[:, :1]))[:, 0]
        landmarks = place(nobody, made_BTE), place(nobody, teacher_BTE)
        return made_BTE, teacher_BTE, landmarks, ratio_when_closed(open_ratio_B, closure_BT)

    def _alike(self, batch: Batch, made_BTE: Tensor, teacher_BTE: Tensor) -> Tensor:
        """Correlations of what lips alone do to opening and width over each sample, shape (B, 2)."""
        reference_B1E = batch["reference"][:, None]
        made_BT2, wanted_BT2 = ((x - reference_B1E) @ self._ways.to(x) for x in (made_BTE, teacher_BTE))
        return correlation(made_BT2, wanted_BT2, torch.ones_like(batch["closure"], dtype=torch.bool))


class PoseVAETrainable:
    """PoseVAE: sound, style and noise to half a second and more of head motion, with a critic.

    The reference is any frame of the row, not the one before the chunk: a portrait is any moment of its person, and
    every chunk of a clip is told apart from it (`models.sadtalker.chunks`).
    """

    class Options(Section):
        """Settings."""

        size: Literal["paper", "small"] = Field(default="small", description="of the network")
        expnet: str | None = Field(
            default=None,
            description="file of a trained ExpNet whose audio encoder is taken as it is, as the published program does "
            "with another one's, which saves nearly all of the work; default: an own one, which learns along",
        )
        stride: int = Field(default=4, ge=1, description="frames from one sample to the next")
        divergence: float = Field(
            default=0.003,
            ge=0,
            description="weight of the latent's divergence from the normal distribution against the reconstruction, of "
            "which a chunk's usual change is 1 per number; at the paper's 1, of other units, every head stands still",
        )
        adversarial: float = Field(default=0.1, ge=0, description="weight of the critic's opinion; the paper's is 0.7")
        learning_rate: float = Field(default=1e-3, gt=0, description="of Adam, both turns; the paper's is 1e-4")

    columns = ("pose", "mel", "seen")
    average = 0.99
    clip = 1.0
    batch = 16
    score = "reconstruction"

    def __init__(self, options: Options, data: Data):
        self._options, self._styles = options, max(1, data.styles)
        self._weights = PoseWeights(divergence=options.divergence, adversarial=options.adversarial)
        rate = options.learning_rate
        self.turns = {"critic": Turn(("critic",), rate), "posevae": Turn(("posevae",), rate)}

    def build(self) -> dict[str, nn.Module]:
        """ "posevae" and "critic"."""
        size: dict[str, Any] = dict(posevae.SIZES[self._options.size])
        widths = size.pop("critic", (256, 512, 1024))
        if self._options.expnet:
            listener = _listener(self._options.expnet)
            size |= expnet.sizes_of(listener.state_dict())
        network = PoseVAE(**size, styles=self._styles, critic=None)
        if self._options.expnet:
            network.audio_encoder["audio_encoder"] = copy.deepcopy(listener.audio_encoder)
        return {"posevae": network, "critic": PoseDiscriminator(widths)}

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """Chunks without gaps, each with a reference from anywhere in the row.

        Speakers of other splits borrow a style.
        """
        if features.origin.speaker.startswith(LABELLED):
            return  # its head doesn't move
        style = features.origin.style if features.origin.style >= 0 else features.origin.identity % self._styles
        candidates = np.flatnonzero(features["seen"])
        for run in runs_of(features["seen"]):
            if run.stop - run.start < posevae.CHUNK:
                continue
            sound, heard = self._listened(features, run)
            for start in range(0, len(heard) - posevae.CHUNK + 1, self._options.stride):
                part = slice(start, start + posevae.CHUNK)
                reference = features["pose"][rng.choice(candidates)]
                yield {
                    sound: heard[part],
                    "start": reference,
                    "change": features["pose"][run][part] - reference,
                    "style": np.array(style, np.int64),
                }

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The critic's, or those of the autoencoder with the critic's opinion."""
        real = self._in_units(batch["change"])
        if turn == "critic":
            with torch.no_grad():
                made, _, _ = self._made(networks, batch, generator)
            critic = networks["critic"]
            return {TOTAL: critic_loss(critic(real), critic(made.detach()))}
        made, mean, log_variance = self._made(networks, batch, generator)
        scores = networks["critic"](made)
        return posevae_losses(made, real, mean.float(), log_variance.float(), scores, self._weights)

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction and divergence, and how lively motion from noise is: its spread over the real one's."""
        made, mean, log_variance = self._made(networks, batch, generator)
        parts = posevae_losses(made, self._in_units(batch["change"]), mean.float(), log_variance.float())
        free = self._decoded(networks, batch, torch.randn(mean.shape, generator=generator, device=mean.device))
        spread = free.float().std(1).mean() / batch["change"].std(1).mean().clamp_min(1e-6)
        return {"spread": spread, **{name: value for name, value in parts.items() if name != TOTAL}}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """A head motion from noise for the row's first chunk; face and gaze are the real ones."""
        run = longest_run(features["seen"])
        if run is None or run.stop - run.start < posevae.CHUNK:
            return None
        device = next(networks["posevae"].parameters()).device
        part = slice(run.start, run.start + posevae.CHUNK)
        first = features["pose"][run.start]
        sound, heard = self._listened(features, run)
        batch = {
            sound: torch.from_numpy(heard[: posevae.CHUNK])[None].to(device),
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
        """posevae.safetensors, in half precision, as `models.sadtalker.motion.SadTalkerMotion.load` wants it.

        Calibrated (`steady_and_lively`), without the critic, which has done its work.
        """
        return {"posevae": halved(steady_and_lively(networks["posevae"]))}

    def _made(self, networks: Networks, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The change again, in usual ones, and mean and logarithm of the variance of the latent."""
        network: Any = networks["posevae"]
        noise = torch.randn(len(batch["start"]), network.latent, generator=generator, device=batch["start"].device)
        made, mean, log_variance = network(
            batch["change"], batch["start"], self._embedded(network, batch), batch["style"], noise
        )
        return self._in_units(made), mean, log_variance

    @staticmethod
    def _in_units(change_BTP: Tensor) -> Tensor:
        """A change of the pose in usual ones."""
        return change_BTP.float() / torch.from_numpy(USUAL_CHANGE).to(change_BTP.device)

    def _decoded(self, networks: Networks, batch: Batch, latent_BZ: Tensor) -> Tensor:
        network: Any = networks["posevae"]
        heard = network.decoder.linear_audio(self._embedded(network, batch))
        return network.decoder(batch["start"], latent_BZ, heard, batch["style"])

    def _embedded(self, network: Any, batch: Batch) -> Tensor:
        if EMBEDDED in batch:
            return batch[EMBEDDED].float()
        mel_BTMS = batch["mel"].float()
        return network.embed(mel_BTMS.flatten(0, 1)[:, None]).unflatten(0, mel_BTMS.shape[:2])

    def _listened(self, features: Features, run: slice) -> tuple[str, np.ndarray]:
        """What is kept of a stretch's sound, by its name in a batch: mel windows, or what frozen ears make of them."""
        heard = _heard(features, run)
        if not self._options.expnet:
            return "mel", heard.astype(np.float16)
        with torch.no_grad():
            embedded = _listener(self._options.expnet).audio_encoder(torch.from_numpy(heard)[:, None])
        return EMBEDDED, embedded.numpy()


@torch.no_grad()
def steady_and_lively(network: Any) -> dict[str, Tensor]:
    """A trained PoseVAE's state dict, whose last layer is set so that heads move as much as people's.

    What an autoencoder makes of noise is calmer than what it learned from, and its mean is somebody's habit. Over all
    styles and many latents, the change shall be 0 on average and spread so that a clip's is as `MOMENTS_APART`.
    """
    network = copy.deepcopy(network).eval()
    last, styles = network.decoder.pose_linear, torch.arange(network.styles).repeat_interleave(LATENTS)
    latents = torch.randn(len(styles), network.latent, generator=torch.Generator().manual_seed(0))
    device = last.weight.device
    nothing = torch.zeros(1, network.chunk, network.decoder.linear_audio.in_features, device=device)
    heard = network.decoder.linear_audio(nothing).expand(len(styles), -1, -1)
    straight = torch.zeros(len(styles), len(USUAL_CHANGE), device=device)
    change = network.decoder(straight, latents.to(device), heard, styles.to(device)).flatten(0, 1)
    gain = FADED * torch.from_numpy(MOMENTS_APART).to(device) / change.std(0)
    last.weight.mul_(gain[:, None])
    last.bias.copy_(gain * (last.bias - change.mean(0)))
    return network.state_dict()


@cache
def _listener(path: str) -> ExpNet:
    """A trained ExpNet, read once per process."""
    return ExpNet.load(Path(path))


def closure_of(blink_ratio: np.ndarray) -> np.ndarray:
    """How far the lids are shut, 0 open to 1 shut, from blink ratios (T,); gaps count as open. float32, shape (T,)."""
    seen = np.isfinite(blink_ratio)
    if not seen.any():
        return np.zeros(len(blink_ratio), np.float32)
    usual = np.percentile(blink_ratio[seen], OPEN_PERCENTILE)
    closure = (1 - blink_ratio / max(usual, 1e-6)) / (1 - SHUT_RATIO)
    return np.nan_to_num(closure).clip(0, 1).astype(np.float32)


def _span(space: OpenSpace, beginnings: tuple[str, ...]) -> np.ndarray:
    """Projection (64, 64) of expressions onto the movements whose names begin so."""
    names = [name for name in space.direction_names if name.startswith(beginnings)]
    basis = np.linalg.qr(np.stack([space.direction(name) for name in names], 1))[0]
    return (basis @ basis.T).astype(np.float32)


def _heard(features: Features, run: slice) -> np.ndarray:
    """Mel windows of a stretch as the networks hear them, float32, shape (frames, 80, 16)."""
    windows = features["mel"][run].astype(np.float32)
    return compare(windows, Habit.of_windows(windows))
