"""A training: what is asked, whether it can be done, and what is left at the end. No Ray here.

out/
    config.yaml                         what was asked
    ray/                                checkpoints: the last ones and the best, and Ray Train's record of them
    tensorboard/                        curves and pictures
    previews/step-00001000.png          real frames above, made ones below
    progress.json                       how far it is
    pack/                               weights of the best checkpoint, as a pack (`models.packs`)
        <network>.safetensors
        <trainable>.card.json  .md      what they are and where they come from
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.packs import DECLARATION, LICENCE, SHIPPED, Declaration, Pack, PackError, Provided
from pipeline import storage
from pipeline.cache import fetch
from pipeline.config import CacheConfig, Section, StorageConfig
from pipeline.errors import InputError, SetupError, TransientError
from pipeline.learner import Recipe, choose_precision
from pipeline.packs import open_at
from pipeline.problems import explain
from pipeline.speakers import TRAIN, VALIDATION
from pipeline.trainables import TRAINABLES, Data, Trainable, Warned, trainable_class
from pipeline.weights import WeightsPlace

PACKAGES = ("talkfarm", "torch", "ray", "numpy")
ROOT = Path(__file__).resolve().parent.parent
FIXED = ("trainable", "options")  # settings that weights depend on: a training goes on with the same ones only
# Others that they depend on, and that may be changed on the way.
MATTERING = ("steps", "batch", "learning_rate", "schedule", "warmup", "clip", "average", "precision", "seed")


class WorkersSection(Section):
    """Who trains."""

    min: int = Field(default=1, ge=1, description="fewest workers to train with; fewer than max: as many as there are")
    max: int = Field(default=1, ge=1, description="most workers, each with a CPU share or a GPU of its own")
    gpu: bool = Field(default=False, description="train on GPUs, one per worker (nccl); false: CPUs (gloo)")
    cpus: float = Field(default=0.0, ge=0, description="CPUs reserved per worker; 0: a fair part, the rest reads data")
    resize_every_s: float = Field(default=60.0, ge=0, description="how often an elastic group looks for more workers")
    look_every_s: float = Field(
        default=2.0, gt=0, description="how often the workers are looked at: losses are noticed, checkpoints registered"
    )
    max_failures: int = Field(default=3, ge=-1, description="lost workers that are put up with; -1: any number")

    @model_validator(mode="after")
    def _ordered(self) -> "WorkersSection":
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, more than max, {self.max}")
        return self


class TrainConfig(BaseModel):
    """A training job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trainable: str = Field(description=f"what to train: {', '.join(TRAINABLES)}")
    options: dict[str, Any] = Field(
        default={}, description="its own settings: options.NAME=VALUE; see docs/training.md"
    )
    features: str = Field(description="output folder of jobs.prepare, local or remote")
    out: str = Field(default="training", description="output folder, local or remote; what is in it is gone on from")
    pack: str | None = Field(
        default=None,
        description="pack that the weights are added to, beside those of other trainings; default: out/pack",
    )
    licence: str = Field(
        default="own training: may be used as far as its recordings allow", description="of the weights, one line"
    )
    steps: int = Field(default=20_000, ge=1, description="optimiser steps of the whole training")
    batch: int = Field(default=0, ge=0, description="samples per step, all workers together; 0: the trainable's own")
    learning_rate: float = Field(default=1.0, gt=0, description="factor on the trainable's own learning rates")
    schedule: Literal["constant", "cosine"] = Field(default="constant", description="of the learning rate")
    warmup: int = Field(default=0, ge=0, description="steps over which the learning rate rises from 0")
    clip: float | None = Field(
        default=None, ge=0, description="largest norm of a gradient, 0: none; default: the trainable's own"
    )
    average: float | None = Field(
        default=None, ge=0, lt=1, description="decay of the moving average of the weights; default: the trainable's own"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="of the forward pass; auto: bf16 on GPUs that have it, else fp32"
    )
    seed: int = Field(default=0, ge=0, description="of weights, samples and noise")
    log_every: int = Field(default=20, ge=1, description="steps between points of the curves")
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints, each with a validation")
    preview_every: int = Field(default=2000, ge=0, description="steps between rendered previews; 0: none")
    validation_batches: int = Field(default=20, ge=1, description="batches of the validation split that are judged")
    keep: int = Field(default=2, ge=1, description="best checkpoints that are kept besides the last one")
    shuffle: int = Field(default=2000, ge=0, description="samples among which a worker picks the next one")
    memory_gb: float = Field(
        default=2.0, ge=0, description="samples up to this size are read once and then kept by each worker, GB"
    )
    progress_every_s: float = Field(default=10.0, gt=0, description="seconds between progress lines")
    workers: WorkersSection = WorkersSection()
    weights: WeightsPlace = WeightsPlace()
    cache: CacheConfig = CacheConfig()
    storage: StorageConfig = StorageConfig()

    @field_validator("trainable")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TRAINABLES and ":" not in name:
            raise ValueError(f"is '{name}', but must be {' or '.join(repr(choice) for choice in TRAINABLES)}")
        return name

    def path(self, *names: str) -> str:
        """URI of something in the output folder."""
        return storage.join(self.out, *names)

    def features_path(self, *names: str) -> str:
        """URI of something in the folder of features."""
        return storage.join(self.features, *names)

    def pack_path(self, *names: str) -> str:
        """URI of something in the pack."""
        return storage.join(self.pack or self.path("pack"), *names)

    @property
    def name(self) -> str:
        """Of what is trained, fit for a file."""
        return self.trainable.rpartition(":")[2]

    def build(self, data: Data) -> Trainable:
        """The trainable. Raises SetupError for unknown options or unsuitable data."""
        try:
            kind = trainable_class(self.trainable)
        except (ImportError, AttributeError) as error:
            raise SetupError([f"trainable={self.trainable}: {error}"]) from error
        try:
            there = replace(data, pack=self._open_pack, weights=self._find_weights, fetch=self._fetch)
            return kind(kind.Options.model_validate(self.options), there)
        except ValidationError as error:
            raise SetupError([f"options: {line}" for line in explain(error, kind.Options, self.options)]) from error
        except ValueError as error:
            raise SetupError([f"{self.trainable}: {error}"]) from error

    def _open_pack(self) -> Pack | None:
        """The pack that the weights are added to, if it is there. Raises PackError, TransientError."""
        there = storage.exists(self.pack_path(DECLARATION))
        return open_at(self.pack_path(), self.cache) if there else None

    def _find_weights(self, name: str) -> Path | None:
        """The user's file of a network. Raises SetupError for a wrong one, TransientError."""
        found = self.weights.find(self.cache.folder, [name])
        return found[name].path if name in found else None

    def _fetch(self, place: str) -> Path:
        """A local copy of a file. Raises SetupError without one, TransientError."""
        try:
            return fetch(place, self.cache.folder, self.cache.max_gb * 1e9).path
        except InputError as error:
            raise SetupError([str(error)]) from error

    def recipe(self, trainable: Trainable, device: Any) -> Recipe:
        """How steps are made on a device."""
        return Recipe(
            steps=self.steps,
            rate=self.learning_rate,
            schedule=self.schedule,
            warmup=self.warmup,
            clip=trainable.clip if self.clip is None else self.clip,
            average=trainable.average if self.average is None else self.average,
            precision=choose_precision(self.precision, device),
            seed=self.seed,
        )


