"""The Ray side of training: workers that read features and learn, checkpoints, and going on after a loss.

A lost worker restarts the group from the last checkpoint; a lost driver is made good by running the job again. Both
lose the steps since that checkpoint, which are then made again with the same batches and the same noise: on as many
workers, the weights at the end are those of a training that nothing happened to. The order of the data is the seed's
(`pipeline.batches`), and Ray Data is told to keep it; as version 2.60 can't begin in the middle of a pass, what has
been seen of it is read again and thrown away.
"""

import io
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
import torch.distributed as dist
from PIL import Image

from pipeline import storage
from pipeline.batches import Batches, Position
from pipeline.cluster import connected, free_cpus, hundredths
from pipeline.curves import Curves
from pipeline.environment import set_up_worker
from pipeline.errors import RenderError, SetupError
from pipeline.learner import Learner, rank, world_size
from pipeline.previews import draw
from pipeline.repeating import repeating
from pipeline.reserved import reserve
from pipeline.samples import columns_of, make_samples, read_rows, samples_of, stacked, stored_columns
from pipeline.speakers import TRAIN, VALIDATION
from pipeline.train import (
    FIXED,
    Card,
    TrainConfig,
    check_networks,
    differing,
    finished,
    other_networks,
    read_card,
    warnings_of,
    write_pack,
)
from pipeline.trainables import Batch, Sample, Sized, Trainable

STATE = "state.pt"  # of a checkpoint
POSITION = "position"  # in the state: how far the training is in its data
SCORE = "score"  # by which the best checkpoint is chosen, the lower the better
WORST = 1e30  # of a checkpoint whose score is no number
BROKEN = "broken.json"  # in the output folder: why workers gave up, where trying again would not help
LOOK_EVERY = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"  # Ray Train takes it from the driver's environment only
RUN = "ray"  # folder of checkpoints in the output folder
WORKER_SHARE = 0.6  # of all CPUs, when training runs on them; the rest reads
# Of a task that reads rows or makes samples: they must fit beside trainers, and each is a process that starts slowly.
READER_CPUS = 0.25
VALIDATION_BATCH = 32  # samples, where the configuration sets no batch
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
        update={name: place and storage.absolute(place) for name, place in places.items()}
        | {"weights": config.weights.moved(storage.absolute)}
    )
    card = read_card(config.features)
    trainable = config.build(card.data)
    check_networks(trainable)
    there = stored_columns(config.features)
    if missing := [column for column in trainable.columns if column not in there]:
        raise SetupError(
            [f"features={config.features} lacks {', '.join(missing)}: prepared by an earlier version; do it anew"]
        )
    other_networks(config, card)  # a pack that can't be added to is told before the night
    reserve(config.out, config, FIXED, "a training")
    if done := finished(config, card):
        other = differing(done, config)
        tell(f"{config.out}: done already" + (f", with {other}; use another out for another training" if other else ""))
        return done
    held_out = card.splits[VALIDATION]["minutes"]
    tell(f"{config.trainable}: {config.steps} steps on {card.minutes - held_out:.1f} minutes, {held_out:.1f} held out")
    for lacking in warnings_of(trainable):
        tell(f"warning: {lacking}")
    tell_progress = _progress_of(config, tell)
    with connected():
        with repeating(config.progress_every_s, tell_progress):
            result = _fit(config, card)
        tell_progress()
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
    os.environ[LOOK_EVERY] = str(workers.look_every_s)
    # the same samples to the same workers in every pass and every run
    ordered = ray.data.ExecutionOptions(preserve_order=True)
    count = workers.max if workers.min == workers.max else (workers.min, workers.max)
    storage.remove(config.path(BROKEN))
    trainer = TorchTrainer(
        _work,
        train_loop_config={"config": config.model_dump_json(), "card": card.model_dump_json()},
        torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        datasets={TRAIN: _training_samples(config, card)},
        dataset_config=ray.train.DataConfig(execution_options=ordered),
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
        result = trainer.fit()
    except TrainingFailedError as error:
        _tell_broken(config)
        said = str(error).strip().splitlines()
        raise RenderError(
            f"training failed: {said[-1] if said else type(error).__name__}", "mend the cause, if it is told"
        ) from error
    _tell_broken(config)
    return result


def _tell_broken(config: TrainConfig) -> None:
    """Raise what workers gave up for: SetupError or RenderError; nothing if they did not."""
    if storage.exists(place := config.path(BROKEN)):
        told = json.loads(storage.read_bytes(place))
        raise SetupError(told["problems"]) if "problems" in told else RenderError(told["message"], told["hint"])


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
    return min(1.0, hundredths(WORKER_SHARE * free_cpus() / config.workers.max))


# ---- data


def _training_samples(config: TrainConfig, card: Card) -> Any:
    """Ray dataset of the training split's samples."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # its task that lists files wants a whole CPU, and trainers may hold them all
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    folder = config.features_path("features")
    files, place = storage.arrow_place(folder)
    rows = ray.data.read_parquet(
        place,
        filesystem=files,
        columns=columns_of(config.build(card.data)),
        num_cpus=READER_CPUS,
        # by default the cluster's size decides how files are gathered, and with that what each worker gets
        override_num_blocks=len(storage.list_names(folder)),
    )
    maker = partial(make_samples, config=config.model_dump_json(), card=card.model_dump_json())
    return rows.map_batches(maker, batch_size=1, batch_format="pyarrow", num_cpus=READER_CPUS)


# ---- the worker


def _work(asked: dict[str, str]) -> None:
    """What every worker does. What trying again doesn't mend is written down, and the next try ends at once."""
    config, card = TrainConfig.model_validate_json(asked["config"]), Card.model_validate_json(asked["card"])
    storage.configure(config.storage.options, config.storage.retries)
    if storage.exists(place := config.path(BROKEN)):
        return
    try:
        _learn(config, card)
    except (SetupError, RenderError) as error:
        storage.write_atomic(place, json.dumps(vars(error)).encode())
        raise


def _learn(config: TrainConfig, card: Card) -> None:
    import ray.train
    import ray.train.torch

    trainable, device = config.build(card.data), ray.train.torch.get_device()
    set_up_worker(config)
    learner = Learner(trainable, config.recipe(trainable, device), device)
    position = Position()
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / STATE, map_location=device, weights_only=True)
        learner.resume(state)
        position = Position(**state[POSITION])
    if learner.step >= config.steps:
        return
    watch = _Watch(config, card, trainable, learner) if rank() == 0 else None
    held_out = int(card.splits[VALIDATION]["rows"])
    validation = _Validation(config, held_out, trainable, device) if held_out else None
    batches = _batches(config, trainable, device, position)
    for batch in batches:
        values = learner.learn(_on(batch, device))
        done = learner.step >= config.steps
        if watch:
            watch.note(values, done)
        if done or learner.step % config.checkpoint_every == 0:
            _report(learner, values, validation, trainable, watch, batches.position)
        if watch and config.preview_every and (done or learner.step % config.preview_every == 0):
            watch.preview()
        if done:
            break
    if watch:
        watch.close()


