"""The last model of each sender, for merges after the one that it came for.

Whoever is pushed one model in a period merges two, and of two models no rule can tell which one lies: the median of
two is their mean. With a memory a merge sees what each neighbour sent last, as in rounds, if up to M periods old, and
robust rules have the 2f + 1 models that they need.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from gossip.protocols.base import PeerId
from gossip.protocols.push.inbox import ReceivedModel


class Remembered(NamedTuple):
    """A model that was merged before."""

    kept: ReceivedModel
    wake_ups: int
    """Own ones until it was first merged."""


class Memory:
    """Bounded by the number of contacts: one model of each. Lost in a restart; the neighbours' next pushes fill it.

    Args:
        periods: M; 0 remembers nothing.
    """

    __slots__ = ("_periods", "_remembered")

    def __init__(self, periods: int) -> None:
        self._periods = periods
        self._remembered: dict[PeerId, Remembered] = {}

    def recall(
        self, fresh: Sequence[ReceivedModel], *, wake_ups: int, age_min: int, contacts: Container[PeerId]
    ) -> list[ReceivedModel]:
        """Return other senders' models that are not too old, by sender, and remember the fresh ones.

        Args:
            fresh: what came since the last merge, one of each sender.
            wake_ups: own ones so far.
            age_min: what is remembered and younger is behind, and forgotten.
            contacts: whoever is none any more is forgotten.
        """
        if not self._periods:
            return []
        for each in fresh:
            self._remembered.pop(each.sender, None)
        self._remembered = {
            sender: each
            for sender, each in self._remembered.items()
            if wake_ups - each.wake_ups <= self._periods and each.kept.age >= age_min and sender in contacts
        }
        recalled = [self._remembered[sender].kept for sender in sorted(self._remembered)]
        self._remembered.update((each.sender, Remembered(each, wake_ups)) for each in fresh)
        return recalled

    def periods_of(self, sender: PeerId, *, wake_ups: int) -> int:
        """Return for how many own periods a sender's model has been here, 0 where it is not remembered."""
        found = self._remembered.get(sender)
        return 0 if found is None else wake_ups - found.wake_ups

    def clear(self) -> None:
        """Forget everything."""
        self._remembered.clear()

    def __len__(self) -> int:
        return len(self._remembered)
