"""Rules that shorten differences instead of leaving models out.

Centred clipping ignores the mixing weights; self-centred clipping and CS+ are gossip steps and use them: what a
neighbour's model is pulled back by stays with the own one.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gossip.merging.robust.base import Combining, Outcome
from gossip.merging.robust.distances import Matrix
from gossip.merging.robust.models import Models
from gossip.merging.robust.settings import (
    CenteredClippingSettings,
    ClippedSumSettings,
    SelfCenteredClippingSettings,
)
from gossip.merging.robust.ties import groups, smallest

WEIGHT_ROUNDING = 1e-9
"""Sums of mixing weights are compared up to this."""


class CenteredClipping(Combining):
    """v ← v + (1/n) Σ_j (x_j - v) min(1, τ/||x_j - v||), `iterations` times.

    Karimireddy et al. 2021, arXiv 2012.10333. It starts at the own model, which is what the last merge left,
    trained since, or where that is no input at the others' median: no state is kept between merges.
    """

    settings: CenteredClippingSettings

    def coefficients(self, models: Models) -> Outcome:
        """See the class."""
        products = models.products
        norms = np.diagonal(products)
        centre = np.zeros(len(models))
        scale = np.ones(len(models))
        for _ in range(self.settings.iterations):
            along = products @ centre
            away = np.sqrt(np.maximum(norms - 2 * along + centre @ along, 0.0))
            scale = _scale(away, self.settings.tau)
            centre = centre * (1 - scale.mean()) + scale / len(models)
        return Outcome(centre, pulled=_pulled(scale))


class _Gossip(Combining):
    """x_i ← x_i + η Σ_j W_ij clip(x_j - x_i, τ), with a τ of each rule's own."""

    left_out: ClassVar[str] = "clipped"
    eta = 1.0

    def coefficients(self, models: Models) -> Outcome:
        """See the class."""
        away = models.distances_from_own
        weights = models.weights.copy()
        if models.own_index is not None:
            weights[models.own_index] = 0.0
        scale = _scale(away, self.reach(models, weights, away))
        coefficients = self.eta * weights * scale
        if models.own_index is not None:
            coefficients[models.own_index] = 1 - coefficients.sum()
        return Outcome(coefficients, pulled=_pulled(scale))

    def reach(self, models: Models, weights: Matrix, away: Matrix) -> float:
        """Return τ from the neighbours' weights W_ij (own 0) and distances (m)."""
        raise NotImplementedError


class SelfCenteredClipping(_Gossip):
    """ClippedGossip: x_i ← Σ_j W_ij (x_i + clip(x_j - x_i, τ_i)) (He et al. 2022, arXiv 2202.01545).

    τ is given, or adaptive: τ_i² = (1/δ_i) Σ_{j honest} W_ij ||x_i - x_j||² (their Theorem 3), where the f
    farthest stand for the Byzantine ones, and the f largest weights for δ_i. With f = 0 nothing is clipped.
    """

    settings: SelfCenteredClippingSettings

    def reach(self, models: Models, weights: Matrix, away: Matrix) -> float:
        """See the class."""
        tau = self.settings.tau
        if tau is not None:
            return float(tau)
        byzantine = _largest(weights, models.f)
        if byzantine <= 0:
            return float(np.inf)
        neighbours = np.flatnonzero(weights)
        nearest, shares = smallest(away[neighbours], max(0, len(neighbours) - models.f))
        near = neighbours[nearest]
        return float(np.sqrt((weights[near] * shares) @ away[near] ** 2 / byzantine))


class ClippedSum(_Gossip):
    """CS+: x_i ← x_i - η Σ_j W_ij clip(x_i - x_j, τ) (Gaucher et al. 2025, arXiv 2405.03449).

    τ is the largest distance up to which the neighbours, the nearest first, weigh no more than W_tot - 2b,
    where b is the weight that Byzantine neighbours may have: the f largest. If none is so near, nobody is
    believed. Of equally far ones the heaviest is counted first.
    """

    def __init__(self, settings: ClippedSumSettings) -> None:
        super().__init__(settings)
        self.eta = settings.eta

    def reach(self, models: Models, weights: Matrix, away: Matrix) -> float:
        """See the class."""
        neighbours = np.flatnonzero(weights)
        rank = np.empty(len(neighbours))
        for number, group in enumerate(groups(away[neighbours])):
            rank[group] = number
        order = neighbours[np.lexsort((-weights[neighbours], rank))]
        believed = weights.sum() - 2 * _largest(weights, models.f)
        inside = np.cumsum(weights[order]) <= believed + WEIGHT_ROUNDING
        return float(away[order][inside].max(initial=0.0))


def _scale(away: Matrix, reach: float) -> Matrix:
    """Return min(1, τ/d) (m)."""
    scale = np.ones(len(away))
    far = away > reach
    scale[far] = reach / away[far]
    return scale


def _pulled(scale: Matrix) -> frozenset[int]:
    return frozenset(np.flatnonzero(scale < 1).tolist())


def _largest(weights: Matrix, count: int) -> float:
    return float(np.sort(weights)[::-1][:count].sum())
