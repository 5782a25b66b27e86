"""The network in three parts: a backbone that is frozen, a neck that is learnt together, a head that stays at home."""

from __future__ import annotations

import torch
from torch import nn


class Network(nn.Module):
    """Images (batch, 1, 8, 8) become logits (batch, classes)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.neck = nn.Sequential(nn.Linear(32 * 2 * 2, 32), nn.ReLU())
        self.head = nn.Linear(32, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes)."""
        return self.head(self.neck(self.backbone(x)))


def make(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a fresh network."""
    return Network(input_shape[0], classes)