class Card(BaseModel):
    """What a training needs of the data card."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    hash: str
    minutes: float
    rows: int
    styles: int
    splits: dict[str, dict[str, float]]
    made_with: dict[str, Any]

    @cached_property
    def data(self) -> Data:
        """What trainables are built for."""
        settings = self.made_with["settings"]
        return Data(space=settings["space"], styles=self.styles, crops=settings.get("crops", True))

    @property
    def has_validation(self) -> bool:
        """Whether anything is held out."""
        return self.splits[VALIDATION]["rows"] > 0


def read_card(features: str) -> Card:
    """The data card of a folder of features. Raises SetupError if there is none, or nothing to train on."""
    try:
        card = Card.model_validate_json(storage.read_bytes(storage.join(features, "datacard.json")))
    except (InputError, TransientError, ValidationError) as error:
        problem = "" if isinstance(error, ValidationError) else f" ({error})"
        raise SetupError([f"features={features} has no data card: run jobs.prepare to its end{problem}"]) from error
    if not card.splits[TRAIN]["rows"]:
        raise SetupError([f"features={features} has nothing to train on"])
    return card


def check_networks(trainable: Trainable) -> None:
    """Build networks once, before workers do. Raises SetupError where files that they start from can't be used."""
    try:
        trainable.build()
    except ValueError as error:
        raise SetupError([str(error)]) from error


def warnings_of(trainable: Trainable) -> list[str]:
    """What a trainable does without, a sentence each. Raises SetupError for weights that can't be used."""
    try:
        return trainable.warnings() if isinstance(trainable, Warned) else []
    except ValueError as error:
        raise SetupError([str(error)]) from error


# ---- the pack


