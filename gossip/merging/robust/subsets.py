"""All ways to choose n - f of n models, for the rules that take the best of them."""

from __future__ import annotations

import abc
import functools
import itertools
import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gossip.merging.robust.base import CannotMerge, Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import SUBSETS_MAX
from gossip.merging.robust.ties import minima

Subsets = NDArray[np.int64]
"""Members of each subset (subsets, n - f)."""


class TooManySubsets(CannotMerge):
    """More than `SUBSETS_MAX`: more models came than the settings allow for."""

    reason: ClassVar[str] = "too many"


class BestSubset(Combining):
    """The mean of the n - f rows that are the most alike; where several such sets are, the mean of their means."""

    def coefficients(self, models: Models) -> Outcome:
        """See the class.

        Raises:
            TooManySubsets: more than can be tried.
        """
        count = len(models)
        members = subsets(count, count - models.f)
        best = self.best(models, members)
        shares = np.bincount(members[best].ravel(), minlength=count)
        return Outcome(shares / (len(best) * members.shape[1]))

    @abc.abstractmethod
    def best(self, models: Models, members: Subsets) -> NDArray[np.intp]:
        """Return which of the subsets are the best."""


@functools.lru_cache(maxsize=16)
def subsets(count: int, size: int) -> Subsets:
    """Return the subsets of `size` of `count` places (subsets, size).

    Raises:
        TooManySubsets: there are more than `SUBSETS_MAX`.
    """
    number = math.comb(count, size)
    if number > SUBSETS_MAX:
        raise TooManySubsets(f"{number} ways to choose {size} of {count} models; at most {SUBSETS_MAX}")
    return np.array(list(itertools.combinations(range(count), size)), dtype=np.int64)


def least(values: Matrix, slack: Matrix, then: Matrix, then_slack: Matrix) -> NDArray[np.intp]:
    """Return where `values` are least, up to their `slack`, and of those where `then` is."""
    first = minima(values, slack=slack)
    return first[minima(then[first], slack=then_slack[first])]
