"""Krum and Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757). They ignore the mixing weights.

Scores as ByzFL has them: the sum of squared distances to the n - f nearest rows, itself included; Blanchard et
al. take one less. Of equal scores the first peer's by name wins.
"""

from __future__ import annotations

import numpy as np

from gossip.merging.robust.base import Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import KrumSettings


def scores(models: Models) -> Matrix:
    """Return Krum's score of each row (m): small where n - f rows are near."""
    nearest = np.sort(models.squared_distances, axis=1)[:, : len(models) - models.f]
    return np.asarray(nearest.sum(axis=1))


class Krum(Combining):
    """The one row with the lowest score: an input, unchanged. `own_share` of the own model may be mixed in."""

    settings: KrumSettings

    def coefficients(self, models: Models) -> Outcome:
        """See the class."""
        coefficients = np.zeros(len(models))
        coefficients[np.argmin(scores(models))] = 1 - self.settings.own_share
        if models.own_index is not None:
            coefficients[models.own_index] += self.settings.own_share
        return Outcome(coefficients)


class MultiKrum(Combining):
    """The mean of the n - f rows with the lowest scores."""

    def coefficients(self, models: Models) -> Outcome:
        """See the class."""
        keep = len(models) - models.f
        coefficients = np.zeros(len(models))
        coefficients[np.argsort(scores(models), kind="stable")[:keep]] = 1 / keep
        return Outcome(coefficients)
