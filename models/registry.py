"""Names of motion systems and renderers, the coefficient space each one speaks, and how to build it.

Importing this module is cheap: a builder imports what it builds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.interfaces import MotionSystem, Renderer

REVISION = 1  # raise it when a change in models/ changes frames: finished clips of older revisions are made again


@dataclass(frozen=True)
class Entry:
    """One name.

    Args:
        space: coefficient space, "open" or "bfm".
        build: makes the object; renderers get `device`, "cpu" or "cuda".
    """

    space: str
    build: Callable[..., Any]


def _envelope() -> MotionSystem:
    from models.envelope import EnvelopeMotion

    return EnvelopeMotion()


def _mesh(device: str) -> Renderer:
    from models.mesh.renderer import MeshRenderer

    return MeshRenderer(device=device)


MOTION_SYSTEMS: dict[str, Entry] = {"envelope": Entry("open", _envelope)}
RENDERERS: dict[str, Entry] = {"mesh": Entry("open", _mesh)}
