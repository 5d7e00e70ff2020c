"""From rows of features to what a network learns from them. No Ray here, and torch only where samples are made.

Processes that only hand `make_samples` on, as Ray Data's do, import this module; torch would cost each of them seconds.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import storage
from pipeline.features import META_COLUMNS, Features
from pipeline.speakers import TRAIN
from pipeline.trainables import Sample, Trainable

if TYPE_CHECKING:
    from pipeline.train import TrainConfig


def columns_of(trainable: Trainable, *more: str) -> list[str]:
    """What is read of a row: what the trainable wants, and more."""
    return [*META_COLUMNS, *dict.fromkeys((*trainable.columns, *more))]


def missing_columns(config: "TrainConfig", trainable: Trainable) -> list[str]:
    """What the trainable reads that the features don't have, as those of an earlier version."""
    import pyarrow.parquet as pq

    folder = config.features_path("features")
    files, place = storage.arrow_place(folder)
    name = storage.list_names(folder)[0]
    with files.open_input_file(f"{place}/{name}") as source:
        there = pq.ParquetFile(source).schema_arrow.names
    return [column for column in trainable.columns if column not in there]


def samples_of(trainable: Trainable, features: Features, seed: int) -> list[Sample]:
    """What is learned from a row; chance is the seed's and the row's, the same in every run."""
    return list(trainable.samples(features, np.random.default_rng([seed, *features.origin.row_id.encode()])))


def make_samples(table: Any, config: str, card: str) -> Iterator[dict[str, np.ndarray]]:
    """The samples of a pyarrow table's rows of the training split: a stack of arrays by name for each row.

    Args:
        config, card: `TrainConfig` and `Card` as JSON, which any process can be given.
    """
    trainable, seed = _parsed(config, card)
    for row in table.to_pylist():
        if row["split"] == TRAIN and (samples := samples_of(trainable, Features.from_row(row), seed)):
            yield stacked(samples)


def stacked(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Arrays of all samples by name, with a first axis for the samples."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def read_rows(config: "TrainConfig", split: str, columns: Sequence[str]) -> Iterator[Features]:
    """Rows of a split in the order of the files, one of which is in memory at a time."""
    import pyarrow.parquet as pq

    folder = config.features_path("features")
    files, place = storage.arrow_place(folder)
    for name in storage.list_names(folder):
        with files.open_input_file(f"{place}/{name}") as source:
            file = pq.ParquetFile(source)
            if split not in file.read(columns=["split"], use_threads=False)["split"].to_pylist():
                continue
            for row in file.read(columns=list(columns), use_threads=False).to_pylist():
                if row["split"] == split:
                    yield Features.from_row(row)


@cache
def _parsed(config: str, card: str) -> tuple[Trainable, int]:
    from pipeline.train import Card, TrainConfig  # imports torch

    asked = TrainConfig.model_validate_json(config)
    return asked.build(Card.model_validate_json(card).data), asked.seed
