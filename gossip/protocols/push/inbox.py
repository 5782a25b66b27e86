"""Received models that are not merged yet: the newest of each sender."""

from __future__ import annotations

from typing import NamedTuple

from gossip.protocols.base import Model, PeerId


class ReceivedModel(NamedTuple):
    """One received model."""

    age: int
    sender: PeerId
    round: int
    model: Model


class Inbox:
    """Bounded by the number of neighbours: a sender's newer model takes the older one's place."""

    __slots__ = ("_kept", "_newest", "_remembered")

    def __init__(self) -> None:
        self._kept: dict[PeerId, ReceivedModel] = {}
        """In the order of arrival."""
        self._remembered: dict[PeerId, ReceivedModel] = {}
        """Models far ahead that were merged already, but may still be begun from."""
        self._newest: dict[PeerId, int] = {}
        """Updates that each sender had done when it sent its newest model, merged ones included."""

    def put(self, model: ReceivedModel) -> bool:
        """Keep a model, unless a newer one of its sender overtook it; return whether it was kept.

        Of models sent after equally many updates the last counts: in answer to news a peer pushes what it merged, and
        one that is done pushes on.
        """
        if model.round < self._newest.get(model.sender, model.round):
            return False
        self._kept.pop(model.sender, None)
        self._kept[model.sender] = model
        self._newest[model.sender] = model.round
        return True

    def begin_anew(self, sender: PeerId) -> None:
        """Note that a sender's next model is its newest, whatever it counts: a restart goes back to a checkpoint."""
        self._newest.pop(sender, None)

    def ahead_of(self, age: int) -> list[ReceivedModel]:
        """Return the models older than `age`, ascending by age and then by sender; the newest of each sender."""
        if self._remembered:
            self._remembered = {sender: kept for sender, kept in self._remembered.items() if kept.age > age}
        both = {**self._remembered, **self._kept} if self._remembered else self._kept
        return sorted(
            (kept for kept in both.values() if kept.age > age), key=lambda kept: (kept.age, kept.sender)
        )

    def in_order(self) -> list[ReceivedModel]:
        """Return all models in the order in which they came."""
        return list(self._kept.values())

    def drop(self, sender: PeerId) -> None:
        """Forget a sender's model."""
        self._kept.pop(sender, None)
        self._remembered.pop(sender, None)

    def clear(self) -> None:
        """Forget everything."""
        self._newest.clear()
        self._kept.clear()
        self._remembered.clear()

    def take(self, *, remember_above: int) -> list[ReceivedModel]:
        """Return all models in the order of senders, on which sums depend, and begin anew.

        Those older than `remember_above` go on counting for `ahead_of`.
        """
        taken = [self._kept[sender] for sender in sorted(self._kept)]
        self._remembered.update((kept.sender, kept) for kept in taken if kept.age > remember_above)
        self._kept.clear()
        return taken

    def __contains__(self, sender: object) -> bool:
        """Return whether a model of `sender` waits to be merged."""
        return sender in self._kept

    def __len__(self) -> int:
        return len(self._kept)
