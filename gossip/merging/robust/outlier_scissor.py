"""IOS, the iterative outlier scissor (Wu, Chen and Ling 2023, arXiv 2206.04568). It uses the mixing weights.

    U ← own and received;   x̄ = Σ_{j in U} w_j x_j / Σ_{j in U} w_j
    f times:  U ← U without argmax_{j in U, not own} ||x_j - x̄||;   F = the last x̄

Of several that are equally far each loses an equal part of its weight. The own model is never cut. What is promised
holds while Byzantine neighbours have less than a third of the weight.
"""

from __future__ import annotations

import numpy as np

from gossip.merging.robust.base import Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import MIXED_NOISE, Models
from gossip.merging.robust.ties import minima

LEFT_ROUNDING = 1e-9
"""Less than this of a model is none of it."""


class IterativeOutlierScissor(Combining):
    """See the module."""

    def coefficients(self, models: Models) -> Outcome:
        """See the module."""
        weights = models.weights.copy()
        if models.own_index is not None:
            # What did not come, or was of no use, has left its weight to own.
            weights[models.own_index] = 0.0
            weights[models.own_index] = 1 - weights.sum()
        left: Matrix = np.ones(len(models))
        """How much of each row is in U."""
        rounding = models.noise + MIXED_NOISE * np.abs(np.diagonal(models.products))
        for _ in range(models.f):
            to_cut = 1.0
            while to_cut > LEFT_ROUNDING:
                candidates = np.flatnonzero(left > LEFT_ROUNDING)
                candidates = candidates[candidates != models.own_index]
                if not len(candidates):
                    break
                squared = _from_mean(models, weights * left)[candidates]
                farthest = candidates[minima(-squared, slack=rounding[candidates] + rounding.max())]
                there = left[farthest].sum()
                cut = min(to_cut, there)
                left[farthest] *= 1 - cut / there
                to_cut -= cut
        shares = weights * np.where(left > LEFT_ROUNDING, left, 0.0)
        return Outcome(shares / shares.sum())


def _from_mean(models: Models, weights: Matrix) -> Matrix:
    """Return ||y_j - x̄||² (m) about the weighted mean x̄."""
    shares = weights / weights.sum()
    along = models.products @ shares
    squared: Matrix = np.diagonal(models.products) - 2 * along + shares @ along
    return squared
