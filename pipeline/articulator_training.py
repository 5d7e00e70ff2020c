"""How the articulator learns lips: from faces of talking videos, and from synthetic speech whose phones are known.

Real lips teach what people do; labelled speech teaches what is the same for everybody, closures above all. What a face
wears at rest is taken out of both: lips are told about their mean over a row.

Legend: B samples, T frames, H heard, K lip coordinates.
"""

from collections.abc import Iterator
from typing import Annotated, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.articulator.hearing import Habit, hear
from models.articulator.lip_basis import COORDINATES, UNIT, LipBasis
from models.articulator.network import Articulator
from models.interfaces import FPS, Motion
from models.teachers.visemes import LABELLED
from pipeline.config import Section
from pipeline.features import Features
from pipeline.take import longest_run, runs_of
from pipeline.trainables import TOTAL, Batch, Data, Networks, Preview, Sample, Turn, halved

SAMPLE_FRAMES = 4 * FPS
LEAST_FRAMES = FPS
NOISE = 0.15  # added to what is heard, standard deviation
LONGER, SHORTER = 1.15, 0.85  # vocal tracts of other voices, over the speaker's own
COLOUR_BANDS = (0, 20, 45, 79)  # mel bands where a room's colour is drawn
LEAST_MOVEMENT = 1e-4  # sum of squares, of less nothing can be told
FLOORS = (-4.2, -1.0)  # mel levels of a background noise


# ---- settings that everything which learns lips has
LabelledGain = Annotated[float, Field(gt=0, description="real lips move this much more than labelled ones")]
Alike = Annotated[
    float, Field(ge=0, description="weight of what the correlation of opening and width with the real ones lacks")
]


