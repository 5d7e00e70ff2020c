"""Stages that do nothing, so that what is left of a flow is the flow. Workers import them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pipeline.config import RenderConfig
from pipeline.manifest import Clip
from pipeline.stages import Rendered


def prep(clip: Clip, config: RenderConfig) -> SimpleNamespace:
    """A clip of one second."""
    return SimpleNamespace(frames=25, warnings=())


class Motion:
    """Nothing moves."""

    def __init__(self, config: RenderConfig):
        pass

    def generate(self, prepped: SimpleNamespace) -> np.ndarray:
        """Zeros."""
        return np.zeros((prepped.frames, 72), np.float32)


class Render:
    """A file that is no video."""

    def __init__(self, config: RenderConfig):
        pass

    def render(self, prepped: SimpleNamespace, motion: np.ndarray, out: Path, **asked: object) -> Rendered:
        """Writes a word."""
        out.write_bytes(b"nothing")
        return Rendered(2, 2, b"")
