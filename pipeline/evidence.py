"""Faces and sounds of media files, made once per content and kept: every metric of every run reads the same ones.

<store>/faces/ab/ab12....<revision>.npz      `pipeline.observation`
<store>/sounds/ab/ab12....<revision>.npz     `pipeline.hearing`
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline import hearing, observation, storage
from pipeline.cache import Fetched, fetch
from pipeline.errors import MissingError
from pipeline.hearing import Hearing, hear
from pipeline.observation import Observation, observe


class Kept(Protocol):
    """What can be stored."""

    def dumps(self) -> bytes: ...


T = TypeVar("T", bound=Kept)


@dataclass
class Evidence:
    """Looks and listens; one object per process.

    Args:
        store: folder or URI where faces and sounds are kept; on a cluster one that all machines reach.
        cache: folder of this machine for remote inputs.
        max_bytes: size of that folder above which old files go.
    """

    store: str
    cache: Path
    max_bytes: float = float("inf")

    def fetch(self, uri: str) -> Fetched:
        """An input as a local file. Raises MissingError, InputError, TransientError."""
        return fetch(uri, self.cache, self.max_bytes)

    def face(self, uri: str) -> Observation:
        """The face of a video. Raises as `fetch` and `observe`."""
        return self._once(
            "faces", observation.REVISION, uri, lambda path: observe(path, self._finder), Observation.loads
        )

    def sound(self, uri: str) -> Hearing:
        """The sound of a recording or a video. Raises as `fetch` and `hear`."""
        return self._once("sounds", hearing.REVISION, uri, hear, Hearing.loads)

    @cached_property
    def _finder(self):
        from pipeline.face import FaceFinder

        return FaceFinder()

    def _once(self, kind: str, revision: int, uri: str, make: Callable[[Path], T], loads: Callable[[bytes], T]) -> T:
        found = self.fetch(uri)
        name = storage.join(self.store, kind, found.sha256[:2], f"{found.sha256}.{revision}.npz")
        try:
            return loads(storage.read_bytes(name))
        except MissingError:
            made = make(found.path)
            storage.write_atomic(name, made.dumps())
            return made
