"""How ExpNet learns from features of talking videos (SadTalker, 3.2; supplement, B.3).

It hears a voice against its own habit (`models.sadtalker.hearing`): what a room, a microphone or a voice adds is gone
before it listens.

Legend: B samples, T frames, M S mel bands and steps, E expression, W words.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.frozen import Frozen
from models.interfaces import FPS, IDENTITY, SAMPLES_PER_FRAME, Motion
from models.sadtalker import expnet
from models.sadtalker.expnet import ExpNet
from models.sadtalker.hearing import hear
from models.sadtalker.landmarks import FrontalLandmarks
from models.sadtalker.losses import READ_FRAMES, expnet_losses, eye_ratio, ratio_when_closed
from models.teachers.lip_reader import LipReader
from models.teachers.lip_reading import LipReading
from models.teachers.mouth_pictures import MouthPictures
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
from pipeline.expnet_faces import bfm_face, open_face
from pipeline.features import Features
from pipeline.take import longest_run, runs_of
from pipeline.trainables import TOTAL, Batch, Data, Networks, Preview, Sample, Turn, halved
from pipeline.weights import CATALOGUE

READERS = {"lipreading_video": "video", "lipreading_audio": "audio"}  # in `pipeline.weights.CATALOGUE`: of which sense
LIP_READING = "lip_reading"
SHUT_RATIO = 0.25  # of the open eye's height: a blink ratio down here is a shut eye
OPEN_PERCENTILE = 75  # of the blink ratio over a row: how the eyes are when they are open
OPEN_EYES = 0.2  # largest closure of a reference
LEAST_FRAMES = FPS  # of a stretch, to know where its lips are on average


class Made(NamedTuple):
    """What the network makes of a batch, and what it should.

    Args:
        made, teacher: expression, shape (B, T, 64).
        landmarks: of both, shape (B, T, 68, 2).
        ratio: what the eyes shall do, shape (B, T).
    """

    made: Tensor
    teacher: Tensor
    landmarks: tuple[Tensor, Tensor]
    ratio: Tensor


class ExpNetTrainable:
    """ExpNet: mel windows, a reference expression and a blink signal to expressions.

    The paper's teacher is a lip network run on a still picture, so that nothing but lips moves. Ours is made of what is
    known of the same moment: lips move about the reference's as the real ones, or those of labelled speech, do about
    their mean; lids are the real ones, which the blink signal tells; brows and cheeks, which the sound doesn't
    determine, stay the reference's. What a face wears at rest is thereby taken out. In the space bfm everything moves
    as it really did, since its coefficients don't tell lips apart: there, videos in which only lips move
    (`scripts.make_lip_teacher_videos`) are the paper's way.
    """

    class Options(Section):
        """Settings."""

        size: Literal["paper", "small"] = Field(default="small", description="of the network")
        frames: int = Field(default=FPS, ge=READ_FRAMES, le=250, description="consecutive frames of a sample")
        teacher: Literal["lips", "all"] = Field(
            default="lips", description="what the sound moves: lips, or brows and cheeks as well; in the space bfm all"
        )
        read: float | None = Field(
            default=None,
            gt=0,
            description="weight of the lip-reading loss, if its networks are there; default: 0.1, in bfm 0.01",
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

    columns: tuple[str, ...] = ("expression", "eye_motion", "mel", "seen")
    average = 0.99
    clip = 1.0
    batch = 8
    score = "missed"

    def __init__(self, options: Options, data: Data):
        self._options = options
        self._face = open_face(options.teacher) if data.space == "open" else bfm_face(data.weights)
        self._weights = replace(self._face.weights, read=options.read or self._face.weights.read)
        self._ways = torch.from_numpy(self._face.ways)
        self._readers: dict[str, Path | None] = {name: data.weights(name) for name in READERS}
        self._reads = self._face.mouth is not None and all(self._readers.values())
        if self._reads:
            self.columns = (*self.columns, "sound")
        self.turns = {"expnet": Turn(("expnet",), options.learning_rate, weight_decay=0.03)}

    def build(self) -> dict[str, nn.Module]:
        """ "expnet", which begins by keeping the reference; "landmarks", which has no weights; the lip readers."""
        network = ExpNet(**expnet.SIZES[self._options.size], dropped=self._options.dropped)
        network.keep_reference()
        networks = {"expnet": network, "landmarks": FrontalLandmarks(self._face.landmarks)}
        if self._reads and self._face.mouth is not None:
            readers = [LipReader.load(path, READERS[name]) for name, path in self._readers.items() if path]
            networks[LIP_READING] = Frozen(LipReading(MouthPictures(self._face.mouth), *readers))
        return networks

    def warnings(self) -> list[str]:
        """Says what lip reading lacks. Raises WeightsError for files of other networks."""
        for name, path in self._readers.items():
            if path:
                LipReader.load(path, READERS[name])
        lacking = [f"{CATALOGUE[name].files[0]} in weights.dir" for name, path in self._readers.items() if path is None]
        if self._face.mouth is None:
            lacking.append("a face model whose files have triangles and colours")
        return [f"no lip-reading loss: it needs {' and '.join(lacking)} (docs/training.md)"] if lacking else []

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
            moved = gain * (real - real.mean(0)) @ self._face.heeded
            for room in rooms:
                heard = hear(room[run]).astype(np.float16)
                for start in range(0, len(real) - self._options.frames + 1, self._options.frames):
                    part = slice(start, start + self._options.frames)
                    reference = features["expression"][rng.choice(candidates)]
                    lids = (real[part] - reference) @ self._face.lids
                    sample = {
                        "mel": heard[part],
                        "reference": reference,
                        "change": (moved[part] + lids).astype(np.float32),
                        "closure": closure[run][part],
                    }
                    yield sample | ({"sound": features["sound"][run][part].reshape(-1)} if self._reads else {})

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Distillation, eyes, landmarks and, with the user's networks, reading: the paper's losses (Eq. 8).

        Besides, how unlike opening and width are, as the articulator's are compared.
        """
        mel_BTMS = batch["mel"].float()
        noise = torch.randn(mel_BTMS.shape, generator=generator, device=mel_BTMS.device)
        made = self._made(networks, batch, mel_BTMS + self._options.noise * noise)
        parts = self._parts(networks, batch, made, generator)
        unlike = 1 - self._alike(batch, made.made, made.teacher).mean()
        return {**parts, TOTAL: parts[TOTAL] + self._options.alike * unlike, "unlike": unlike}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Correlations of opening and width with the real ones, what both miss to 1 on average, and the losses' parts.

        Besides, the mean error of the lips' landmarks in percent of the eye distance.
        """
        made = self._made(networks, batch, batch["mel"].float())
        parts = self._parts(networks, batch, made, generator)
        ours, wanted = (points[:, :, 48:] for points in made.landmarks)
        eye_distance = (made.landmarks[1][..., 45, :] - made.landmarks[1][..., 36, :]).norm(dim=-1)
        lips = 100 * ((ours - wanted).norm(dim=-1).mean(-1) / eye_distance).mean()
        alike = scores(self._alike(batch, made.made, made.teacher))
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
                torch.from_numpy(hear(features["mel"][run].astype(np.float32)))[:, None].to(device),
                torch.from_numpy(features["expression"][[run.start] * frames].copy()).to(device),
                torch.from_numpy(closure_of(features["eye_motion"][:, 0])[run].copy())[:, None].to(device),
            )
        expression = made.float().cpu().numpy()
        motion = Motion(features.origin.space, expression, features["pose"][run], features["gaze"][run])
        return Preview(run.start, motion)

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """expnet.safetensors, in half precision, as `models.sadtalker.motion.SadTalkerMotion.load` wants it."""
        return {"expnet": halved(networks["expnet"].state_dict())}

    def _parts(self, networks: Networks, batch: Batch, made: Made, generator: torch.Generator) -> dict[str, Tensor]:
        """The paper's losses, reading among them where there are lip readers."""
        logits = self._read(networks, batch, made.made, generator) if LIP_READING in networks else None
        return expnet_losses(
            made.made,
            made.teacher,
            landmarks=made.landmarks,
            eye_ratio_BT=made.ratio,
            logits=logits,
            weights=self._weights,
        )

    def _read(
        self, networks: Networks, batch: Batch, made_BTE: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What is read off some consecutive frames, the same of all samples, and what is heard then; (B, W) each."""
        last = made_BTE.shape[1] - READ_FRAMES
        start = int(torch.randint(last + 1, (1,), generator=generator, device=generator.device))
        part = slice(start, start + READ_FRAMES)
        sound_BTS = batch["sound"].float().unflatten(1, (-1, SAMPLES_PER_FRAME))[:, part]
        with torch.autocast(made_BTE.device.type, enabled=False):
            return networks[LIP_READING](made_BTE[:, part], sound_BTS.flatten(1))

    def _made(self, networks: Networks, batch: Batch, mel_BTMS: Tensor) -> Made:
        """What the network makes of the batch's references, blinks and these mel windows (B, T, M, S)."""
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
        with torch.autocast(made_BTE.device.type, enabled=False):  # half a pixel is much for an eye
            open_ratio_B = eye_ratio(place(nobody, reference_BTE[:, :1]))[:, 0]
            landmarks = place(nobody, made_BTE), place(nobody, teacher_BTE)
        return Made(made_BTE, teacher_BTE, landmarks, ratio_when_closed(open_ratio_B, closure_BT))

    def _alike(self, batch: Batch, made_BTE: Tensor, teacher_BTE: Tensor) -> Tensor:
        """Correlations of what lips alone do to opening and width over each sample, shape (B, 2)."""
        reference_B1E = batch["reference"][:, None]
        made_BT2, wanted_BT2 = ((x - reference_B1E) @ self._ways.to(x) for x in (made_BTE, teacher_BTE))
        return correlation(made_BT2, wanted_BT2, torch.ones_like(batch["closure"], dtype=torch.bool))


def closure_of(blink_ratio: np.ndarray) -> np.ndarray:
    """How far the lids are shut, 0 open to 1 shut, from blink ratios (T,); gaps count as open. float32, shape (T,)."""
    seen = np.isfinite(blink_ratio)
    if not seen.any():
        return np.zeros(len(blink_ratio), np.float32)
    usual = np.percentile(blink_ratio[seen], OPEN_PERCENTILE)
    closure = (1 - blink_ratio / max(usual, 1e-6)) / (1 - SHUT_RATIO)
    return np.nan_to_num(closure).clip(0, 1).astype(np.float32)