def _report(
    learner: Learner,
    values: dict[str, Any],
    validation: "_Validation | None",
    trainable: Trainable,
    watch: "_Watch | None",
    position: Position,
) -> None:
    """Validate and save a checkpoint; every worker takes part."""
    learner.agree()
    metrics = learner.validate(validation.batches()) if validation else {}
    score = metrics.get(trainable.score, -float(learner.step))  # nothing is held out: the last one counts as the best
    score = score if math.isfinite(score) else WORST
    with tempfile.TemporaryDirectory(prefix="talkfarm-") as folder:
        checkpoint = None
        if watch:
            torch.save({**learner.state(), POSITION: asdict(position)}, Path(folder) / STATE)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            watch.validated(metrics)
        losses = {name: float(value) for name, value in values.items() if name.endswith("/total")}
        ray.train.report(
            {**metrics, **losses, "step": learner.step, "seen": learner.seen, SCORE: score}, checkpoint=checkpoint
        )


def _batches(config: TrainConfig, trainable: Trainable, device: torch.device, position: Position) -> Batches:
    """This worker's batches of the training split."""
    shard: Any = ray.train.get_dataset_shard(TRAIN)
    size = max(1, (config.batch or trainable.batch) // world_size())

    def stream(number: int) -> Any:
        shuffle: dict[str, Any] = {}
        if config.shuffle:
            seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
            shuffle = {"local_shuffle_buffer_size": max(config.shuffle, size), "local_shuffle_seed": seed}
        return shard.iter_torch_batches(batch_size=size, device="cpu", **shuffle)

    return Batches(
        stream,
        size,
        seed=(config.seed, rank()),
        most_bytes=config.memory_gb * 1e9,
        agreed=partial(_all, device=device),
        position=position,
    )


class _Validation:
    """The batches of the validation split, the same in every run; each worker takes every n-th."""

    def __init__(self, config: TrainConfig, rows: int, trainable: Trainable, device: torch.device):
        self._config, self._rows, self._trainable, self._device = config, rows, trainable, device
        self._own: list[Batch] | None = None

    def batches(self) -> Iterator[Batch]:
        """This worker's."""
        if self._own is None:
            self._own = list(self._read())
        for batch in self._own:
            yield _on(batch, self._device)

    def _read(self) -> Iterator[Batch]:
        size = self._config.batch or VALIDATION_BATCH
        samples = self._spread(size * self._config.validation_batches)
        for number in range(self._config.validation_batches):
            chosen = list(islice(samples, size))
            if chosen and number % world_size() == rank():
                yield {name: torch.from_numpy(array) for name, array in stacked(chosen).items()}

    def _spread(self, wanted: int) -> Iterator[Sample]:
        """About so many samples, as many of each row, so that all speakers are heard."""
        every, each = max(1, self._rows // wanted), math.ceil(wanted / self._rows)
        rows = read_rows(self._config.features, VALIDATION, columns_of(self._trainable))
        for row in islice(rows, 0, None, every):
            samples = samples_of(self._trainable, row, self._config.seed)
            yield from samples[:: max(1, len(samples) // each)][:each]


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
        split = VALIDATION if self._card.has_validation else TRAIN
        columns = columns_of(self._trainable, "expression", "pose", "gaze", "crops")
        with self._learner.averaged() as networks:
            for features in islice(read_rows(self._config.features, split, columns), PREVIEW_ROWS):
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


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _all(flag: bool, device: torch.device) -> bool:
    """Whether it holds for every worker."""
    if world_size() == 1:
        return flag
    answer = torch.tensor(int(flag), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MIN)
    return bool(answer)


def _progress_of(config: TrainConfig, tell: Callable[[str], None]) -> Callable[[], None]:
    """Tells what progress.json says, if that is new."""
    place = config.path("progress.json")
    last = storage.read_bytes(place) if storage.exists(place) else b""

    def tell_progress() -> None:
        nonlocal last
        if storage.exists(place) and (data := storage.read_bytes(place)) != last:
            last, now = data, json.loads(data)
            losses = ", ".join(f"{name} {value:.4g}" for name, value in now["losses"].items())
            tell(f"step {now['step']}/{config.steps} | {losses} | {now['samples_per_s']:.0f} samples/s")

    return tell_progress
