"""Models as plain floats: a run of the protocol alone, for measuring the engine and for very many peers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gossip.protocols.base import Contribution, GossipStep, Part


class ScalarLearning:
    """Training changes nothing; a merge is the weighted sum, at once."""

    codes = remembers = False

    def initial(self, peer: int) -> float:
        """Return a different number for each peer."""
        return float(peer)

    def train(self, model: float, peer: int, *, round: int) -> float:
        """Return the model as it is."""
        return model

    def begin_anew(self, peer: int) -> None:
        """Nothing is left beside models."""

    def merge(
        self,
        own: float,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        peer: int,
        at: GossipStep,
    ) -> float:
        """Return Σ_j W_ij x_j."""
        total = own_weight * own
        for contribution in received:
            total += contribution.weight * contribution.model
        return total

    def graft(self, base: float, source: float, part: Part) -> float:
        """Return the source: a number has no parts."""
        return source

    def moved(self, base: float, before: float, after: float) -> float:
        """Return the sum."""
        return base + (after - before)

    def adopt(self, own: float, received: Sequence[Contribution]) -> float:
        """Return the other's."""
        model: float = received[0].model
        return model

    def agreed(self, own: float, received: Sequence[Contribution]) -> float:
        """Return the median, of an odd number."""
        numbers = [each.model for each in received]
        return float(statistics.median(numbers if len(numbers) % 2 else [*numbers, own]))
