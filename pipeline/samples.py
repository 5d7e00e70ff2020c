"""From rows of features to what a network learns from them. No Ray here, and torch only where samples are made.

Processes that only hand `make_samples` on, as Ray Data's do, import this module; torch would cost each of them seconds.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from models.teachers.visemes import LABELLED
from pipeline import storage
from pipeline.errors import SetupError
from pipeline.features import META_COLUMNS, Features
from pipeline.speakers import TRAIN
from pipeline.trainables import Sample, Trainable

if TYPE_CHECKING:
    pass


PLAN = "plan.parquet"  # in a folder of features: the rows that its data card speaks of


def columns_of(trainable: Trainable, *more: str) -> list[str]:
    """What is read of a row: what the trainable wants, and more."""
    return [*META_COLUMNS, *dict.fromkeys((*trainable.columns, *more))]


def stored_columns(features: str) -> list[str]:
    """Columns of a folder of features: an earlier version's lack what has been added since.

    Raises:
        SetupError: there are no features beside the data card.
    """
    import pyarrow.parquet as pq

    folder = storage.join(features, "features")
    files, place = storage.arrow_place(folder)
    names = storage.list_names(folder)
    if not names:
        raise SetupError([f"{folder} is empty: run jobs.prepare to its end"])
    with files.open_input_file(f"{place}/{names[0]}") as source:
        return pq.ParquetFile(source).schema_arrow.names


def samples_of(trainable: Trainable, features: Features, seed: int) -> list[Sample]:
    """What is learned from a row; chance is the seed's and the row's, the same in every run."""
    return list(trainable.samples(features, np.random.default_rng([seed, *features.origin.row_id.encode()])))


def make_samples(table: Any, config: str, card: str) -> Iterator[dict[str, np.ndarray]]:
    """The samples of a pyarrow table's rows of the training split: a stack of arrays by name for each row.

    Args:
        config, card: `TrainConfig` and `Card` as JSON, which any process can be given.
    """
    trainable, seed, listed = _parsed(config, card)
    for row in table.to_pylist():
        if row["split"] == TRAIN and listed(row):
            samples = samples_of(trainable, Features.from_row(row), seed)
            if samples:
                yield stacked(samples)


def stacked(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Arrays of all samples by name, with a first axis for the samples."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def listed_rows(features: str) -> Callable[[dict[str, Any]], bool]:
    """Which rows of a folder count: those of its plan, and labelled speech.

    Rows of videos that were taken off the table, replaced, or given to another speaker stay in the shards.
    """
    import pyarrow.parquet as pq

    place = storage.join(features, PLAN)
    if not storage.exists(place):
        return lambda row: True
    table = pq.ParquetFile(io.BytesIO(storage.read_bytes(place))).read(columns=["row_id"], use_threads=False)
    planned = frozenset(table["row_id"].to_pylist())
    return lambda row: row["row_id"] in planned or row["speaker"].startswith(LABELLED)


def read_rows(features: str, split: str, columns: Sequence[str]) -> Iterator[Features]:
    """Rows of a split in the order of the files, one of which is in memory at a time.

    Args:
        features: output folder of jobs.prepare.
        split: of the speakers.
        columns: that are wanted, those of `META_COLUMNS` among them.
    """
    import pyarrow.parquet as pq

    folder, listed = storage.join(features, "features"), listed_rows(features)
    files, place = storage.arrow_place(folder)
    for name in storage.list_names(folder):
        with files.open_input_file(f"{place}/{name}") as source:
            file = pq.ParquetFile(source)
            if split not in file.read(columns=["split"], use_threads=False)["split"].to_pylist():
                continue
            for row in file.read(columns=list(columns), use_threads=False).to_pylist():
                if row["split"] == split and listed(row):
                    yield Features.from_row(row)


@cache
def _parsed(config: str, card: str) -> tuple[Trainable, int, Callable[[dict[str, Any]], bool]]:
    from pipeline.train import Card, TrainConfig  # imports torch

    asked = TrainConfig.model_validate_json(config)
    return asked.build(Card.model_validate_json(card).data), asked.seed, listed_rows(asked.features)
