"""How SadTalker's mapping network learns from pairs of frames of one video (SadTalker, section 3.3).

With face-vid2vid's networks as they are: from coefficients to the keypoints that the pictures have.

Legend: B samples, N frames, P pixels, C coefficients, W frames of a window, K keypoints.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.checkpoint import load_strict
from models.facevid2vid import losses
from models.facevid2vid.keypoints import place
from models.facevid2vid.sizes import KEYPOINTS, MAPPING_SIZES
from models.frozen import Frozen
from models.sadtalker.mapping import MappingNet
from models.sadtalker.windows import coefficient_windows
from pipeline.features import Features
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
    in_float,
    on_device_of,
    paint,
    pictures_of,
    shown,
)
from pipeline.trainables import Batch, Data, Networks, Preview, Sample, Turn

MAPPING = "mapping"


class MappingTrainable(PairTraining):
    """The mapping network, in front of the renderer of the pack that it is added to."""

    class Options(PairOptions):
        """Settings."""

        pictures: bool = Field(default=True, description="learn from painted pictures, too; false: from keypoints only")

    columns = ("expression", *PairTraining.columns)

    def __init__(self, options: Options, data: Data):
        super().__init__(options, data, paints=options.pictures)
        pack = data.pack()
        wanted = [file_name(name, options.px) for name in RENDERER]
        lacking = [name for name in wanted if pack is None or name not in pack]
        if pack is None or lacking:
            raise ValueError(
                f"there is no {', '.join(lacking)} in the pack that it is added to: "
                f"train trainable=facevid2vid options.px={options.px} with the same pack=FOLDER first"
            )
        self._pack = pack
        keypoints = pack.sizes(file_name("generator", options.px)).get("keypoints", KEYPOINTS["paper"])
        self._sizes = {**MAPPING_SIZES[options.size], "keypoints": keypoints}
        self.turns = {**self.turns, MAPPING: Turn((MAPPING,), self._rate, BETAS)}

    def build(self) -> dict[str, nn.Module]:
        """ "mapping", helpers, and the pack's "generator", "keypoints" and "head_estimator", frozen.

        Raises:
            PackError, WeightsError: the pack's files are not what it says.
        """
        networks: dict[str, nn.Module] = {MAPPING: MappingNet(**self._sizes), **self.helpers()}
        for name, kind in RENDERER.items():
            file = file_name(name, self._options.px)
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
        """The critic's; or of keypoints against those of the pictures, and of painted pictures, with `shown`."""
        order = draw_order(generator)
        source, driving = pictures_of(batch, order)
        if turn == CRITIC:
            with torch.no_grad():
                found, _ = self._keypoints(networks, batch, order)
                made = self._painted(networks, batch, order, found)
            return criticism(networks[CRITIC], made, driving)
        found, wanted = self._keypoints(networks, batch, order)
        parts = {"mapped": losses.mapped(found, wanted)}
        if not self._paints:
            return losses.combined(parts)
        made = self._painted(networks, batch, order, found)
        parts |= self.likeness(networks, made, driving)
        return {**losses.combined(parts), **shown(made.detach(), source, driving)}

    def metrics(self, networks: Networks, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Likeness of painted pictures, and how far keypoints are from those of the pictures."""
        order = draw_order(generator)
        found, wanted = self._keypoints(networks, batch, order)
        made = self._painted(networks, batch, order, found)
        seen = self.scores(networks, made, pictures_of(batch, order)[1])
        return {**seen, "mapped": losses.mapped(found, wanted)}

    def preview(self, networks: Networks, features: Features) -> Preview | None:
        """Frames of a row, painted from the first of them and coefficients."""
        found = self.from_first(features)
        if found is None:
            return None
        run, pairs, pictures = found
        rows = _coefficients(features)[run]
        windows = np.stack([coefficient_windows(rows, pair - run.start) for pair in pairs])
        batch = {"pictures": on_device_of(networks, pictures), "windows": on_device_of(networks, windows)}
        order = torch.arange(2)
        with torch.no_grad():
            made = self._painted(networks, batch, order, self._keypoints(networks, batch, order)[0])
        return Preview(int(pairs[0, 1]), as_bytes(made), as_bytes(pictures_of(batch, order)[1]))

    def export(self, networks: Networks) -> dict[str, dict[str, Tensor]]:
        """As `renderer=facevid2vid` wants it, for all framings."""
        return {"mapping_crop": dict(networks[MAPPING].state_dict())}

    def sizes(self) -> dict[str, dict[str, Any]]:
        """Of what is exported."""
        return {"mapping_crop": self._sizes}

    def _keypoints(self, networks: Networks, batch: Batch, order: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints that coefficients lead to, and those of the pictures; of all sources, then of all driving frames,
        shape (2 B, K, 3)."""
        source, driving = pictures_of(batch, order)
        windows_NCW = batch["windows"][:, order].transpose(0, 1).flatten(0, 1).float()
        with torch.no_grad():
            canonical = networks["keypoints"](source).float().repeat(2, 1, 1)
            wanted = place(canonical, heads_of(networks, source, driving))
        return place(canonical, in_float(networks[MAPPING](windows_NCW))), wanted

    def _painted(self, networks: Networks, batch: Batch, order: Tensor, keypoints_NK3: Tensor) -> Tensor:
        """Driving frames from their sources and keypoints, shape (B, 3, P, P)."""
        return paint(networks, pictures_of(batch, order)[0], *keypoints_NK3.chunk(2))


def _coefficients(features: Features) -> np.ndarray:
    """Expression and pose of every frame, float32, shape (N, C).

    Translations count from their median, as the square stands there: in service they count from the portrait's, which
    the square is cut around.
    """
    pose = features["pose"].copy()
    pose[:, 3:] -= np.median(pose[features["seen"], 3:], 0)
    return np.concatenate([features["expression"], pose], 1, dtype=np.float32)
