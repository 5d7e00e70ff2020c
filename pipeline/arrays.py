"""Records of arrays as files: a dataclass that is stored as a compressed npz."""

import io
from typing import Self

import numpy as np


class Arrays:
    """Base of dataclasses whose fields are all NumPy arrays."""

    def dumps(self) -> bytes:
        """As a compressed npz."""
        sink = io.BytesIO()
        np.savez_compressed(sink, **vars(self))
        return sink.getvalue()

    @classmethod
    def loads(cls, data: bytes) -> Self:
        """The inverse of `dumps`."""
        with np.load(io.BytesIO(data)) as arrays:
            return cls(**arrays)
