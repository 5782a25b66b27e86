"""What happens to the models before a rule sees them: `kind = "nnm+trimmed-mean"`. Applied from left to right.

Each is a matrix found from inner products, so it costs no pass over the models of its own.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping

import numpy as np

from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import RobustSettings
from gossip.merging.robust.ties import smallest

Rng = Callable[[str], np.random.Generator]


class PreAggregation(abc.ABC):
    """Models to models."""

    def __init__(self, settings: RobustSettings) -> None:
        self.settings = settings

    @abc.abstractmethod
    def __call__(self, models: Models, *, rng: Rng) -> Models:
        """Return the rows that the next stage sees."""


class NearestNeighbourMixing(PreAggregation):
    """NNM: each row becomes the mean of its n - f nearest, itself included (Allouah et al. 2023, arXiv 2302.01772).

    Of several that are equally far, and not all among the nearest, each counts in part.
    """

    def __call__(self, models: Models, *, rng: Rng) -> Models:
        """See the class."""
        count = len(models)
        keep = count - models.f
        squared = models.squared_distances.copy()
        np.fill_diagonal(squared, -1.0)  # itself first, before copies of it
        matrix = np.zeros((count, count))
        for row, away, noise in zip(matrix, squared, models.noise, strict=True):
            nearest, shares = smallest(away, keep, slack=models.noise + noise)
            row[nearest] = shares / keep
        return models.mixed(matrix, own_index=models.own_index)


class Bucketing(PreAggregation):
    """Means of random groups of s, the last one smaller (Karimireddy et al. 2022, arXiv 2006.09365)."""

    def __call__(self, models: Models, *, rng: Rng) -> Models:
        """See the class. The groups are drawn anew in every gossip step, and are each peer's own.

        They are drawn from the models in an order that their contents give, so that another name is no other group.
        Who lies may choose its place by that; f bad buckets at most are all that the rule is promised.
        """
        count, size = len(models), self.settings.bucket_size
        order = models.order[rng("bucketing").permutation(count)]
        matrix = np.zeros((-(-count // size), count))
        for bucket, row in enumerate(matrix):
            members = order[bucket * size : (bucket + 1) * size]
            row[members] = 1 / len(members)
        bucket_of = np.argmax(matrix > 0, axis=0)
        rows = models.row_of or range(count)
        return models.mixed(matrix, own_index=None, row_of=tuple(int(bucket_of[row]) for row in rows))


class Clipping(PreAggregation):
    """Differences from the own model are shortened to `clip_norm`, as the field shortens gradients.

    What was farther than another stays so for a rule that ranks by this distance, though both are as near now.
    """

    def __call__(self, models: Models, *, rng: Rng) -> Models:
        """See the class."""
        return _clipped(models, self._norms(models), self.settings.clip_norm or np.inf)

    @staticmethod
    def _norms(models: Models) -> Matrix:
        norms: Matrix = np.sqrt(np.maximum(np.diagonal(models.products), 0.0))
        return norms


class AdaptiveClipping(Clipping):
    """ARC: the ⌊2 (f/n) (n - f)⌋ longest are cut to the next one's length (Allouah et al. 2024, arXiv 2405.14432)."""

    def __call__(self, models: Models, *, rng: Rng) -> Models:
        """See the class."""
        norms, count = self._norms(models), len(models)
        clipped = 2 * models.f * (count - models.f) // count
        return _clipped(models, norms, float(np.sort(norms)[count - clipped - 1]))


def _clipped(models: Models, norms: Matrix, reach: float) -> Models:
    long = norms > reach
    scale = np.ones(len(norms))
    scale[long] = reach / norms[long]
    rows = models.row_of or range(len(norms))
    pulled = frozenset(model for model, row in enumerate(rows) if long[row])
    before = norms if models.unclipped is None else models.unclipped
    return models.mixed(np.diag(scale), own_index=models.own_index, pulled=pulled, unclipped=before)


PRE_AGGREGATIONS: Mapping[str, Callable[[RobustSettings], PreAggregation]] = {
    "nnm": NearestNeighbourMixing,
    "bucketing": Bucketing,
    "clipping": Clipping,
    "arc": AdaptiveClipping,
}
"""By the names that a `kind` is composed of; `gossip.merging.robust.settings` knows them, too."""
