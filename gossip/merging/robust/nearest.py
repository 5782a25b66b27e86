"""Rules that take the own model for the measure of the others: what is near it, and what does as well on own data.

They ignore the mixing weights, and need honest peers to be near each other: with very different data near is
own.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from gossip.errors import ProtocolMisuse
from gossip.merging.base import MergeContext
from gossip.merging.robust.base import Combining, Outcome, RobustMerge
from gossip.merging.robust.distances import Matrix, Vector
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import UbarSettings
from gossip.merging.robust.ties import minima, smallest

HIGH_LOSS = "high loss"


class NearestNeighbourAveraging(Combining):
    """The mean of the n - f rows nearest to the own one: MoNNA's rule (Farhadkhani et al. 2023, arXiv 2210.00534)."""

    def coefficients(self, models: Models) -> Outcome:
        """See the class. The own row is the nearest, before copies of it; others that tie count in part."""
        squared, noise = models.distances_from_own**2, models.noise.copy()
        if models.own_index is not None:
            noise += noise[models.own_index]
            squared[models.own_index], noise[models.own_index] = -1.0, 0.0
        keep = len(models) - models.f
        coefficients = np.zeros(len(models))
        nearest, shares = smallest(squared, keep, then=models.unclipped, slack=noise)
        coefficients[nearest] = shares / keep
        return Outcome(coefficients)


class Ubar(RobustMerge):
    """UBAR, earlier MOZI: near in parameters, then good on own samples (Guo et al. 2021, arXiv 2010.10149).

    Stage 1 keeps the ρ·deg received models nearest to own; stage 2 those of them whose loss on a batch of own
    samples is not above own, or else the best one. x_i ← α x_i + (1 - α) · their mean. No f. Several that are
    equally far, or equally good, count in part where not all are wanted.
    """

    settings: UbarSettings

    def decide(self, models: Models, out: Vector, context: MergeContext | None) -> Outcome:
        """See the class. Computes the loss of at most ρ·deg + 1 models."""
        if context is None:
            raise ProtocolMisuse("ubar compares losses on own samples and needs a merge context")
        received = np.array([index for index in range(len(models)) if index != models.own_index])
        away = models.distances_from_own[received]
        tried, shares = smallest(away, max(1, math.ceil(self.settings.rho * len(received))))
        near = received[tried].tolist()
        own_loss, *losses = _losses([models.own, *(models.vectors[index] for index in near)], context, self)
        chosen = [place for place, loss in enumerate(losses) if loss <= own_loss]
        if not chosen and math.isfinite(min(losses)):
            chosen = minima(np.array(losses)).tolist()
        good = [near[place] for place in chosen]
        coefficients: Matrix = np.zeros(len(models))
        if good:
            coefficients[good] = (1 - self.settings.alpha) * shares[chosen] / shares[chosen].sum()
        if models.own_index is not None:
            coefficients[models.own_index] = 1 - coefficients.sum()
        models.combine(coefficients, out)
        return Outcome(
            coefficients, reasons=dict.fromkeys((index for index in near if index not in good), HIGH_LOSS)
        )


def _losses(vectors: list[Vector], context: MergeContext, rule: Ubar) -> list[float]:
    """Return each model's mean loss on the round's batch; infinite where the model gives no number."""
    count = len(context.y)
    if count > rule.settings.samples:
        chosen = np.sort(context.rng("ubar").choice(count, rule.settings.samples, replace=False))
        rows = torch.from_numpy(chosen).to(context.x.device)
        x, y = context.x[rows], context.y[rows]
    else:
        x, y = context.x[:], context.y
    losses = []
    for vector in vectors:
        logits = context.predict(torch.from_numpy(vector).to(x.device), x)
        loss = float(context.loss(logits, y))
        losses.append(loss if math.isfinite(loss) else math.inf)
    return losses
