"""AdamW: steps scaled by the gradient's own history, weight decay apart from it (Loshchilov & Hutter, ICLR 2019).

    m ← β₁ m + (1 − β₁) g        s ← β₂ s + (1 − β₂) g²        k ← k + 1
    y ← y − η (m̂ / (√ŝ + ε) + λ y)        m̂ = m / (1 − β₁ᵏ),  ŝ = s / (1 − β₂ᵏ)

The moments are the peer's own, never sent nor merged. They begin anew with each local update, which is right for some
twenty steps with β₂ = 0.95; with fifty and more `keep_moments` keeps them, as they were before the merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from gossip.learning.updates.base import GradientAt, LocalUpdate
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State


class AdamW(LocalUpdate):
    """Adam with decoupled weight decay."""

    decays_weights: ClassVar[bool] = True

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return both moments and the number of steps behind them."""
        kept, size = self.settings.keep_moments, space.trained_size
        return {"first": Rows(size, kept), "second": Rows(size, kept), "count": Rows(1, kept)}

    def step(self, gradient: GradientAt, models: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """Return models and moments after one step."""
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        g = gradient(models)
        first = torch.lerp(state["first"], g, 1 - beta1)
        second = (state["second"] * beta2).addcmul_(g, g, value=1 - beta2)
        count = state["count"] + 1
        root = (second / (1 - beta2**count)).sqrt_().add_(self.settings.epsilon)
        scaled = (first / (1 - beta1**count)).div_(root)
        if self.local.weight_decay:
            scaled.add_(models, alpha=self.local.weight_decay)
        return torch.addcmul(models, scaled, lr, value=-1), {"first": first, "second": second, "count": count}
