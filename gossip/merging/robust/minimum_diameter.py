"""Minimum-diameter averaging, MDA (El Mhamdi et al. 2020, arXiv 1905.03853, after Rousseeuw 1985). No weights.

    S* = argmin_{|S| = n - f}  max_{i, j in S} ||x_i - x_j||,        F = (1 / (n - f)) Σ_{i in S*} x_i

The diameter is one pair's distance, so several sets may have the same: of those the one with the least sum of squared
distances, and of equals again the mean.

Of a set S of n - f, S* leaves out at most f and has as many others, each no farther than 2 Δ from any of those: Δ is
the diameter of S, which that of S* does not exceed, and the two have a model in common. Δ² is at most 2 (n - f) times
the mean squared distance from S's mean, so (f, κ)-robust with κ ≤ 8 f² / (n - f).
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from gossip.merging.robust.models import Models
from gossip.merging.robust.subsets import BestSubset, Subsets, least


class MinimumDiameterAveraging(BestSubset):
    """See the module."""

    def best(self, models: Models, members: Subsets) -> NDArray[np.intp]:
        """Return the subsets of least diameter."""
        squared = models.squared_distances
        diameters, sums = np.zeros((2, len(members)))
        for a, b in itertools.combinations(range(members.shape[1]), 2):
            pair = squared[members[:, a], members[:, b]]
            np.maximum(diameters, pair, out=diameters)
            sums += pair
        noise = models.noise[members]
        return least(diameters, 2 * noise.max(axis=1), sums, members.shape[1] * noise.sum(axis=1))
