"""PoseVAE: head motion that suits a voice and a style (SadTalker, 3.2; supplement, B.2 and B.5).

A conditional variational autoencoder of 32 frames: how far the head is from where it is in the portrait. Both halves
pass their sequence through a small residual U-Net over time x the six numbers of a pose. Names are those of the
published files; the encoder and the discriminator are needed for training only.

Legend: B chunks, T frames, N frames of any chunks, A numbers heard per frame, P pose (pitch, yaw, roll in radians,
three translations), Z latent.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import fill, read_state
from models.errors import WeightsError
from models.interfaces import POSE
from models.sadtalker.audio_encoder import PAPER_CHANNELS, TINY_CHANNELS, AudioEncoder

CHUNK = 32  # frames of a chunk
STYLES = 46  # speakers of the published training data, each a style

# Arguments of `PoseVAE` by name.
SIZES = {
    "paper": {},
    "small": {
        "channels": TINY_CHANNELS,
        "filters": (8, 16, 32, 64),
        "latent": 16,
        "encoder_hidden": (64,),
        "decoder_hidden": (64,),
        "critic": (64, 128, 256),
    },
}


class PoseVAE(nn.Module):
    """The audio encoder, both halves of the autoencoder, and the critic of its training.

    Args:
        channels: of the audio encoder's stages.
        heard: numbers that are kept per frame of what the audio encoder hears.
        chunk: frames; the U-Net halves them three times.
        styles: rows of the style tables.
        latent: length of the latent and of a style's vector.
        encoder_hidden, decoder_hidden: widths between a half's input and its output.
        filters: of the U-Net's four levels.
        critic: widths of the discriminator's convolutions; None leaves it out.
        official: as the published weights were trained: the logarithm of the variance is computed by the mean's
            layer and therefore equals the mean. Otherwise it has its own layer, which published files hold unused.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...] = PAPER_CHANNELS,
        heard: int = 6,
        chunk: int = CHUNK,
        styles: int = STYLES,
        latent: int = 64,
        encoder_hidden: tuple[int, ...] = (128,),
        decoder_hidden: tuple[int, ...] = (128,),
        filters: tuple[int, int, int, int] = (32, 64, 128, 256),
        critic: tuple[int, ...] | None = (256, 512, 1024),
        official: bool = False,
    ):
        super().__init__()
        self.chunk, self.latent, self.styles = chunk, latent, styles
        shared = {
            "embedding": channels[-1],
            "heard": heard,
            "chunk": chunk,
            "styles": styles,
            "latent": latent,
            "filters": filters,
        }
        self.audio_encoder = nn.ModuleDict({"audio_encoder": AudioEncoder(channels)})  # the published files nest it
        encoder = PoseEncoder(**shared, hidden=encoder_hidden, tied=official)
        self.netG = nn.ModuleDict({"encoder": encoder, "decoder": PoseDecoder(**shared, hidden=decoder_hidden)})
        if critic is not None:
            self.netD_motion = PoseDiscriminator(critic)

    @classmethod
    def load(cls, path: Path, prefix: str = "", *, official: bool = False) -> "PoseVAE":
        """A network of any size from its weights, for inference.

        Args:
            path: safetensors, or a training checkpoint with the state dict "model".
            prefix: of its names in a file with several networks.
            official: as above.
        Raises:
            WeightsError: the file is damaged, or of another network.
        """
        state = read_state(path, "model", prefix)
        try:
            network = cls(**sizes_of(state), official=official)
        except KeyError as error:
            raise WeightsError(path, f"is not a checkpoint of PoseVAE: {error} is missing") from error
        fill(network, state, path)
        return network

    @property
    def encoder(self) -> "PoseEncoder":
        return self.netG["encoder"]  # pyright: ignore[reportReturnType]

    @property
    def decoder(self) -> "PoseDecoder":
        return self.netG["decoder"]  # pyright: ignore[reportReturnType]

    def embed(self, mel_N1MS: Tensor) -> Tensor:
        """Mel windows in -4 .. 4, shape (N, 1, 80, 16), to vectors, shape (N, embedding)."""
        return self.audio_encoder["audio_encoder"](mel_N1MS)

    def hear(self, mel_N1MS: Tensor) -> Tensor:
        """Mel windows, shape (N, 1, 80, 16), to all that the decoder knows of them, shape (N, heard)."""
        return self.decoder.linear_audio(self.embed(mel_N1MS))

    def forward(
        self, change_BTP: Tensor, start_BP: Tensor, embedding_BTA: Tensor, style_B: Tensor, noise_BZ: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pass a head motion through both halves, as in training.

        Args:
            change_BTP: pose minus the start's, shape (B, chunk, 6).
            start_BP: pose of the reference frame, shape (B, 6).
            embedding_BTA: from `embed`, shape (B, chunk, embedding).
            style_B: rows of the style tables, int64, shape (B,).
            noise_BZ: standard normal, shape (B, latent).
        Returns:
            The change again, shape (B, chunk, 6), and mean and logarithm of the variance of the latent, (B, latent).
        """
        mean_BZ, log_variance_BZ = self.encoder(change_BTP, start_BP, embedding_BTA, style_B)
        latent_BZ = mean_BZ + noise_BZ * (log_variance_BZ / 2).exp()
        heard = self.decoder.linear_audio(embedding_BTA)
        return self.decoder(start_BP, latent_BZ, heard, style_B), mean_BZ, log_variance_BZ


class PoseEncoder(nn.Module):
    """A head motion, the sound and the style to the distribution of the latent. Arguments as in `PoseVAE`.

    Args:
        embedding: length of the audio encoder's vectors.
        hidden: widths between input and output.
        tied: whether the variance is computed by the mean's layer.
    """

    def __init__(
        self,
        *,
        embedding: int,
        heard: int,
        chunk: int,
        styles: int,
        latent: int,
        hidden: tuple[int, ...],
        filters: tuple[int, int, int, int],
        tied: bool,
    ):
        super().__init__()
        self._tied = tied
        self.resunet = PoseUNet(filters)
        self.linear_audio = nn.Linear(embedding, heard)
        self.classbias = nn.Parameter(torch.randn(styles, latent))
        self.MLP = _layers((POSE + chunk * (POSE + heard) + latent, *hidden))
        self.linear_means = nn.Linear(hidden[-1], latent)
        self.linear_logvar = nn.Linear(hidden[-1], latent)

    def forward(
        self, change_BTP: Tensor, start_BP: Tensor, embedding_BTA: Tensor, style_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent, shape (B, latent) each; arguments as in `PoseVAE`."""
        motion = self.resunet(change_BTP[:, None]).flatten(1)
        heard = self.linear_audio(embedding_BTA).flatten(1)
        x = torch.cat([start_BP, motion, heard, self.classbias[style_B]], dim=1)
        for layer in self.MLP.children():
            x = layer(x).relu()
        return self.linear_means(x), (self.linear_means if self._tied else self.linear_logvar)(x)


class PoseDecoder(nn.Module):
    """A latent, the sound and the style to a head motion. Arguments as in `PoseVAE` and `PoseEncoder`."""

    def __init__(
        self,
        *,
        embedding: int,
        heard: int,
        chunk: int,
        styles: int,
        latent: int,
        hidden: tuple[int, ...],
        filters: tuple[int, int, int, int],
    ):
        super().__init__()
        self._chunk = chunk
        self.resunet = PoseUNet(filters)
        self.linear_audio = nn.Linear(embedding, heard)
        self.classbias = nn.Parameter(torch.randn(styles, latent))
        self.MLP = _layers((POSE + latent + chunk * heard, *hidden, chunk * POSE))
        self.pose_linear = nn.Linear(POSE, POSE)

    def forward(self, start_BP: Tensor, latent_BZ: Tensor, heard_BTA: Tensor, style_B: Tensor) -> Tensor:
        """Pose minus the start's, shape (B, chunk, 6).

        Args:
            start_BP: pose of the reference frame, shape (B, 6).
            latent_BZ: standard normal, shape (B, latent).
            heard_BTA: what `linear_audio` keeps of the sound, shape (B, chunk, heard).
            style_B: rows of the style table, int64, shape (B,).
        """
        x = torch.cat([start_BP, latent_BZ + self.classbias[style_B], heard_BTA.flatten(1)], dim=1)
        *inner, last = self.MLP.children()
        for layer in inner:
            x = layer(x).relu()
        motion = last(x).sigmoid().reshape(-1, 1, self._chunk, POSE)
        return self.pose_linear(self.resunet(motion)[:, 0])


class PoseDiscriminator(nn.Module):
    """Which stretches of a head motion look real: a PatchGAN over time (Isola et al., 2017; Ginosar et al., 2019).

    Args:
        widths: of the convolutions before the last; the first two halve the time.
    """

    def __init__(self, widths: tuple[int, ...] = (256, 512, 1024)):
        super().__init__()
        blocks = [
            _Patch(inside, outside, *((4, 2) if k < 2 else (3, 1)))
            for k, (inside, outside) in enumerate(pairwise((POSE, *widths)))
        ]
        self.seq = nn.Sequential(*blocks, nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, motion_BTP: Tensor) -> Tensor:
        """Scores of a motion, shape (B, T, 6), over time; real ones are trained to be 1; shape (B, T / 4)."""
        return self.seq(motion_BTP.transpose(1, 2))[:, 0]


class _Patch(nn.Module):
    def __init__(self, inside: int, outside: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, kernel, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


class PoseUNet(nn.Module):
    """A residual U-Net over the plane of time x pose numbers; only time is halved.

    Args:
        filters: of the four levels.
    """

    def __init__(self, filters: tuple[int, int, int, int] = (32, 64, 128, 256)):
        super().__init__()
        a, b, c, d = filters
        self.input_layer = nn.Sequential(
            nn.Conv2d(1, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, a, 3, padding=1)
        )
        self.input_skip = nn.Sequential(nn.Conv2d(1, a, 3, padding=1))
        self.residual_conv_1 = _Residual(a, b, stride=2)
        self.residual_conv_2 = _Residual(b, c, stride=2)
        self.bridge = _Residual(c, d, stride=2)
        self.upsample_1, self.up_residual_conv1 = _Upsample(d), _Residual(d + c, c)
        self.upsample_2, self.up_residual_conv2 = _Upsample(c), _Residual(c + b, b)
        self.upsample_3, self.up_residual_conv3 = _Upsample(b), _Residual(b + a, a)
        self.output_layer = nn.Sequential(nn.Conv2d(a, 1, 1), nn.Sigmoid())

    def forward(self, x_B1TP: Tensor) -> Tensor:
        """Shape (B, 1, T, 6), T a multiple of 8, to numbers in 0 .. 1 of the same shape."""
        full = self.input_layer(x_B1TP) + self.input_skip(x_B1TP)
        half = self.residual_conv_1(full)
        quarter = self.residual_conv_2(half)
        x = self.upsample_1(self.bridge(quarter))
        x = self.up_residual_conv1(torch.cat([x, quarter], dim=1))
        x = self.up_residual_conv2(torch.cat([self.upsample_2(x), half], dim=1))
        x = self.up_residual_conv3(torch.cat([self.upsample_3(x), full], dim=1))
        return self.output_layer(x)


class _Residual(nn.Module):
    """Two convolutions after normalisations, plus one beside them; the stride is of time."""

    def __init__(self, inside: int, outside: int, stride: int = 1):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, outside, 3, (stride, 1), padding=1),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1),
        )
        self.conv_skip = nn.Sequential(nn.Conv2d(inside, outside, 3, (stride, 1), padding=1), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_block(x) + self.conv_skip(x)


class _Upsample(nn.Module):
    """Twice the time, by a transposed convolution without overlap."""

    def __init__(self, channels: int):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(channels, channels, (2, 1), (2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(x)


def _layers(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers between neighbouring widths, named L0, L1, ... as in the published files."""
    layers = nn.Sequential()
    for k, (inside, outside) in enumerate(pairwise(widths)):
        layers.add_module(f"L{k}", nn.Linear(inside, outside))
    return layers


def sizes_of(state: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of the `PoseVAE` that a state dict is of, except `official`. Raises KeyError where it is of none."""
    decoder = "netG.decoder."
    stages, levels = (0, 3, 6, 9, 11), ("residual_conv_1", "residual_conv_2", "bridge")
    encoder_widths, widths = (_widths(state, f"netG.{half}.MLP.") for half in ("encoder", "decoder"))
    styles, latent = state[f"{decoder}classbias"].shape
    critic = tuple(len(state[n]) for n in sorted(state) if n.startswith("netD_motion.") and n.endswith("conv.weight"))
    return {
        "channels": tuple(len(state[f"audio_encoder.audio_encoder.{k}.conv_block.0.weight"]) for k in stages),
        "heard": len(state[f"{decoder}linear_audio.weight"]),
        "chunk": widths[-1] // POSE,
        "styles": styles,
        "latent": latent,
        "encoder_hidden": encoder_widths,
        "decoder_hidden": widths[:-1],
        "filters": (
            len(state[f"{decoder}resunet.input_layer.0.weight"]),
            *(len(state[f"{decoder}resunet.{level}.conv_block.2.weight"]) for level in levels),
        ),
        "critic": critic or None,
    }


def _widths(state: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Outputs of the layers that `_layers` makes."""
    layers = sum(name.startswith(prefix) and name.endswith(".weight") for name in state)
    return tuple(len(state[f"{prefix}L{k}.weight"]) for k in range(layers))
