"""Rules that look at each coordinate alone. They ignore the mixing weights.

For models whose differences are spread over all coordinates; an attacker that stays inside the honest range in
every single one of them passes, however far it is as a whole.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np

from gossip.merging.base import MergeContext
from gossip.merging.robust.base import Outcome, RobustMerge
from gossip.merging.robust.distances import Matrix, Vector
from gossip.merging.robust.models import Models
from gossip.merging.robust.order_statistics import (
    Statistic,
    by_blocks,
    mean_around_median,
    median,
    trimmed_mean,
)

JUDGED_COORDINATES_MAX = 128
"""A row's share is told from so many coordinates: near enough for a report, and cheap beside the rule."""


MIXED_ROUNDING = 1e-12
"""What lies between two coordinates of mixed rows that are the same, at most: sums that cancel, or one rounding to
float32."""


class Coordinatewise(RobustMerge):
    """One order statistic per coordinate."""

    left_out: ClassVar[str] = "extreme"
    measures: ClassVar[bool] = False

    def decide(self, models: Models, out: Vector, context: MergeContext | None) -> Outcome:
        """Apply the statistic block by block, and see on a sample of the coordinates who decided."""
        by_blocks(models.columns, self.statistic(models), rows=len(models), out=out)
        return Outcome(self._decided(models))

    def statistic(self, models: Models) -> Statistic:
        """Return what to compute of each column."""
        raise NotImplementedError

    def window(self, models: Models) -> tuple[int, int]:
        """Return which ranks, counted from 0, decide about a coordinate: the first and the one after the last."""
        raise NotImplementedError

    def _ordered_by(self, rows: Matrix) -> Matrix:
        return rows

    def _decided(self, models: Models) -> Matrix:
        rows = np.stack(models.sampled_columns(JUDGED_COORDINATES_MAX)).astype(np.float64)
        first, last = self.window(models)
        order = np.argsort(self._ordered_by(rows), axis=0, kind="stable")[first:last]
        counts = np.bincount(order.ravel(), minlength=len(models))
        return counts / max(1, order.size)


class Median(Coordinatewise):
    """Coordinate-wise median, of an even number the mean of the middle two (Yin et al. 2018, arXiv 1803.01498)."""

    def statistic(self, models: Models) -> Statistic:
        """See the class."""
        return median

    def window(self, models: Models) -> tuple[int, int]:
        """The one or two in the middle."""
        return (len(models) - 1) // 2, len(models) // 2 + 1


class TrimmedMean(Coordinatewise):
    """Coordinate-wise mean without the f smallest and the f largest (Yin et al. 2018, arXiv 1803.01498)."""

    def statistic(self, models: Models) -> Statistic:
        """See the class."""
        return functools.partial(trimmed_mean, f=models.f)

    def window(self, models: Models) -> tuple[int, int]:
        """All but the f smallest and the f largest."""
        return models.f, len(models) - models.f


class Meamed(Coordinatewise):
    """Coordinate-wise mean of the n - f values nearest to the median (Xie et al. 2018, arXiv 1802.10116)."""

    def statistic(self, models: Models) -> Statistic:
        """See the class."""
        rounding = max(MIXED_ROUNDING, 4 * float(np.finfo(models.own.dtype).eps))
        rounding = 0.0 if models.mixing is None else rounding
        return functools.partial(mean_around_median, f=models.f, rounding=rounding)

    def window(self, models: Models) -> tuple[int, int]:
        """The nearest n - f."""
        return 0, len(models) - models.f

    def _ordered_by(self, rows: Matrix) -> Matrix:
        away: Matrix = np.abs(rows - np.median(rows, axis=0))
        return away
