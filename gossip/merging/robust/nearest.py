"""Rules that take the own model for the measure of the others: what is near it, and what does as well on own data.

They ignore the mixing weights, and need honest peers to be near each other: with very different data near is
own.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from gossip.errors import ProtocolMisuse
from gossip.merging.base import MergeContext
from gossip.merging.robust.base import Combining, Outcome, RobustMerge
from gossip.merging.robust.distances import Matrix, Vector
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import UbarSettings

HIGH_LOSS = "high loss"


class NearestNeighbourAveraging(Combining):
    """The mean of the n - f rows nearest to the own one: MoNNA's rule (Farhadkhani et al. 2023, arXiv 2210.00534)."""

    def coefficients(self, models: Models) -> Outcome:
        """See the class. The own row is the nearest, before copies of it."""
        away = models.distances_from_own.copy()
        if models.own_index is not None:
            away[models.own_index] = -1.0
        keep = len(models) - models.f
        coefficients = np.zeros(len(models))
        coefficients[np.argsort(away, kind="stable")[:keep]] = 1 / keep
        return Outcome(coefficients)


class Ubar(RobustMerge):
    """UBAR, earlier MOZI: near in parameters, then good on own samples (Guo et al. 2021, arXiv 2010.10149).

    Stage 1 keeps the ρ·deg received models nearest to own; stage 2 those of them whose loss on a batch of own
    samples is not above own, or else the best one. x_i ← α x_i + (1 - α) · their mean. No f.
    """

    settings: UbarSettings

    def decide(self, models: Models, out: Vector, context: MergeContext | None) -> Outcome:
        """See the class. Computes the loss of at most ρ·deg + 1 models."""
        if context is None:
            raise ProtocolMisuse("ubar compares losses on own samples and needs a merge context")
        received = [index for index in range(len(models)) if index != models.own_index]
        away = models.distances_from_own
        near = sorted(received, key=lambda index: (away[index], index))
        near = near[: max(1, math.ceil(self.settings.rho * len(near)))]
        own_loss, *losses = _losses([models.own, *(models.vectors[index] for index in near)], context, self)
        good = [index for index, loss in zip(near, losses, strict=True) if loss <= own_loss]
        if not good and math.isfinite(min(losses)):
            good = [near[int(np.argmin(losses))]]
        coefficients: Matrix = np.zeros(len(models))
        coefficients[good] = (1 - self.settings.alpha) / max(1, len(good))
        if models.own_index is not None:
            coefficients[models.own_index] = 1 - coefficients.sum()
        models.combine(coefficients, out)
        return Outcome(
            coefficients, reasons=dict.fromkeys((index for index in near if index not in good), HIGH_LOSS)
        )


def _losses(vectors: list[Vector], context: MergeContext, rule: Ubar) -> list[float]:
    """Return each model's mean cross-entropy on the round's batch; infinite where the model gives no number."""
    count = len(context.y)
    if count > rule.settings.samples:
        chosen = np.sort(context.rng("ubar").choice(count, rule.settings.samples, replace=False))
        rows = torch.from_numpy(chosen).to(context.x.device)
        x, y = context.x[rows], context.y[rows]
    else:
        x, y = context.x, context.y
    losses = []
    for vector in vectors:
        logits = context.predict(torch.from_numpy(vector).to(x.device), x)
        loss = float(functional.cross_entropy(logits, y))
        losses.append(loss if math.isfinite(loss) else math.inf)
    return losses
