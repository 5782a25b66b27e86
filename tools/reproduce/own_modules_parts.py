"""What many kinds of networks are put together from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from own_modules_samples import CLASSES
from torch import Tensor, nn


class Apply(nn.Module):
    """Parts, and a forward pass that is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._pass = forward

    def forward(self, x: Tensor) -> Any:
        """Do it."""
        return self._pass(self, x)


def perceptron(*between: nn.Module, inputs: int = 12, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), *between, nn.Linear(width, CLASSES))
