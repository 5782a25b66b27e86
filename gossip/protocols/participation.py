"""Weights for who is seldom there: each neighbour counts, over time, as much as its entry of W says.

Where participation goes with the data (phones that are online by day), plain averages learn what those know who are
always there. FedAU (Wang and Ji, ICLR 2024, arXiv 2306.03401, Algorithm 2) weighs a participant by the mean interval
between its participations, cut at K, which each can keep for itself:

    S ← S + 1 in every round
    if it came, or S = K:     M ← M + 1;   ω ← ω + (S − ω) / M;   S ← 0          ω = 1 before the first

The paper's server multiplies updates by ω. A peer mixes models, so here the entry W_ij of the row is multiplied, by the
ω of before this round, and the own model has the rest, at least a_min of the row:

    a_ij = W_ij · ω_j for those that came;   if Σ a_ij > 1 − a_min, all are scaled down to that;   a_ii = 1 − Σ a_ij

For a neighbour that comes with probability p, E[ω] = (1 − (1 − p)^K) / p, so that the mean of a_ij over time is W_ij if
p is not far below 1/K. The columns of what is applied do not sum to one: the mean of all models is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gossip.protocols.base import Contribution, PeerId

FORGET = 3
"""Times K: who stays away so long begins anew, or its first model after months would count K times."""


class Participation:
    """What one peer knows of how often its neighbours come; a restart goes on with what its checkpoint holds of it.

    Args:
        interval_max: K.
        self_min: a_min.
    """

    __slots__ = ("_interval_max", "_intervals", "_self_min")

    def __init__(self, *, interval_max: int, self_min: float) -> None:
        self._interval_max = interval_max
        self._self_min = self_min
        self._intervals: dict[PeerId, _Interval] = {}

    def weighed(
        self, row: Mapping[PeerId, float], own_weight: float, received: Sequence[Contribution]
    ) -> tuple[float, list[Contribution]]:
        """Return the own weight and the contributions with theirs, and count who of the row came."""
        factors = [self._of(each.sender).mean for each in received]
        came = {each.sender for each in received}
        for peer in row:
            self._of(peer).note(came=peer in came, most=self._interval_max)
        if all(factor == 1.0 for factor in factors):
            return own_weight, list(received)  # the row's own numbers, to the bit
        weights = [each.weight * factor for each, factor in zip(received, factors, strict=True)]
        total = sum(weights)
        most = 1 - self._self_min
        if total > most:
            weights, total = [weight * most / total for weight in weights], most
        return 1 - total, [
            each._replace(weight=weight) for each, weight in zip(received, weights, strict=True)
        ]

    def saved(self) -> str:
        """Return what is known, as JSON: peer -> S, M, ω, rounds of absence."""
        return json.dumps({peer: list(known.told) for peer, known in self._intervals.items()})

    def remember(self, saved: str) -> None:
        """Go on with what `saved` returned; a mean beyond K counts as K."""
        for peer, (since, closed, mean, absent) in json.loads(saved).items():
            known = self._of(peer)
            known.since, known.closed, known.absent = since, closed, absent
            known.mean = min(mean, float(self._interval_max))

    def _of(self, peer: PeerId) -> _Interval:
        found = self._intervals.get(peer)
        if found is None:
            found = self._intervals[peer] = _Interval()
        return found


class _Interval:
    """One neighbour's."""

    __slots__ = ("absent", "closed", "mean", "since")

    def __init__(self) -> None:
        self.since = 0
        """S."""
        self.closed = 0
        """M."""
        self.mean = 1.0
        """ω."""
        self.absent = 0
        """Rounds since it came, those of closed intervals among them."""

    @property
    def told(self) -> tuple[int, int, float, int]:
        return self.since, self.closed, self.mean, self.absent

    def note(self, *, came: bool, most: int) -> None:
        self.since += 1
        self.absent = 0 if came else self.absent + 1
        if self.absent >= FORGET * most:
            self.since, self.closed, self.mean = 0, 0, 1.0
        elif came or self.since >= most:
            self.closed += 1
            self.mean += (self.since - self.mean) / self.closed
            self.since = 0