class ArticulatorTrainable:
    """The articulator: mel windows to lip coordinates."""

    class Options(Section):
        """Settings."""

        width: int = Field(default=96, ge=8, multiple_of=8, description="channels of a network")
        members: int = Field(default=2, ge=1, le=16, description="networks whose opinions are averaged")
        learning_rate: float = Field(default=2e-3, gt=0, description="of AdamW, at its highest")
        labelled: float = Field(default=0.1, ge=0, description="weight of labelled speech against real lips")
        labelled_gain: LabelledGain = 2.0
        change: float = Field(default=1.0, ge=0, description="weight of the change from frame to frame")
        alike: Alike = 1.0
        voices: int = Field(
            default=3, ge=0, description="other voices, each in a room of its own, that a stretch is heard in"
        )

    columns = ("expression", "mel", "seen")
    average = 0.99
    clip = 1.0
    batch = 16
    score = "missed"

    def __init__(self, options: Options, data: Data):
        if data.space != "open":
            raise ValueError(f"the features' space is '{data.space}': the articulator's lips are those of the open one")
        self._options, self._basis = options, LipBasis.load()
        self._ways = torch.from_numpy(self._basis.said(np.eye(COORDINATES)).astype(np.float32))
        self.turns = {"articulator": Turn(("articulator",), options.learning_rate, weight_decay=0.03)}

    def build(self) -> dict[str, nn.Module]:
        """ "articulator"."""
        return {"articulator": Articulator(self._options.width, self._options.members)}

    def samples(self, features: Features, rng: np.random.Generator) -> Iterator[Sample]:
        """Stretches of up to four seconds, once as they were heard and then in other voices and rooms."""
        labelled, learned = features.origin.speaker.startswith(LABELLED), features.origin.split == "train"
        if labelled and not learned:
            return
        gain, weight = (self._options.labelled_gain, self._options.labelled) if labelled else (1.0, 1.0)
        windows = features["mel"].astype(np.float32)
        others = self._options.voices if learned else 0
        heards = [windows, *(in_another_room(in_another_voice(windows, rng), rng) for _ in range(others))]
        for run in runs_of(features["seen"]):
            if run.stop - run.start < LEAST_FRAMES:
                continue
            lips = gain / UNIT * self._basis.coordinates(features["expression"][run])
            lips -= lips.mean(0)
            for room in heards:
                heard = hear(room[run], Habit.of_windows(room[run]))
                for start in range(0, len(lips) - LEAST_FRAMES + 1, SAMPLE_FRAMES):
                    part = slice(start, start + SAMPLE_FRAMES)
                    missing = SAMPLE_FRAMES - len(lips[part])
                    yield {
                        "heard": np.pad(heard[part], ((0, missing), (0, 0))),
                        "lips": np.pad(lips[part], ((0, missing), (0, 0))).astype(np.float32),
                        "weight": np.pad(np.full(len(lips[part]), weight, np.float32), (0, missing)),
                    }

    def losses(self, turn: str, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared error of the mouth's vertices, and of how they change; and how unlike opening and width are.

        The squared error is mostly that of the liveliest speakers. A correlation counts all speakers alike, and asks
        for what no calibration mends: not how far lips move, but when.
        """
        heard_BTH, weight_BT = batch["heard"], batch["weight"]
        place = change = unlike = heard_BTH.new_zeros(())
        there_BT, share_B = weight_BT > 0, weight_BT.amax(1) / len(weight_BT)
        said_BT2 = self._said(batch["lips"])
        for member in cast(Articulator, networks["articulator"]).members:  # each by itself, with noise of its own
            noise = NOISE * torch.randn(heard_BTH.shape, generator=generator, device=heard_BTH.device)
            made_BTK = member(heard_BTH + noise).float()
            error_BTK = (made_BTK - batch["lips"]) * there_BT[..., None]
            place = place + (weight_BT * error_BTK.square().sum(-1)).sum() / weight_BT.sum()
            change = change + (weight_BT[:, 1:] * error_BTK.diff(dim=1).square().sum(-1)).sum() / weight_BT.sum()
            alike_B2 = correlation(self._said(made_BTK), said_BT2, there_BT)
            unlike = unlike + (share_B * (1 - alike_B2.mean(1))).sum()
        total = place + self._options.change * change + self._options.alike * unlike
        return {TOTAL: total, "place": place, "change": change, "unlike": unlike}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Correlations of opening and width with the real ones, and what both miss to 1, on average."""
        made_BTK, there_BT = networks["articulator"](batch["heard"]).float(), batch["weight"] > 0
        return scores(correlation(self._said(made_BTK), self._said(batch["lips"]), there_BT))

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """The row's lips from its sound, about their real mean; all else is real."""
        run = longest_run(features["seen"])
        if run is None or run.stop - run.start < LEAST_FRAMES:
            return None
        windows, real = features["mel"][run].astype(np.float32), features["expression"][run]
        device = next(networks["articulator"].parameters()).device
        with torch.no_grad():
            heard = torch.from_numpy(hear(windows, Habit.of_windows(windows)))[None].to(device)
            made = UNIT * networks["articulator"](heard)[0].float().cpu().numpy()
        lips = self._basis.coordinates(real)
        expression = real + self._basis.expression(made + lips.mean(0) - lips)
        motion = Motion("open", expression.astype(np.float32), features["pose"][run], features["gaze"][run])
        return Preview(run.start, motion)

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """articulator.safetensors, in half precision, as `Articulator.load` wants it."""
        return {"articulator": halved(networks["articulator"].state_dict())}

    def _said(self, lips_BTK: Tensor) -> Tensor:
        """Opening and width, shape (B, T, 2)."""
        return lips_BTK @ self._ways.to(lips_BTK)


def in_another_room(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mel windows as through another microphone, louder or softer, over a background noise."""
    colour = np.interp(np.arange(windows.shape[1]), COLOUR_BANDS, 0.5 * rng.standard_normal(len(COLOUR_BANDS)))
    coloured = windows + 0.3 * rng.standard_normal() + colour[:, None]
    floor = rng.uniform(*FLOORS) + 0.3 * rng.standard_normal(windows.shape)
    steep = 1.6  # mel levels are logarithms: levels of 1.6 times natural ones add up as powers do
    return (np.logaddexp(steep * coloured, steep * floor) / steep).astype(np.float32)


def in_another_voice(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mel windows (T, 80, 16) of a speaker with a longer or a shorter vocal tract: resonances move along the bands."""
    bands = np.arange(windows.shape[1])
    at = np.minimum(bands * rng.uniform(SHORTER, LONGER), bands[-1])
    below = at.astype(int)
    share = (at - below)[:, None]
    return (1 - share) * windows[:, below] + share * windows[:, np.minimum(below + 1, bands[-1])]


def correlation(a_BTC: Tensor, b_BTC: Tensor, there_BT: Tensor) -> Tensor:
    """Over the frames that are there, shape (B, C); 0 where nothing changes."""
    there_BT1 = there_BT[..., None].float()
    count_B11 = there_BT1.sum(1, keepdim=True)
    a, b = ((x - (x * there_BT1).sum(1, keepdim=True) / count_B11) * there_BT1 for x in (a_BTC, b_BTC))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(LEAST_MOVEMENT)


def scores(alike_B2: Tensor) -> dict[str, Tensor]:
    """Mean correlations of opening and width, and what both miss to 1, on average."""
    opening, width = alike_B2.mean(0)
    return {"missed": 1 - (opening + width) / 2, "opening": opening, "width": width}
