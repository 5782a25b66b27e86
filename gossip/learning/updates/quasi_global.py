"""Quasi-global momentum: from what *mixing* made of a round, not from own gradients alone.

QG-DSGDm (Lin, Karimireddy, Stich, Jaggi, ICML 2021). With x the model at the beginning of this local update, x⁻ at the
beginning of the last one, and Σ η the sum of that one's learning rates:

    begin   d = (x⁻ − x) / Σ η ;  m ← ν m + (1 − ν) d ;  v ← m
    step    v ← μ v + g ;  y ← y − η v

A displacement ‖d‖ more than ten times that of the own steps is a takeover or an attack, no step, and is left out. After
rounds that were missed, Σ η stands for as many. A constant gradient g gives m = g / (1 − μ): the best learning rate is
between a tenth of plain SGD's and the same. No bytes are sent for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gossip.learning.updates.base import UpdateContext
from gossip.learning.updates.sgd import Sgd
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State

DISPLACEMENT_MAX = 10.0
"""‖d‖ over the mean step's length of the own last update, beyond which the model came from elsewhere."""


class QuasiGlobal(Sgd):
    """Heavy-ball steps that begin with the momentum of the network, not of the peer."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return x⁻, m, and of the last local update: its round + 1, Σ η, and the length of its own mean step."""
        size = space.trained_size
        return {
            "start": Rows(size),
            "slow": Rows(size),
            "velocity": Rows(size, kept=False),
            "previous": Rows(1),
            "lr_sum": Rows(1),
            "own_step": Rows(1),
        }

    def begin(self, models: Tensor, state: State, context: UpdateContext) -> State:
        """Take up what mixing made of the last round."""
        slow = state["slow"]
        gap = (context.round + 1 - state["previous"]).clamp(min=1)
        moved = (state["start"] - models) / (state["lr_sum"] * gap)
        length = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        taken = (state["previous"] > 0) & (length <= DISPLACEMENT_MAX * state["own_step"])  # false for NaN
        nu = self.settings.slow if self.settings.slow is not None else self.local.momentum
        slow = torch.where(taken, nu * slow + (1 - nu) * moved, slow)
        return {**state, "start": models.clone(), "slow": slow, "velocity": slow.clone()}

    def end(
        self, models: Tensor, state: State, context: UpdateContext, steps: Tensor
    ) -> tuple[Tensor, State]:
        """Note when it was and how far the own steps went."""
        lr_sum = steps * context.lr
        own = torch.linalg.vector_norm(state["start"] - models, dim=1, keepdim=True) / lr_sum
        kept = {"previous": context.round + 1, "lr_sum": lr_sum, "own_step": own}
        # Without a step there is no mean step to measure the next displacement by.
        nothing = {"previous": torch.zeros_like(lr_sum), "lr_sum": lr_sum, "own_step": torch.zeros_like(own)}
        return models, {**state, **{key: torch.where(steps > 0, kept[key], nothing[key]) for key in kept}}
