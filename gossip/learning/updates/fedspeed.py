"""FedSpeed: a proximal term whose bias a dual takes away, so that many local steps on unequal data still agree.

FedSpeed (Sun, Shen, Huang, Ding and Tao, ICLR 2023, arXiv 2302.10429, Algorithm 1), with λ the inverse of the paper's:

    step    y ← y − η (g − ĝ + λ (y − x))          x where the local update began
    end     ĝ ← ĝ − λ (y − x);  hand on  y − ĝ / λ

In the paper a server averages what is handed on; here mixing does, and averages the duals with it. The proximal term
alone has its fixed point where each peer's own gradient is balanced by its distance from the others, which is not where
all gradients together are zero; the dual, a sum of those distances, moves it there. The paper's extra ascent step is
`[local] sam_rho`.

What is handed on is not what was learnt: it is further along by ĝ / λ, and only the average is a model to be judged.
After a round without an own update, and after a restart without a checkpoint, the dual begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gossip.learning.updates.base import UpdateContext
from gossip.learning.updates.fedprox import FedProx
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State


class FedSpeed(FedProx):
    """Steps with a proximal term and its dual."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return ĝ and the last update's round + 1, beside what the proximal term needs."""
        return {**super().rows(space), "dual": Rows(space.trained_size), "previous": Rows(1)}

    def begin(self, models: Tensor, state: State, context: UpdateContext) -> State:
        """Note where it begins; a dual of a round that is long past is none."""
        in_turn = (state["previous"] > 0) & (context.round == state["previous"])
        return {**super().begin(models, state, context), "dual": torch.where(in_turn, state["dual"], 0.0)}

    def end(
        self, models: Tensor, state: State, context: UpdateContext, steps: Tensor
    ) -> tuple[Tensor, State]:
        """Hand on the models with their duals taken off."""
        dual = state["dual"] - super().pull(models, state)
        return models - dual / self.settings.proximal, {**state, "dual": dual, "previous": context.round + 1}

    def pull(self, models: Tensor, state: State) -> Tensor:
        """Return λ (y − x) − ĝ."""
        return super().pull(models, state) - state["dual"]
