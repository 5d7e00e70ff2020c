"""A portrait's frames from coefficients, as fast as the machine allows.

Chosen for the machine: the precision, how many frames at once, and on CUDA compiled graphs. **No GPU has run this.**

Legend: N frames, C coefficients, K keypoints, H W pixels.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import KeypointDetector, place
from models.facevid2vid.painter import Look, Painter
from models.sadtalker.mapping import WINDOW, MappingNet
from models.sadtalker.windows import RADIUS

BATCH_CPU, BATCH_CUDA = 1, 8  # frames at once: more don't help on a CPU, and take half a gigabyte each
FP16_CAPABILITY = (7, 0)  # of CUDA devices with matrix units for it


class Precision(NamedTuple):
    """What convolutions are computed in, and why, as a sentence."""

    dtype: torch.dtype
    reason: str


class Source(NamedTuple):
    """A portrait, ready for frames: its canonical keypoints, shape (1, K, 3), and the painter's look at it."""

    canonical: Tensor
    look: Look


def choose_precision(device: str) -> Precision:
    """The cheapest type of numbers that a device computes faster and that keeps frames within 45 dB of float32 (PSNR).

    Args:
        device: "cpu", "cuda" or "cuda:1".
    """
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return Precision(torch.bfloat16, f"bfloat16: {name} has matrix units for it")
        if torch.cuda.get_device_capability(device) >= FP16_CAPABILITY:
            return Precision(torch.float16, f"float16: {name} has matrix units for it, none for bfloat16")
        return Precision(torch.float32, f"float32: {name} has no matrix units for shorter numbers")
    able = torch.cpu.get_capabilities()
    name = able.get("cpu_name", "this CPU")
    for ability, instructions in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if able.get(ability):
            return Precision(torch.bfloat16, f"bfloat16: {name} has {instructions} for it")
    return Precision(torch.float32, f"float32: {name} has neither AMX nor AVX512-BF16 for bfloat16")


class Animator:
    """Portraits and coefficients to frames.

    Args:
        generator, detector, mapping: with their weights; taken over.
        device: "cpu", "cuda" or "cuda:1".
        precision: default: as the device likes.
        batch: frames at once; default by device.
    """

    def __init__(
        self,
        generator: Generator,
        detector: KeypointDetector,
        mapping: MappingNet,
        *,
        device: str = "cpu",
        precision: Precision | None = None,
        batch: int | None = None,
    ):
        self.precision = precision or choose_precision(device)
        self.coefficients = mapping.coefficients
        self._device = torch.device(device)
        self._detector = detector.eval().requires_grad_(False).to(device)
        self._mapping = mapping.eval().requires_grad_(False).to(device)
        self._painter = Painter(generator.eval(), self.precision.dtype).to(device)
        self._paint: Callable[[Look, Tensor], Tensor] = self._painter
        self._batch = batch or BATCH_CPU
        self._even = self._device.type == "cuda"  # compiled graphs want every batch to have the same size
        if self._even:
            self._batch = batch or BATCH_CUDA
            self._paint = torch.compile(self._painter, mode="reduce-overhead")  # records CUDA graphs

    @torch.inference_mode()
    def source(self, image: np.ndarray, row: np.ndarray) -> Source:
        """All that depends on the portrait only.

        Args:
            image: RGB, uint8, square, shape (H, W, 3).
            row: its own coefficients, shape (C,).
        """
        image_13HW = torch.tensor(image, device=self._device).permute(2, 0, 1)[None].float() / 255
        canonical = self._detector(image_13HW)
        standing = torch.tensor(np.repeat(row[None], WINDOW, 0), dtype=torch.float32, device=self._device)
        keypoints = place(canonical, self._mapping(standing.T[None]))
        return Source(canonical, self._painter.look(image_13HW, keypoints))

    @torch.inference_mode()
    def keypoints(self, source: Source, rows: np.ndarray, start: int, stop: int) -> Tensor:
        """Keypoints of frames [start, stop), shape (stop - start, K, 3).

        Args:
            rows: coefficients of the whole clip, shape (N, C): 13 frames on either side of a frame count. Beyond the
                clip's ends its first and last frame go on.
        """
        numbers = np.arange(start - RADIUS, stop + RADIUS).clip(0, len(rows) - 1)
        around = torch.tensor(rows[numbers], dtype=torch.float32, device=self._device)
        return place(source.canonical, self._mapping.over_time(around))

    @torch.inference_mode()
    def frames(self, source: Source, keypoints_NK3: Tensor) -> Iterator[np.ndarray]:
        """Frames in batches: RGB, uint8, shape (n, H, W, 3)."""
        for some in keypoints_NK3.split(self._batch):
            wanted = len(some)
            if self._even and wanted < self._batch:
                some = F.pad(some, (0, 0, 0, 0, 0, self._batch - wanted))
            painted = self._paint(source.look, some)[:wanted]
            yield painted.mul(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
