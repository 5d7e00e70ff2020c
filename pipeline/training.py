"""The Ray side of training: workers that read features and learn, checkpoints, and going on after a loss.

A lost worker restarts the group from the last checkpoint; a lost driver is made good by running the job again. Both
lose the steps since that checkpoint. The step is in the checkpoint; the order of the data is drawn anew, as Ray
Data 2.60 can't continue in the middle of a pass.
"""

import io
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
import torch.distributed as dist
from PIL import Image

from pipeline import storage
from pipeline.cluster import connected
from pipeline.curves import Curves
from pipeline.errors import RenderError, SetupError
from pipeline.features import META_COLUMNS, Features
from pipeline.learner import Learner, world_size
from pipeline.previews import draw
from pipeline.speakers import TRAIN, VALIDATION
from pipeline.train import (
    Card,
    TrainConfig,
    absolute,
    check_folder,
    finished,
    other_networks,
    read_card,
    warnings_of,
    write_pack,
)
from pipeline.trainables import Batch, Sized, Trainable

STATE = "state.pt"  # of a checkpoint
SCORE = "score"  # by which the best checkpoint is chosen, the lower the better
RUN = "ray"  # folder of checkpoints in the output folder
WORKER_SHARE = 0.6  # of all CPUs, when training runs on them; the rest reads
# Of a task that reads rows or makes samples: they must fit beside trainers, and each is a process that starts slowly.
READER_CPUS = 0.25
PREVIEW_ROWS = 8  # of the validation split, among which one is found that suits


def train(config: TrainConfig, tell: Callable[[str], None]) -> dict[str, Any]:
    """Train, or go on training, and write the pack; the model card.

    Raises:
        SetupError: features or output folder can't be used; nothing was started.
        RenderError: workers failed more often than is put up with.
        TalkfarmError: storage failed.
    """
    storage.configure(config.storage.options, config.storage.retries)
    places = {"out": config.out, "features": config.features, "pack": config.pack}
    config = config.model_copy(
        update={name: place and absolute(place) for name, place in places.items()}
        | {"weights": config.weights.moved(absolute)}
    )
    card = read_card(config.features)
    trainable = config.build(card.data)
    other_networks(config, card)  # a pack that can't be added to is told before the night
    check_folder(config)
    if done := finished(config, card):
        tell(f"{config.out}: done already")
        return done
    held_out = card.splits[VALIDATION]["minutes"]
    tell(f"{config.trainable}: {config.steps} steps on {card.minutes - held_out:.1f} minutes, {held_out:.1f} held out")
    for lacking in warnings_of(trainable):
        tell(f"warning: {lacking}")
    with connected(config.cache), _ticking(config, tell):
        result = _fit(config, card)
        best, metrics = _best(result)
        with best.as_directory() as folder:
            state = torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True)
    networks = trainable.build()
    for name, network in networks.items():
        network.load_state_dict((state["averages"] or state["networks"])[name])
    metrics = {key: value for key, value in metrics.items() if key not in ("step", "seen", SCORE)}
    sizes = trainable.sizes() if isinstance(trainable, Sized) else {}
    return write_pack(trainable.export(networks), metrics, state["step"], state["seen"], card, config, sizes)


