"""How PoseVAE learns from features of talking videos (SadTalker, 3.2; supplement, B.3).

Legend: B samples, T frames, M S mel bands and steps, P pose.
"""

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.interfaces import Motion
from models.sadtalker import expnet, posevae
from models.sadtalker.expnet import ExpNet
from models.sadtalker.hearing import hear
from models.sadtalker.losses import PoseWeights, critic_loss, posevae_losses
from models.sadtalker.posevae import PoseDiscriminator, PoseVAE
from models.teachers.visemes import LABELLED
from pipeline.config import Section
from pipeline.features import Features
from pipeline.take import longest_run, runs_of
from pipeline.trainables import TOTAL, Batch, Data, Networks, Preview, Sample, Turn, halved

EMBEDDED = "embedded"  # what frozen ears make of mel windows
# What heads do in a second, radians and model units: one of each weighs the same in what PoseVAE learns.
USUAL_CHANGE = np.array([0.06, 0.07, 0.04, 0.09, 0.08, 0.01], np.float32)
# What the poses of two moments of somebody who speaks differ by, root mean square, in videos that were trained on.
MOMENTS_APART = np.array([0.084, 0.085, 0.057, 0.124, 0.113, 0.011], np.float32)
FADED = 1.08  # what fading chunks into each other and smoothing takes from that
LATENTS = 32  # per style, to know how much heads move


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
            description="file or URI of a trained ExpNet whose audio encoder is taken as it is, as the published "
            "program does with another one's, which saves nearly all of the work; default: an own one, learning along",
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
        self._options, self._styles, self._fetch = options, max(1, data.styles), data.fetch
        self._weights = PoseWeights(divergence=options.divergence, adversarial=options.adversarial)
        rate = options.learning_rate
        self.turns = {"critic": Turn(("critic",), rate), "posevae": Turn(("posevae",), rate)}

    def build(self) -> dict[str, nn.Module]:
        """ "posevae" and "critic"."""
        size: dict[str, Any] = dict(posevae.SIZES[self._options.size])
        widths = size.pop("critic", (256, 512, 1024))
        if self._options.expnet:
            size |= expnet.sizes_of(self._listener.state_dict())
        network = PoseVAE(**size, styles=self._styles, critic=None)
        if self._options.expnet:
            network.audio_encoder["audio_encoder"] = copy.deepcopy(self._listener.audio_encoder)
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

    @cached_property
    def _listener(self) -> ExpNet:
        """The trained ExpNet that is listened through."""
        return ExpNet.load(self._fetch(str(self._options.expnet)))

    def _listened(self, features: Features, run: slice) -> tuple[str, np.ndarray]:
        """What is kept of a stretch's sound, by its name in a batch: mel windows, or what frozen ears make of them."""
        heard = hear(features["mel"][run].astype(np.float32))
        if not self._options.expnet:
            return "mel", heard.astype(np.float16)
        with torch.no_grad():
            embedded = self._listener.audio_encoder(torch.from_numpy(heard)[:, None])
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
