"""A folder of features that never were a video: the sound says exactly what the jaw does."""

import json

import numpy as np

from models.facespace.open import OpenSpace
from pipeline import storage
from pipeline.features import Features, Origin
from tests.pipeline.talking_takes import make_take

FRAMES = 100
SPEAKERS = ("ann", "bob", "cy")  # the last one is held out


def make_features(number: int, crops: tuple[bytes, ...] = ()) -> Features:
    """A row of a speaker."""
    speaker = SPEAKERS[number % len(SPEAKERS)]
    held_out = speaker == SPEAKERS[-1]
    take = make_take(FRAMES, seed=number)
    opening = take.expression @ OpenSpace.load().direction("jaw_open")
    bands = np.linspace(-1, 1, 80)[:, None]
    mel = 4 * np.tanh(opening / max(np.abs(opening).max(), 1e-6))[:, None, None] * bands * np.ones(16)
    origin = Origin(
        row_id=f"{number:020d}-00000",
        video_id=f"video {number}",
        sha256=f"{number:064d}",
        speaker=speaker,
        language="en",
        split="validation" if held_out else "train",
        identity=SPEAKERS.index(speaker),
        style=-1 if held_out else SPEAKERS.index(speaker),
        space="open",
        start=0,
        frames=FRAMES,
        lag=0,
    )
    arrays = {
        "expression": take.expression,
        "pose": take.pose,
        "gaze": take.gaze,
        "landmarks": take.landmarks,
        "eye_motion": take.eye_motion,
        "mel": mel,
        "sound": np.random.default_rng(number).integers(-3000, 3000, (FRAMES, 640), np.int16),
        "boxes": np.zeros((FRAMES, 4, 4)),
        "seen": np.ones(FRAMES, bool),
    }
    return Features(origin, {name: np.asarray(array) for name, array in arrays.items()}, crops)


def write_features(folder: str, rows: int = 12) -> None:
    """What jobs.prepare leaves, as far as training reads it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.prepare_flow import row_schema

    made = [make_features(number) for number in range(rows)]
    for shard in range(0, rows, 3):
        table = pa.Table.from_pylist([row.to_row() for row in made[shard : shard + 3]], schema=row_schema())
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        storage.write_atomic(f"{folder}/features/{shard}.parquet", sink.getvalue().to_pybytes())
    held_out = [row for row in made if row.origin.split == "validation"]
    count = {"train": len(made) - len(held_out), "validation": len(held_out), "test": 0}
    card = {
        "hash": "0" * 64,
        "minutes": rows * FRAMES / 1500,
        "rows": rows,
        "styles": 2,
        "splits": {name: {"minutes": n * FRAMES / 1500, "speakers": 1, "rows": n} for name, n in count.items()},
        "made_with": {"settings": {"space": "open"}},
    }
    storage.write_atomic(f"{folder}/datacard.json", json.dumps(card).encode())