def _fit(config: TrainConfig, card: Card) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    files, place = storage.arrow_place(config.out)
    workers = config.workers
    count = workers.max if workers.min == workers.max else (workers.min, workers.max)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"config": config.model_dump_json(), "card": card.model_dump_json()},
        torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        datasets={
            split: _samples(split, config, card) for split in (TRAIN, VALIDATION) if card.splits[split]["rows"] > 0
        },
        # what is held out is read whole by every worker, which takes its own batches of it
        dataset_config=ray.train.DataConfig(datasets_to_split=[TRAIN]),
        scaling_config=ScalingConfig(
            num_workers=count,
            use_gpu=workers.gpu,
            resources_per_worker={"CPU": _cpus(config), **({"GPU": 1} if workers.gpu else {})},
            elastic_resize_monitor_interval_s=workers.resize_every_s,
        ),
        run_config=RunConfig(
            name=RUN,
            storage_path=place,
            storage_filesystem=files,
            checkpoint_config=CheckpointConfig(
                num_to_keep=config.keep, checkpoint_score_attribute=SCORE, checkpoint_score_order="min"
            ),
            failure_config=FailureConfig(max_failures=workers.max_failures),
        ),
    )
    try:
        return trainer.fit()
    except TrainingFailedError as error:
        said = str(error).strip().splitlines()
        raise RenderError(
            f"training failed: {said[-1] if said else type(error).__name__}", "mend the cause, if it is told"
        ) from error


def _best(result: Any) -> tuple[Any, dict[str, float]]:
    """The checkpoint with the lowest score, and its metrics."""
    found = [(checkpoint, metrics) for checkpoint, metrics in result.best_checkpoints or [] if metrics]
    if not found:
        raise RenderError("there is no checkpoint", "run again")
    return min(found, key=lambda entry: entry[1].get(SCORE, float("inf")))


def _cpus(config: TrainConfig) -> float:
    """CPUs that a worker reserves: what it needs, but never so much that nothing is left to read data."""
    if config.workers.cpus:
        return config.workers.cpus
    if config.workers.gpu:
        return 1.0
    total = ray.cluster_resources().get("CPU", 1.0)
    return max(0.01, min(1.0, int(100 * WORKER_SHARE * total / config.workers.max) / 100))


# ---- data


