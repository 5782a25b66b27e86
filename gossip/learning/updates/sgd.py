"""Stochastic gradient descent, with heavy-ball momentum (Polyak 1964) where `[local] momentum` is set.

v ← μ v + g        v = 0 at the begin of a local update, unless `keep_momentum`
y ← y − η v
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gossip.learning.updates.base import GradientAt, LocalUpdate
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State


class Sgd(LocalUpdate):
    """Plain steps against the gradient, or against its momentum; one model's are done where it lies (`in_place`)."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return the velocity v, where there is momentum."""
        if not self.local.momentum:
            return {}
        return {"velocity": Rows(space.trained_size, kept=self.local.keep_momentum)}

    def step(self, gradient: GradientAt, models: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """Return models and velocity after one step."""
        return self.step_into(None, gradient, models, state, lr)

    def step_into(
        self, into: Tensor | None, gradient: GradientAt, models: Tensor, state: State, lr: Tensor
    ) -> tuple[Tensor, State]:
        """Return the same, the models in the memory `into` (n, T); None: in some of their own.

        `into` may be that of the gradient, and may not be that of `models`.
        """
        moved = gradient(models)
        if self.local.momentum:
            moved = torch.add(moved, state["velocity"], alpha=self.local.momentum)
            state = {**state, "velocity": moved}
        return torch.addcmul(models, moved, lr, value=-1, out=into), state
