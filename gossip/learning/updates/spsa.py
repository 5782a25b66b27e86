"""Steps without a backward pass: the slope along one direction, from two losses of the same mini-batch.

In the seed space a step of FedKSeed (arXiv 2312.06353, after MeZO, Malladi et al., NeurIPS 2023, arXiv 2305.17333, and
SPSA, Spall 1992) draws one of the K directions, and does

    ĝ = (F(a + ε e_k; ξ) − F(a − ε e_k; ξ)) / (2 ε);     a_k ← a_k − η ĝ

in evaluation mode, with the memory of a forward pass. The paper's server gives each scalar out with its seed, and needs
η to be the same in all rounds; here η ĝ is what is added up, so schedules hold.

Which k has its turn follows from round and step, a permutation a round, alike at all peers: the average of their models
is then a step along the same directions by the slope of all their losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gossip import seeding
from gossip.learning.updates.base import GradientAt, LocalUpdate, UpdateContext
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State


@lru_cache(maxsize=64)
def _turns(round: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return seeding.generator(0, "spsa", round=round).permutation(size)


class Spsa(LocalUpdate):
    """Two forward passes a step; momentum, SAM and clipping have no gradient to act on."""

    decays_weights: ClassVar[bool] = True

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return the round and the steps done in it, for the time of one local update."""
        return {"round": Rows(1, kept=False), "count": Rows(1, kept=False)}

    def begin(self, models: Tensor, state: State, context: UpdateContext) -> State:
        """Note which round it is."""
        return {**state, "round": context.round, "count": torch.zeros_like(context.round)}

    def step(self, gradient: GradientAt, models: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """Return models after one step along one direction."""
        size, epsilon = models.shape[1], self.settings.epsilon
        when = zip(state["round"][:, 0].tolist(), state["count"][:, 0].tolist(), strict=True)
        chosen = [int(_turns(int(round), size)[int(count) % size]) for round, count in when]
        at = torch.tensor(chosen, device=models.device)[:, None]  # (n, 1)
        losses: Any = gradient
        ahead, behind = (
            losses.losses(models.scatter_add(1, at, torch.full_like(lr, sign * epsilon))) for sign in (1, -1)
        )
        slope = (ahead - behind)[:, None] / (2 * epsilon)
        if self.local.weight_decay:
            slope = slope + self.local.weight_decay * models.gather(1, at)
        return models.scatter_add(1, at, -lr * slope), {**state, "count": state["count"] + 1}
