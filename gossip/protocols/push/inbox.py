"""Received models that are not merged yet: the newest of each sender."""

from __future__ import annotations

from typing import NamedTuple

from gossip.protocols.base import Model, PeerId


class Kept(NamedTuple):
    """One received model."""

    age: int
    sender: PeerId
    model: Model


class Inbox:
    """Bounded by the number of neighbours: a sender's newer model takes the older one's place."""

    __slots__ = ("_kept", "arrivals")

    def __init__(self) -> None:
        self._kept: dict[PeerId, Kept] = {}
        self.arrivals = 0
        """Models that came since the last merge, replaced ones included."""

    def put(self, sender: PeerId, age: int, model: Model) -> None:
        """Keep a model."""
        self._kept[sender] = Kept(age, sender, model)
        self.arrivals += 1

    def ahead_of(self, age: int) -> list[Kept]:
        """Return the models older than `age`, ascending by age and then by sender."""
        return sorted(
            (kept for kept in self._kept.values() if kept.age > age), key=lambda kept: (kept.age, kept.sender)
        )

    def drop(self, sender: PeerId) -> None:
        """Forget a sender's model."""
        del self._kept[sender]

    def take(self) -> list[Kept]:
        """Return all models in the order of senders, on which sums depend, and begin anew."""
        taken = [self._kept[sender] for sender in sorted(self._kept)]
        self._kept.clear()
        self.arrivals = 0
        return taken

    def __len__(self) -> int:
        return len(self._kept)
