"""BALANCE (Fang et al. 2024, arXiv 2406.10416): who is near own, in own lengths, and ever nearer. No f, no weights.

    S_i = { j : ||x_i - x_j|| ≤ γ exp(-κ t / T) ||x_i|| },        x_i ← α x_i + (1 - α) · mean of S_i

Where S_i is empty x_i stays. t is the round and T the run's rounds, `horizon`. As in UBAR the own model is the
measure; nothing is tried on samples.
"""

from __future__ import annotations

import math

import numpy as np

from gossip.errors import ProtocolMisuse
from gossip.merging.base import MergeContext
from gossip.merging.blocks import slices
from gossip.merging.robust.base import Outcome, RobustMerge
from gossip.merging.robust.distances import Matrix, Vector
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import BalanceSettings
from gossip.merging.robust.ties import TIE

NORM_BLOCK = 1 << 16


class Balance(RobustMerge):
    """See the module."""

    settings: BalanceSettings

    def decide(self, models: Models, out: Vector, context: MergeContext | None) -> Outcome:
        """See the module."""
        if context is None:
            raise ProtocolMisuse("balance asks what round it is and needs a merge context")
        chosen = self.settings
        shrunk = math.exp(-chosen.kappa * min(1.0, max(0, context.at.round) / chosen.horizon))
        near = models.distances_from_own <= chosen.gamma * shrunk * _norm(models.own) * (1 + TIE)
        if models.own_index is not None:
            near[models.own_index] = False
        coefficients: Matrix = np.zeros(len(models))
        if near.any():
            coefficients[near] = (1 - chosen.alpha) / np.count_nonzero(near)
        if models.own_index is not None:
            coefficients[models.own_index] = 1 - coefficients.sum()
        models.combine(coefficients, out)
        return Outcome(coefficients)


def _norm(vector: Vector) -> float:
    """Return ||x||, summed in float64."""
    parts = (vector[here].astype(np.float64) for here in slices(len(vector), NORM_BLOCK))
    return math.sqrt(math.fsum(float(part @ part) for part in parts))
