"""Smallest-maximum-eigenvalue averaging, SMEA (Allouah et al. 2023, arXiv 2302.04787). No weights.

    S* = argmin_{|S| = n - f}  λ_max( (1 / |S|) Σ_{i in S} (x_i - x̄_S)(x_i - x̄_S)ᵀ ),        F = x̄_{S*}

The covariance's eigenvalues other than 0 are those of K / |S|, K_ij = <x_i - x̄_S, x_j - x̄_S>: a matrix of n - f rows,
whatever the models' size.

Two means of n - f models that have n - 2f in common are each no farther than sqrt(r λ) from the common ones' mean, with
r = f / (n - 2f) and λ the set's eigenvalue. So (f, κ)-robust with κ ≤ 4r, the sharpest in order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gossip.merging.robust.models import MIXED_NOISE, Models
from gossip.merging.robust.subsets import BestSubset, Subsets
from gossip.merging.robust.ties import minima

CHUNK = 1024
"""Subsets whose matrices are in memory at once: some megabytes."""


class SmallestMaximumEigenvalueAveraging(BestSubset):
    """See the module."""

    def best(self, models: Models, members: Subsets) -> NDArray[np.intp]:
        """Return the subsets of least largest eigenvalue."""
        products, size = models.products, members.shape[1]
        values = []
        for start in range(0, len(members), CHUNK):
            part = members[start : start + CHUNK]
            inner = products[part[:, :, None], part[:, None, :]]  # (subsets, n - f, n - f)
            rows = inner.mean(axis=2, keepdims=True)
            centred = inner - rows - rows.transpose(0, 2, 1) + rows.mean(axis=1, keepdims=True)
            values.append(np.linalg.eigvalsh(centred)[:, -1] / size)
        rounding = models.noise + MIXED_NOISE * np.abs(np.diagonal(products))
        return minima(np.concatenate(values), slack=rounding[members].sum(axis=1))
