"""The network: `[model] name = "python:model.py:make"` has every peer call `make`. The same file on all machines."""

from __future__ import annotations

import math

import torch
from torch import nn


class Network(nn.Module):
    """One hidden layer. Any module will do that takes (batch, *input_shape) and returns logits (batch, classes)."""

    def __init__(self, features: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes)."""
        logits: torch.Tensor = self.layers(x)
        return logits


def make(input_shape: tuple[int, ...], classes: int, hidden: int = 64) -> nn.Module:
    """Return a fresh network; `hidden` may be given in task.toml as `[model] arguments`."""
    return Network(math.prod(input_shape), classes, hidden)
