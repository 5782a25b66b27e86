"""The network: an LSTM that reads a window and tells the next value."""

from __future__ import annotations

import torch
from torch import nn


class Forecast(nn.Module):
    """The last value, and what the LSTM adds to it."""

    def __init__(self, features: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.LSTM(features, hidden, batch_first=True)
        self.tell = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, outputs) for windows (batch, steps, features)."""
        states, _ = self.read(x)
        return self.tell(states[:, -1])


def make(input_shape: tuple[int, ...], outputs: int, hidden: int = 16) -> nn.Module:
    """Return a fresh network; `hidden` may be given in task.toml as `[model] arguments`."""
    return Forecast(input_shape[1], outputs, hidden)