def _samples(split: str, config: TrainConfig, card: Card) -> Any:
    """Ray dataset of a split's samples."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # its task that lists files wants a whole CPU, and trainers may hold them all
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    trainable = config.build(card.data)
    files, place = storage.arrow_place(storage.join(config.features, "features"))
    rows = ray.data.read_parquet(
        place, filesystem=files, columns=[*META_COLUMNS, *trainable.columns], num_cpus=READER_CPUS
    )
    maker = partial(_make_samples, split=split, asked=config.model_dump_json(), card=card.model_dump_json())
    return rows.map_batches(maker, batch_size=1, batch_format="pyarrow", num_cpus=READER_CPUS)


def _make_samples(table: Any, split: str, asked: str, card: str) -> Iterator[dict[str, np.ndarray]]:
    """Rows of features to samples; a table of its own per row."""
    config, trainable = _parsed(asked, card)
    for row in table.to_pylist():
        if row["split"] != split:
            continue
        features = Features.from_row(row)
        rng = np.random.default_rng([config.seed, *features.origin.row_id.encode()])
        samples = list(trainable.samples(features, rng))
        if samples:
            yield {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


@cache
def _parsed(asked: str, card: str) -> tuple[TrainConfig, Trainable]:
    config = TrainConfig.model_validate_json(asked)
    return config, config.build(Card.model_validate_json(card).data)


# ---- the worker


def _work(asked: dict[str, str]) -> None:
    """What every worker does."""
    import ray.train
    import ray.train.torch

    config, trainable = _parsed(asked["config"], asked["card"])
    card, device = Card.model_validate_json(asked["card"]), ray.train.torch.get_device()
    storage.configure(config.storage.options, config.storage.retries)
    learner = Learner(trainable, config.recipe(trainable, device), device)
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            learner.resume(torch.load(Path(folder) / STATE, map_location=device, weights_only=True))
    if learner.step >= config.steps:
        return
    leads = ray.train.get_context().get_world_rank() == 0
    watch = _Watch(config, card, trainable, learner) if leads else None
    validation = _Validation(config, device) if card.has_validation else None
    for batch in _endless(config, trainable, device, learner.step):
        values = learner.learn(batch)
        done = learner.step >= config.steps
        if watch:
            watch.note(values, done)
        if done or learner.step % config.checkpoint_every == 0:
            _report(learner, values, validation, trainable, watch)
        if watch and config.preview_every and (done or learner.step % config.preview_every == 0):
            watch.preview()
        if done:
            break
    if watch:
        watch.close()


def _report(
    learner: Learner, values: dict[str, Any], validation: "_Validation | None", trainable: Trainable, watch: Any
) -> None:
    """Validate and save a checkpoint; every worker takes part."""
    learner.agree()
    metrics = learner.validate(validation.batches()) if validation else {}
    score = metrics.get(trainable.score)
    if score is None or not np.isfinite(score):  # nothing is held out: the last checkpoint counts as the best
        score = -float(learner.step)
    with tempfile.TemporaryDirectory(prefix="talkfarm-") as folder:
        checkpoint = None
        if watch:
            torch.save(learner.state(), Path(folder) / STATE)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            watch.validated(metrics)
        losses = {name: float(value) for name, value in values.items() if name.endswith("/total")}
        ray.train.report(
            {**metrics, **losses, "step": learner.step, "seen": learner.seen, SCORE: score}, checkpoint=checkpoint
        )


def _endless(config: TrainConfig, trainable: Trainable, device: torch.device, step: int) -> Iterator[Batch]:
    """This worker's batches of the training split, pass after pass, shuffled, from the `step`-th step on.

    Samples that fit into memory are read once and then shuffled there; whether they fit, all workers decide together,
    as a pass through Ray Data is one that all of them make.
    """
    shard: Any = ray.train.get_dataset_shard(TRAIN)
    size = max(1, (config.batch or trainable.batch) // world_size())
    rng = np.random.default_rng([config.seed, step, dist.get_rank() if world_size() > 1 else 0])
    kept: list[Batch] = []
    limit, held, fits = config.memory_gb * 1e9, 0.0, True
    count = 0
    shuffle: dict[str, Any] = {}
    if config.shuffle:
        shuffle = {"local_shuffle_buffer_size": max(config.shuffle, size), "local_shuffle_seed": config.seed + step}
    for batch in shard.iter_torch_batches(batch_size=size, drop_last=True, device="cpu", **shuffle):
        count += 1
        fits = fits and held < limit
        if fits:
            kept.append(batch)
            held += sum(tensor.nbytes for tensor in batch.values())
        yield _on(batch, device)
    if not count:
        raise SetupError(
            [f"features={config.features} give a worker fewer samples than a batch of {size}: lower batch"]
        )
    if _all(fits, device):
        pool = {name: torch.cat([batch[name] for batch in kept]) for name in kept[0]}
        kept.clear()
        while True:
            order = torch.from_numpy(rng.permutation(len(next(iter(pool.values())))))
            for first in range(0, len(order) - size + 1, size):
                yield _on({name: tensor[order[first : first + size]] for name, tensor in pool.items()}, device)
    kept.clear()
    while True:
        for batch in shard.iter_torch_batches(batch_size=size, drop_last=True, device="cpu", **shuffle):
            yield _on(batch, device)


class _Validation:
    """The batches of the validation split, the same every time; each worker takes every n-th."""

    def __init__(self, config: TrainConfig, device: torch.device):
        self._config, self._device = config, device
        self._own: list[Batch] | None = None

    def batches(self) -> Iterator[Batch]:
        """This worker's."""
        if self._own is None:
            shard: Any = ray.train.get_dataset_shard(VALIDATION)
            rank = dist.get_rank() if world_size() > 1 else 0
            self._own = []
            size = self._config.batch or 32
            for number, batch in enumerate(shard.iter_torch_batches(batch_size=size, device="cpu")):
                if number == self._config.validation_batches:
                    break
                if number % world_size() == rank:
                    self._own.append(batch)
        for batch in self._own:
            yield _on(batch, self._device)


