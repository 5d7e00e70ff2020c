"""One worker's part of training: networks, optimisers, and what happens on a batch. No Ray here.

Gradients are averaged over the workers by hand, in one flat buffer per turn, rather than by wrapping the networks:
several networks that take turns, as a generator and its critic do, then need no special care.

Legend: W workers.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.errors import RenderError
from pipeline.trainables import TOTAL, Batch, Trainable

Precision = Literal["fp32", "bf16", "fp16"]
MOST_LOST = 20  # steps in a row that half precision may lose: the scale is lowered by a factor of a million
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """How steps are made.

    Args:
        steps: of the whole training, for the schedule.
        rate: factor on the turns' learning rates.
        schedule: "constant", or "cosine" down to 0 at the last step.
        warmup: steps over which the rate rises from 0.
        clip: largest norm of a turn's gradient; 0 for none.
        average: decay of the moving average of the weights; 0 for none.
        precision: of the forward pass.
        seed: of weights and of everything random.
    """

    steps: int
    rate: float = 1.0
    schedule: str = "constant"
    warmup: int = 0
    clip: float = 1.0
    average: float = 0.0
    precision: Precision = "fp32"
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The factor for the step after `step` steps."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return self.rate * rise
        done = min(1.0, max(0, step - self.warmup) / max(1, self.steps - self.warmup))
        return self.rate * rise * 0.5 * (1 + math.cos(math.pi * done))


class Learner:
    """Networks while they learn; one per worker, all of them alike.

    Attributes:
        step: steps made.
        seen: samples seen, by all workers together.
    """

    def __init__(self, trainable: Trainable, recipe: Recipe, device: torch.device):
        self._trainable, self._recipe, self._device = trainable, recipe, device
        torch.manual_seed(recipe.seed)  # layers draw their first weights from the global stream
        self.networks: dict[str, nn.Module] = {name: net.to(device) for name, net in trainable.build().items()}
        for tensor in self._tensors(self.networks):
            if world_size() > 1:
                dist.broadcast(tensor, 0)
        self._averages = (
            {name: copy.deepcopy(net).requires_grad_(False) for name, net in self.networks.items()}
            if recipe.average
            else {}
        )
        self._optimisers = {
            name: torch.optim.AdamW(
                self._weights(name), lr=turn.learning_rate, betas=turn.betas, weight_decay=turn.weight_decay
            )
            for name, turn in trainable.turns.items()
        }
        self._scalers = {
            name: torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16") for name in trainable.turns
        }
        self._lost = dict.fromkeys(trainable.turns, 0)  # steps in a row whose gradient was no number
        self.step, self.seen = 0, 0

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step of every turn. Returns what the curves show, by name, still on the device."""
        shown: dict[str, Tensor] = {}
        rate = self._recipe.rate_at(self.step)
        torch.manual_seed(self._noise_seed())  # of dropout, which draws from the global stream
        for network in self.networks.values():
            network.train()
        for name, turn in self._trainable.turns.items():
            optimiser, scaler = self._optimisers[name], self._scalers[name]
            weights = self._weights(name)
            for group in optimiser.param_groups:
                group["lr"] = turn.learning_rate * rate
            optimiser.zero_grad(set_to_none=True)
            with self._precision():
                losses = self._trainable.losses(name, self.networks, batch, self._generator())
            scaler.scale(losses[TOTAL]).backward()
            average_gradients(weights)
            scaler.unscale_(optimiser)
            norm = nn.utils.clip_grad_norm_(weights, self._recipe.clip or math.inf)
            self._check(name, norm, losses)
            scaler.step(optimiser)
            scaler.update()
            shown |= {f"{name}/{loss}": value.detach() for loss, value in losses.items()}
            shown |= {
                f"{name}/gradient_norm": norm.detach(),
                f"{name}/learning_rate": torch.tensor(turn.learning_rate * rate),
            }
        self._follow()
        self.step += 1
        self.seen += len(next(iter(batch.values()))) * world_size()
        return shown

    def _check(self, turn: str, norm: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Raise RenderError where a gradient is no number, which all workers see alike, as gradients are averaged.

        In half precision such steps are left out and the scale is lowered; too many in a row are no accident.
        """
        self._lost[turn] = 0 if math.isfinite(norm) else self._lost[turn] + 1
        if self._lost[turn] > (MOST_LOST if self._recipe.precision == "fp16" else 0):
            told = ", ".join(f"{name} {loss.detach().item():.4g}" for name, loss in losses.items())
            raise RenderError(
                f"step {self.step + 1} of '{turn}' has a gradient that is no number (losses here: {told})",
                "the last checkpoint is from before: go on with a lower learning_rate or with clip, or look for rows "
                "that are no numbers",
            )

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Means of the metrics over this worker's batches and those of all others; NaN without any batch."""
        sums: dict[str, float] = {}
        count = 0
        with self.averaged() as networks:
            for number, batch in enumerate(batches):
                generator = torch.Generator(self._device).manual_seed(number)  # the same noise every time
                with self._precision():
                    for name, value in self._trainable.metrics(networks, batch, generator).items():
                        sums[name] = sums.get(name, 0.0) + float(value)
                count += 1
        total = sum_over_workers({**sums, "": float(count)}, self._device)
        batches_seen = total.pop("")
        return {name: value / batches_seen for name, value in total.items()} if batches_seen else {}

    @contextmanager
    def averaged(self) -> Iterator[dict[str, nn.Module]]:
        """The networks that are judged and kept: the moving averages if there are any; in evaluation mode."""
        networks = self._averages or self.networks
        was_training = {name: network.training for name, network in networks.items()}
        try:
            yield {name: network.eval() for name, network in networks.items()}
        finally:
            for name, network in networks.items():
                network.train(was_training[name])

    @torch.no_grad()
    def agree(self) -> None:
        """Replace buffers that workers keep for themselves, such as batch statistics, by their means."""
        if world_size() == 1:
            return
        for group in (self.networks, self._averages):
            buffers = [b for net in group.values() for b in net.buffers() if b.is_floating_point()]
            _all_mean(buffers)

    def state(self) -> dict[str, Any]:
        """Everything that going on needs."""
        return {
            "step": self.step,
            "seen": self.seen,
            "networks": {name: net.state_dict() for name, net in self.networks.items()},
            "averages": {name: net.state_dict() for name, net in self._averages.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self._scalers.items()},
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.step, self.seen = state["step"], state["seen"]
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, network in self._averages.items():
            network.load_state_dict(state["averages"].get(name, state["networks"][name]))
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        for name, scaler in self._scalers.items():
            scaler.load_state_dict(state["scalers"][name])

    def _weights(self, turn: str) -> list[nn.Parameter]:
        names = self._trainable.turns[turn].networks
        return [weight for name in names for weight in self.networks[name].parameters() if weight.requires_grad]

    def _tensors(self, networks: Mapping[str, nn.Module]) -> Iterator[Tensor]:
        for network in networks.values():
            yield from (tensor.data for tensor in (*network.parameters(), *network.buffers()))

    def _generator(self) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(self._noise_seed())

    def _noise_seed(self) -> int:
        """Another one on every worker and step, the same after resuming."""
        return hash((self._recipe.seed, self.step, rank())) & (2**63 - 1)

    def _precision(self) -> Any:
        kind = TYPES.get(self._recipe.precision)
        return torch.autocast(self._device.type, dtype=kind, enabled=kind is not None)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averages towards the weights, quicker at the beginning, when the weights are noise."""
        decay = min(self._recipe.average, (self.step + 1) / (self.step + 10))
        for name, average in self._averages.items():
            for kept, new in zip(average.parameters(), self.networks[name].parameters()):
                kept.lerp_(new, 1 - decay)
            for kept, new in zip(average.buffers(), self.networks[name].buffers()):
                kept.copy_(new)


def world_size() -> int:
    """How many workers learn together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def average_gradients(weights: list[nn.Parameter]) -> None:
    """Replace gradients by their means over all workers; a weight that a worker did not use counts as 0 there."""
    if world_size() == 1:
        return
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    _all_mean([weight.grad for weight in weights if weight.grad is not None])


def sum_over_workers(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Sums by name; workers that lack a name count as 0, so names need not be the same."""
    if world_size() == 1:
        return dict(values)
    everyones: list[Any] = [None] * world_size()
    dist.all_gather_object(everyones, dict(values))
    names = sorted({name for one in everyones for name in one})
    return {name: sum(one.get(name, 0.0) for one in everyones) for name in names}


def _all_mean(tensors: list[Tensor]) -> None:
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(part.view_as(tensor))


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """What "auto" stands for on a device: bf16 on GPUs that have it, fp32 elsewhere."""
    if wanted != "auto":
        return wanted  # pyright: ignore[reportReturnType]
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
