"""The geometric median, argmin_z Σ_j ||z - x_j|| (RFA, Pillutla et al. 2022, arXiv 1912.13445). No f, no weights.

Weiszfeld's iteration, on coefficients: z stays a combination of the rows, and ||z - y_j|| follows from inner
products. An iteration therefore costs n² numbers whatever the models' size, and it is run until it stands
still. It begins at the row with the smallest sum of distances, which no minority can move far; from the origin,
and cut off after three iterations, the result would depend on where the origin is, and could end anywhere.

Of an even number of rows on one line every point between the middle two has the least sum: then it is the mean of
the rows that have it, as the median has it.
"""

from __future__ import annotations

import numpy as np

from gossip.merging.robust.base import Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import GeometricMedianSettings
from gossip.merging.robust.ties import minima

ITERATIONS_MAX = 2000
TOLERANCE = 1e-12
"""Change of the coefficients at which the iteration stands still."""
PULL_ROUNDING = 1e-9
"""Two rows of four, and two others of them elsewhere, are equally good: rounding is not to tell them apart."""


class GeometricMedian(Combining):
    """See the module."""

    settings: GeometricMedianSettings

    def coefficients(self, models: Models) -> Outcome:
        """Return the coefficients (m), which sum to one."""
        return Outcome(weiszfeld(models.products, models.squared_distances, nu=self.settings.nu))


def weiszfeld(products: Matrix, squared_distances: Matrix, *, nu: float) -> Matrix:
    """Return the coefficients (n) of the geometric median of rows with these inner products.

    Args:
        products: ⟨y_i - r, y_j - r⟩ (n, n) about a reference r near most rows.
        squared_distances: ||y_i - y_j||² (n, n).
        nu: smoothing, w_j = 1 / max(ν, ||z - y_j||); in units of the medoid's median distance.
    """
    distances = np.sqrt(squared_distances)
    medoids = minima(distances.sum(axis=1))
    optimal = [medoid for medoid in medoids.tolist() if _is_optimal(products, distances[medoid], medoid)]
    if optimal:
        # Those that minimise a convex function are a convex set.
        return np.asarray(np.eye(len(distances))[optimal].mean(axis=0))
    scale = float(np.median(distances[medoids], axis=1).mean())
    coefficients = (1 / np.maximum(distances[medoids], scale)).mean(axis=0)
    coefficients /= coefficients.sum()
    norms = np.diagonal(products)
    for _ in range(ITERATIONS_MAX):
        along = products @ coefficients
        squared = norms - 2 * along + coefficients @ along
        weights = 1 / np.sqrt(np.maximum(squared, (nu * scale) ** 2))
        weights /= weights.sum()
        moved = float(np.abs(weights - coefficients).max())
        coefficients = weights
        if moved <= TOLERANCE:
            break
    return np.asarray(coefficients)


def _is_optimal(products: Matrix, away: Matrix, row: int) -> bool:
    """Return whether a row minimises the sum of distances: its copies outweigh the others' joint pull.

    Vardi and Zhang 2000: || Σ_{j: d_j > 0} (y_j - y) / d_j || ≤ the number of rows at y. The minimum is at a
    row where it is at one at all only if that row is the best of them, so the medoid alone need be asked.
    """
    others = away > 0
    if not others.any():
        return True
    inverse = np.zeros(len(away))
    inverse[others] = 1 / away[others]
    # ||Σ_j u_j (y_j - y)||² from inner products about the reference.
    pull = inverse.copy()
    pull[row] -= inverse.sum()
    squared = float(pull @ products @ pull)
    return bool(np.sqrt(max(squared, 0.0)) <= np.count_nonzero(~others) * (1 + PULL_ROUNDING))
