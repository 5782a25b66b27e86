"""Krum and Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757). They ignore the mixing weights.

Scores as ByzFL has them: the sum of squared distances to the n - f nearest rows, itself included; Blanchard et
al. take one less.

The two rows that are nearest to each other have the same score where n - f = 2. Of equal scores the one wins that is
the better with one nearest row more, and so on; in perfect symmetry the first by its coordinates.
"""

from __future__ import annotations

import numpy as np

from gossip.merging.robust.base import Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import KrumSettings
from gossip.merging.robust.ties import Places, minima, smallest


def scores(models: Models, near: int) -> tuple[Matrix, Matrix]:
    """Return the sums of squared distances (m) to the `near` nearest rows, and by how much rounding may change them."""
    squared = models.squared_distances
    nearest = np.sort(squared, axis=1)[:, :near]
    sums = np.asarray(nearest.sum(axis=1))
    if models.mixing is None:
        return sums, np.zeros(len(models))
    places = np.argsort(squared, axis=1, kind="stable")[:, :near]
    return sums, near * models.noise + models.noise[places].sum(axis=1)


def best(models: Models) -> int:
    """Return the row with the lowest score."""
    left: Places = np.arange(len(models))
    for near in range(len(models) - models.f, len(models) + 1):
        sums, slack = scores(models, near)
        left = left[minima(sums[left], slack=slack[left])]
        if len(left) == 1:
            return int(left[0])
    return models.first_by_content(left.tolist())


class Krum(Combining):
    """The one row with the lowest score: an input, unchanged. `own_share` of the own model may be mixed in."""

    settings: KrumSettings

    def coefficients(self, models: Models) -> Outcome:
        """See the class."""
        coefficients = np.zeros(len(models))
        own_share = 0.0 if models.own_index is None else self.settings.own_share
        coefficients[best(models)] = 1 - own_share
        if models.own_index is not None:
            coefficients[models.own_index] += own_share
        return Outcome(coefficients)


class MultiKrum(Combining):
    """The mean of the n - f rows with the lowest scores; of equal ones at the end each counts in part."""

    def coefficients(self, models: Models) -> Outcome:
        """See the class."""
        keep = len(models) - models.f
        coefficients = np.zeros(len(models))
        sums, slack = scores(models, keep)
        chosen, shares = smallest(sums, keep, slack=slack)
        coefficients[chosen] = shares / keep
        return Outcome(coefficients)