def write_pack(
    files: dict[str, dict[str, Any]],
    metrics: dict[str, float],
    step: int,
    seen: int,
    card: Card,
    config: TrainConfig,
    sizes: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write weights, pack.json and model card, the card last; networks of other trainings stay in the pack. The card.

    Args:
        files: tensors by name, by network.
        metrics: of the checkpoint that they are from.
        step, seen: steps and samples that it has had.
        sizes: arguments of networks' constructors that differ from the published sizes, by network.
    Raises:
        SetupError: the pack holds something that this doesn't go with.
    """
    from safetensors.torch import save

    others = other_networks(config, card)
    weights, provided = {}, dict(others)
    for name, tensors in files.items():
        file = f"{name}.safetensors"
        data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        storage.write_atomic(config.pack_path(file), data)
        digest = hashlib.sha256(data).hexdigest()
        own_sizes = dict((sizes or {}).get(name, {}))
        provided[name] = Provided(file, digest, own_sizes, source=f"jobs.train out={config.out}")
        numbers = sum(tensor.numel() for tensor in tensors.values())
        weights[file] = {"sha256": digest, "bytes": len(data), "numbers": numbers}
    terms = f"{config.licence}\n\nWhat each network was trained on: *.card.md in this folder.\n".encode()
    storage.write_atomic(config.pack_path(LICENCE), terms)
    declaration = Declaration(
        Path(config.pack_path()).name, card.data.space, config.licence, hashlib.sha256(terms).hexdigest(), provided
    )
    storage.write_atomic(config.pack_path(DECLARATION), declaration.dumps())
    model_card = {
        "trainable": config.trainable,
        "space": card.data.space,
        "step": step,
        "steps_asked": config.steps,
        "samples_seen": seen,
        "metrics": metrics,
        "weights": weights,
        "licence": config.licence,
        "data": {"card": storage.join(config.features, "datacard.json"), "hash": card.hash, "minutes": card.minutes},
        "config": config.model_dump(mode="json", exclude={"storage": {"options"}}),
        "commit": commit(),
        "packages": {name: _version(name) for name in PACKAGES},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    storage.write_atomic(config.pack_path(f"{config.name}.card.md"), to_markdown(model_card).encode())
    storage.write_atomic(config.pack_path(f"{config.name}.card.json"), json.dumps(model_card, indent=1).encode())
    return model_card


def other_networks(config: TrainConfig, card: Card) -> dict[str, Provided]:
    """What the pack provides already. Raises SetupError if it is of another space, of published weights, or ships."""
    if storage.local_path(config.pack_path()) == SHIPPED:
        raise SetupError([f"pack={config.pack_path()} is what ships: own weights go into a pack of their own"])
    place = config.pack_path(DECLARATION)
    if not storage.exists(place):
        return {}
    try:
        there = Declaration.loads(storage.read_bytes(place), config.pack_path())
    except PackError as error:
        raise SetupError([f"pack: {error}"]) from error
    if there.space != card.data.space or there.published:
        kind = "published weights" if there.published else f"the space '{there.space}'"
        raise SetupError([f"pack={config.pack_path()} is of {kind}: own weights go into a pack of their own"])
    return dict(there.provides)


def finished(config: TrainConfig, card: Card) -> dict[str, Any] | None:
    """The model card of this training, if it has been done already, with as many steps or more."""
    place = config.pack_path(f"{config.name}.card.json")
    if not storage.exists(place):
        return None
    model_card = json.loads(storage.read_bytes(place))
    same = all(
        (
            model_card["steps_asked"] >= config.steps,
            model_card["data"]["hash"] == card.hash,
            all(model_card["config"][key] == config.model_dump(mode="json")[key] for key in FIXED),
        )
    )
    return model_card if same else None


def differing(model_card: dict[str, Any], config: TrainConfig) -> str:
    """Settings that a training was done with and that are others now, as words of a command line."""
    before, asked = model_card["config"], config.model_dump(mode="json")
    return " ".join(f"{name}={before[name]}" for name in MATTERING if before[name] != asked[name])


def to_markdown(model_card: dict[str, Any]) -> str:
    """The model card for people."""
    lines = [
        f"# {model_card['trainable']}",
        "",
        f"Coefficient space `{model_card['space']}`. Step {model_card['step']} of {model_card['steps_asked']}, "
        f"{model_card['samples_seen']} samples seen.",
        "",
        "| metric (validation) | value |",
        "|---|---|",
        *(f"| {name} | {value:.6g} |" for name, value in model_card["metrics"].items()),
        "",
        "| file | numbers | SHA-256 |",
        "|---|---|---|",
        *(f"| {name} | {entry['numbers']} | `{entry['sha256']}` |" for name, entry in model_card["weights"].items()),
        "",
        f"Data: {model_card['data']['minutes']:.1f} minutes, content hash `{model_card['data']['hash']}` "
        f"({model_card['data']['card']}). Licence: {model_card['licence']}.",
        "",
        f"Made {model_card['made']}, commit `{model_card['commit']}`, "
        + ", ".join(f"{name} {number}" for name, number in model_card["packages"].items())
        + ".",
        "",
        "```yaml",
        OmegaConf.to_yaml(OmegaConf.create(model_card["config"])).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def commit() -> str:
    """The commit of this source tree, with a + if files have changed since; "unknown" outside of one."""

    def ask(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"
