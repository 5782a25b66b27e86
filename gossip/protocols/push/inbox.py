"""Received models that are not merged yet: the newest of each sender."""

from __future__ import annotations

from typing import NamedTuple

from gossip.protocols.base import Model, PeerId


class Kept(NamedTuple):
    """One received model."""

    age: int
    sender: PeerId
    round: int
    model: Model


class Inbox:
    """Bounded by the number of neighbours: a sender's newer model takes the older one's place."""

    __slots__ = ("_kept", "_remembered", "arrivals")

    def __init__(self) -> None:
        self._kept: dict[PeerId, Kept] = {}
        self._remembered: dict[PeerId, Kept] = {}
        """Models far ahead that were merged already, but may still be taken over."""
        self.arrivals = 0
        """Models that came since the last merge, replaced ones included."""

    def put(self, model: Kept) -> bool:
        """Keep a model, unless a newer one of its sender overtook it; return whether it was kept."""
        known = self._kept.get(model.sender)
        if known is not None and known.round > model.round:
            return False
        self._kept[model.sender] = model
        self.arrivals += 1
        return True

    def ahead_of(self, age: int) -> list[Kept]:
        """Return the models older than `age`, ascending by age and then by sender; the newest of each sender."""
        if self._remembered:
            self._remembered = {sender: kept for sender, kept in self._remembered.items() if kept.age > age}
        both = {**self._remembered, **self._kept} if self._remembered else self._kept
        return sorted(
            (kept for kept in both.values() if kept.age > age), key=lambda kept: (kept.age, kept.sender)
        )

    def drop(self, sender: PeerId) -> None:
        """Forget a sender's model."""
        self._kept.pop(sender, None)
        self._remembered.pop(sender, None)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._remembered.clear()

    def take(self, *, remember_above: int) -> list[Kept]:
        """Return all models in the order of senders, on which sums depend, and begin anew.

        Those older than `remember_above` go on counting for `ahead_of`.
        """
        taken = [self._kept[sender] for sender in sorted(self._kept)]
        self._remembered.update((kept.sender, kept) for kept in taken if kept.age > remember_above)
        self._kept.clear()
        self.arrivals = 0
        return taken

    def __len__(self) -> int:
        return len(self._kept)
