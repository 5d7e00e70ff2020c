"""The user's own last touch on frames: face restoration, sharpening, a watermark."""

import importlib
from collections.abc import Callable

import numpy as np

from pipeline.errors import RenderError, SetupError


def find_enhancer(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function that `enhancer` names, wrapped so that what it returns is frames.

    Raises:
        SetupError: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        enhance = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SetupError([f"enhancer={name} can't be loaded, it must be package.module:function: {error}"]) from error

    def enhanced(frames: np.ndarray) -> np.ndarray:
        made = np.asarray(enhance(frames))
        if made.dtype != np.uint8 or made.ndim != 4 or made.shape[0] != len(frames) or made.shape[3] != 3:
            found = f"{made.dtype} {made.shape} for uint8 {frames.shape}"
            raise RenderError(f"enhancer {name} returned {found}", "it must return as many uint8 frames as it is given")
        return made

    return enhanced
