"""A trained network among networks in training."""

from typing import Any, Self

from torch import nn


class Frozen(nn.Module):
    """A network that others learn from and that never changes.

    It stays in evaluation mode whatever it is told, its weights take no gradients (what flows through it does), copies
    of it are itself, and its state is empty: it is read from its own file again, not from checkpoints of others.

    Args:
        network: with its weights; taken over.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, *given: Any) -> Any:
        """What the network makes of it."""
        return self.network(*given)

    def train(self, mode: bool = True) -> Self:
        """Stay as it is."""
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Nothing to load. Raises ValueError for weights, which are another network's."""
        if state_dict:
            raise ValueError(f"a frozen {type(self.network).__name__} takes no weights from a checkpoint")
        return nn.Module().load_state_dict({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
