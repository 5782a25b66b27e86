"""Which models go whole, though the codec has receivers fill in what they hold. Free of torch; the same in all worlds.

A peer's first model does, so that everybody begins from the same; so does one whose message says so; and the first
model to whoever comes later than that, who may hold nothing of what the others have been told.
"""

from __future__ import annotations

from typing import NamedTuple

from gossip.protocols.base import Message, PeerId


class Turn(NamedTuple):
    """A message that carries a model."""

    number: int
    """Which of the sender's, since its process began."""
    whole: bool
    """It goes whole to everybody."""


class Wholes:
    """One process' memory of whom it has sent models to."""

    __slots__ = ("_late", "_made")

    def __init__(self) -> None:
        self._made = 0
        self._late: set[PeerId] = set()

    def came(self, peer: PeerId) -> None:
        """Note that `peer` can be reached from now on."""
        if self._made:
            self._late.add(peer)

    def turn(self, message: Message) -> Turn:
        """Return whose turn it is; call once for each message that is made."""
        number = self._made
        self._made += 1
        return Turn(number, message.whole or not number)

    def alone(self, peer: PeerId) -> bool:
        """Return whether this message goes to `peer` whole, whatever it does to the others."""
        if peer not in self._late:
            return False
        self._late.remove(peer)
        return True
