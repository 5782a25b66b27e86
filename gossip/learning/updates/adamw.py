"""AdamW: steps scaled by the gradient's own history, weight decay apart from it (Loshchilov & Hutter, ICLR 2019).

    m ← β₁ m + (1 − β₁) g        s ← β₂ s + (1 − β₂) g²        k ← k + 1
    y ← y − η (m̂ / (√ŝ + ε) + λ y)        m̂ = m / (1 − β₁ᵏ),  ŝ = s / (1 − β₂ᵏ)

The moments are the peer's own, never sent nor merged. They begin anew with each local update, which is right for some
twenty steps with β₂ = 0.95; with fifty and more `keep_moments` keeps them, as they were before the merge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from gossip.learning.updates.base import GradientAt, LocalUpdate
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State

BLOCK = 1 << 16
"""Entries that `step_in_place` moves at a time: five vectors of them stay in the cache."""

Places: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Where the weights of a slot and their two moments lie."""


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

    def step_in_place(
        self, gradients: Sequence[Tensor], places: Sequence[Places], count: Tensor, lr: Tensor
    ) -> None:
        """Do the same step, bit by bit, where one model's trained slots and its moments lie.

        Args:
            gradients: by slots, in any shape; their memory is spent.
            places: of each slot the weights and both moments, contiguous.
            count: (1, 1).
            lr: ().
        """
        beta1, beta2, epsilon = self.settings.beta1, self.settings.beta2, self.settings.epsilon
        count.add_(1)
        first_share, second_share = (1 - beta1**count)[0], (1 - beta2**count)[0]
        largest = max(g.numel() for g in gradients)
        scratch = torch.empty(min(BLOCK, largest), device=lr.device)
        for whole, place in zip(gradients, places, strict=True):
            blocks = (torch.split(each.reshape(-1), BLOCK) for each in (whole, *place))
            for g, y, first, second in zip(*blocks, strict=True):
                first.lerp_(g, 1 - beta1)
                second.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                root = torch.div(second, second_share, out=g).sqrt_().add_(epsilon)
                scaled = torch.div(first, first_share, out=scratch[: len(g)]).div_(root)
                if self.local.weight_decay:
                    scaled.add_(y, alpha=self.local.weight_decay)
                y.addcmul_(scaled, lr, value=-1)
