"""What is decoded of media files, once per content and kept: every metric of every run reads the same.

<store>/faces/ab/ab12....<revision>.npz                   `pipeline.observation`
<store>/sounds/ab/ab12....<revision>.npz                  `pipeline.hearing`
<store>/pictures/ab/ab12....<revision>.json               `pipeline.appearance.inspect`
<store>/comparisons/ab/ab12..._cd34..._5.<revision>.json  `pipeline.appearance.compare`

So an evaluation that was interrupted goes on where it was, and one more run beside others costs that run only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pipeline import appearance, hearing, observation, scoring, storage
from pipeline.cache import Fetched, fetch
from pipeline.errors import MissingError
from pipeline.hearing import Hearing, hear
from pipeline.observation import Observation, observe
from pipeline.scoring import Values

T = TypeVar("T")


@dataclass
class Evidence:
    """Looks and listens; one object per process.

    Args:
        store: folder or URI where what was found is kept; on a cluster one that all machines reach.
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
        found = self.fetch(uri)
        name = f"{found.sha256}.{observation.REVISION}.npz"
        return self._once(
            "faces", name, lambda: observe(found.path, self._finder), Observation.dumps, Observation.loads
        )

    def sound(self, uri: str) -> Hearing:
        """The sound of a recording or a video. Raises as `fetch` and `hear`."""
        found = self.fetch(uri)
        name = f"{found.sha256}.{hearing.REVISION}.npz"
        return self._once("sounds", name, lambda: hear(found.path), Hearing.dumps, Hearing.loads)

    def pictures(self, uri: str) -> Values:
        """What the pictures of a video tell by themselves. Raises as `face`."""
        found = self.fetch(uri)
        name = f"{found.sha256}.{appearance.REVISION}_{observation.REVISION}.json"
        return self._once(
            "pictures", name, lambda: appearance.inspect(found.path, self.face(uri)), scoring.dumps, scoring.loads
        )

    def comparison(self, uri: str, real: str, every: int = appearance.EVERY) -> Values:
        """The pictures of a video against another's, some frames apart. Raises as `fetch`."""
        found, other = self.fetch(uri), self.fetch(real)
        name = f"{found.sha256}_{other.sha256}_{every}.{appearance.REVISION}.json"
        return self._once(
            "comparisons",
            name,
            lambda: appearance.compare(found.path, other.path, every),
            scoring.dumps,
            scoring.loads,
        )

    @cached_property
    def _finder(self):
        from pipeline.face import FaceFinder

        return FaceFinder()

    def _once(
        self, kind: str, name: str, make: Callable[[], T], dumps: Callable[[T], bytes], loads: Callable[[bytes], T]
    ) -> T:
        place = storage.join(self.store, kind, name[:2], name)
        try:
            return loads(storage.read_bytes(place))
        except MissingError:
            made = make()
            storage.write_atomic(place, dumps(made))
            return made
