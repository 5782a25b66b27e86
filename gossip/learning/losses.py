"""Losses of a mini-batch without a backward pass: what a device with memory for inference alone can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gossip.learning.local_training import LocalTraining


def losses_of(
    training: LocalTraining, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor, *, stacked: bool
) -> Tensor:
    """Return the losses (n,) at trained slots (n, T), in evaluation mode: nothing is drawn, no statistics move.

    Args:
        training: whose network and loss.
        trained: of one model (1, T), or of a stack (n, T).
        rest: statistics and counters, with the leading axis of a stack only.
        x: the mini-batch, likewise.
        y: its targets, likewise.
        stacked: whether it is a stack.
    """

    def loss(trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return training.loss(training.forward(trained, rest, x), y)

    module = training.forward.module
    module.eval()
    try:
        with torch.no_grad():
            if stacked:
                found: Tensor = torch.func.vmap(loss)(trained, rest, x, y)
                return found
            return loss(trained[0], rest, x, y).reshape(1)
    finally:
        module.train()