class _Watch:
    """What the first worker shows of the training: curves, progress, pictures."""

    def __init__(self, config: TrainConfig, card: Card, trainable: Trainable, learner: Learner):
        self._config, self._card, self._trainable, self._learner = config, card, trainable, learner
        self._curves = Curves(config.path("tensorboard"), learner.step)
        self._began, self._seen = time.monotonic(), learner.seen
        self._told = 0.0

    def note(self, values: dict[str, torch.Tensor], done: bool) -> None:
        """After every step."""
        learner, now = self._learner, time.monotonic()
        if not done and learner.step % self._config.log_every:
            return
        speed = (learner.seen - self._seen) / max(now - self._began, 1e-9)
        self._began, self._seen = now, learner.seen
        points = {f"train/{name}": float(value) for name, value in values.items()}
        self._curves.add({**points, "train/samples_per_s": speed}, learner.step)
        if done or now - self._told >= self._config.progress_every_s:
            self._told = now
            losses = {name.removesuffix("/total"): float(v) for name, v in values.items() if name.endswith("/total")}
            progress = {"step": learner.step, "seen": learner.seen, "samples_per_s": round(speed, 1), "losses": losses}
            storage.write_atomic(self._config.path("progress.json"), json.dumps(progress).encode())

    def validated(self, metrics: dict[str, float]) -> None:
        """After every validation."""
        self._curves.add({f"validation/{name}": value for name, value in metrics.items()}, self._learner.step)
        self._curves.publish()

    def preview(self) -> None:
        """Render what the networks make of a held-out row."""
        with self._learner.averaged() as networks:
            for features in self._rows():
                preview = self._trainable.preview(networks, features)
                image = draw(preview, features) if preview else None
                if image is not None:
                    self._curves.add_image("preview", image, self._learner.step)
                    sink = io.BytesIO()
                    Image.fromarray(image).save(sink, "PNG")
                    name = f"step-{self._learner.step:08d}.png"
                    storage.write_atomic(self._config.path("previews", name), sink.getvalue())
                    return

    def close(self) -> None:
        """At the end."""
        self._curves.close()

    def _rows(self) -> Iterator[Features]:
        """Some rows with crops: held out, or of the training where nothing is."""
        import pyarrow.parquet as pq

        split = VALIDATION if self._card.has_validation else TRAIN
        files, place = storage.arrow_place(storage.join(self._config.features, "features"))
        columns = [*META_COLUMNS, *dict.fromkeys((*self._trainable.columns, "expression", "pose", "gaze", "crops"))]
        found = 0
        for name in storage.list_names(storage.join(self._config.features, "features")):
            with files.open_input_file(f"{place}/{name}") as source:
                file = pq.ParquetFile(source)
                splits = file.read(columns=["split"], use_threads=False)["split"].to_pylist()
                if split not in splits:
                    continue
                for row in file.read(columns=columns, use_threads=False).to_pylist():
                    if row["split"] == split:
                        yield Features.from_row(row)
                        found += 1
                        if found == PREVIEW_ROWS:
                            return


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _all(flag: bool, device: torch.device) -> bool:
    """Whether it holds for every worker."""
    if world_size() == 1:
        return flag
    answer = torch.tensor(int(flag), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MIN)
    return bool(answer)


@contextmanager
def _ticking(config: TrainConfig, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell what progress.json says now and then while the block runs."""
    over, place = threading.Event(), config.path("progress.json")
    last = storage.read_bytes(place) if storage.exists(place) else b""

    def tick() -> None:
        nonlocal last
        if storage.exists(place) and (data := storage.read_bytes(place)) != last:
            last, now = data, json.loads(data)
            losses = ", ".join(f"{name} {value:.4g}" for name, value in now["losses"].items())
            tell(f"step {now['step']}/{config.steps} | {losses} | {now['samples_per_s']:.0f} samples/s")

    def watch() -> None:
        while not over.wait(config.progress_every_s):
            tick()

    ticker = threading.Thread(target=watch, daemon=True)
    ticker.start()
    try:
        yield
        tick()
    finally:
        over.set()
        ticker.join()
