"""Curves and pictures of a training for TensorBoard, in a folder that may be remote.

Events are written to a local file and copied as a whole when asked: object stores can't append. Every run of the job
writes a file of its own; TensorBoard reads them as one, and forgets what a resumed run has done again.
"""

import tempfile
from pathlib import Path

import numpy as np

from pipeline import storage


class Curves:
    """One file of events.

    Args:
        uri: folder of the curves.
        step: steps made before: events after it, by earlier runs, are void.
    """

    def __init__(self, uri: str, step: int):
        from tensorboardX import SummaryWriter

        self._uri = uri
        self._folder = tempfile.TemporaryDirectory(prefix="talkfarm-")
        # as a fresh run when nothing is void: TensorBoard takes a purge for a restart
        self._writer = SummaryWriter(self._folder.name, purge_step=step + 1 if step else None)

    def add(self, values: dict[str, float], step: int) -> None:
        """Points of curves, by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8, shape (H, W, 3)."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def add_text(self, name: str, text: str, step: int) -> None:
        """A text."""
        self._writer.add_text(name, text, step)

    def publish(self) -> None:
        """Copy what there is to its place."""
        self._writer.flush()
        for path in Path(self._folder.name).iterdir():
            storage.write_atomic(storage.join(self._uri, path.name), path)

    def close(self) -> None:
        """Publish and end."""
        self.publish()
        self._writer.close()
        self._folder.cleanup()
