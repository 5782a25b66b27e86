"""CAF, the covariance-bound agnostic filter (Allouah et al. 2025, arXiv 2505.01874). No mixing weights.

Every model begins with c_i = 1. While Σ c_i > n - 2f, with the weighted mean and covariance

    μ = Σ c_i x_i / Σ c_i,        Σ_c = Σ c_i (x_i - μ)(x_i - μ)ᵀ / Σ c_i,        λ, v its largest eigenpair,

who is far along v loses weight, and the farthest all of it:  τ_i = <v, x_i - μ>²,  c_i ← c_i (1 - τ_i / max_j τ_j) over
all c_j > 0. The result is the μ that had the smallest λ. No bound on the honest models' covariance need be known, and
nothing is chosen among subsets: at most 2f steps of n³ numbers, since each takes all that is left of one model or more.
That is why the maximum is over those that have weight: one that has lost it all and is far away would leave nearly all
weight to the others, for ever.

Where the largest eigenvalue is there several times, v is any vector of a space, and τ_i the squared length in it.
"""

from __future__ import annotations

import numpy as np

from gossip.merging.robust.base import Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import MIXED_NOISE, Models
from gossip.merging.robust.ties import TIE

WEIGHT_ROUNDING = 1e-9


class CovarianceFilter(Combining):
    """See the module."""

    def coefficients(self, models: Models) -> Outcome:
        """Return c_i / Σ c_i of the step with the smallest largest eigenvalue."""
        count, products = len(models), models.products
        rounding = float((models.noise + MIXED_NOISE * np.abs(np.diagonal(products))).max())
        weights: Matrix = np.ones(count)
        best, smallest = weights / count, np.inf
        while not np.isfinite(smallest) or weights.sum() > count - 2 * models.f + WEIGHT_ROUNDING:
            shares = weights / weights.sum()
            value, along = _farthest(products, shares)
            if value < smallest * (1 - TIE):
                best, smallest = shares, value
            active = weights > 0
            if value <= rounding or not along[active].max() > 0:
                break  # what is left is all the same
            weights = np.where(active, weights * (1 - along / along[active].max()), 0.0)
            weights[weights < TIE] = 0.0
        return Outcome(best)


def _farthest(products: Matrix, shares: Matrix) -> tuple[float, Matrix]:
    """Return λ of the weighted covariance, and τ (n), of rows with these inner products and weights that sum to one."""
    mean = products @ shares
    centred = products - mean[:, None] - mean[None, :] + shares @ mean
    root = np.sqrt(shares)
    values, vectors = np.linalg.eigh(root[:, None] * centred * root[None, :])
    largest = float(values[-1])
    if not largest > 0:
        return 0.0, np.zeros(len(shares))
    top = values >= largest * (1 - TIE)
    # The eigenvector in the models' space is Σ_j root_j u_j (x_j - μ) / sqrt(λ).
    along: Matrix = (centred * root[None, :]) @ vectors[:, top] / np.sqrt(values[top])
    return largest, (along**2).sum(axis=1)
