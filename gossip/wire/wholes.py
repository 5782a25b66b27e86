"""Which models go whole, though the codec has receivers use what they hold. Free of torch; the same in all worlds.

Where they fill in their own numbers (`reference = "own"`), a peer's first model goes whole, so that everybody begins
from the same; and the first one to whoever comes later than that, who may hold nothing of what others have been told.
Where they add to what a link has brought ("link"), each model does that does not follow the one before on its link.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

from gossip.protocols.base import Message, PeerId


class Turn(NamedTuple):
    """A message that carries a model."""

    number: int
    """Which of the sender's, since its process began."""
    whole: bool
    """It goes whole to everybody."""


NO_TURN = Turn(-1, False)
"""Of a message that stands aside: it is whole by itself, and follows nothing."""


class Wholes(abc.ABC):
    """One process' memory of whom it has sent models to."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made = 0

    def turn(self, message: Message) -> Turn:
        """Return whose turn it is; call once for each message that is made."""
        number = self._made
        self._made += 1
        return Turn(number, message.whole or not number)

    @abc.abstractmethod
    def came(self, peer: PeerId) -> None:
        """Note that `peer` can be reached from now on."""

    @abc.abstractmethod
    def lost(self, peer: PeerId) -> None:
        """Note that `peer` did not get, or could not use, a model that was sent to it."""

    @abc.abstractmethod
    def alone(self, peer: PeerId, turn: Turn) -> bool:
        """Return whether the message goes to `peer` whole, whatever it does to the others; ask once for each copy."""


class Latecomers(Wholes):
    """Where receivers fill in their own numbers."""

    __slots__ = ("_late",)

    def __init__(self) -> None:
        super().__init__()
        self._late: frozenset[PeerId] = frozenset()

    def came(self, peer: PeerId) -> None:
        """Note who comes later than the first model."""
        if self._made:
            self._late |= {peer}

    def lost(self, peer: PeerId) -> None:
        """Nothing hangs on it."""

    def alone(self, peer: PeerId, turn: Turn) -> bool:
        """Return whether it is the first to a latecomer."""
        if peer not in self._late:
            return False
        self._late -= {peer}
        return not turn.whole


class Chains(Wholes):
    """Where receivers add to what a link has brought."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[PeerId, int] = {}
        """The last message that went out to each."""

    def came(self, peer: PeerId) -> None:
        """A new connection begins anew."""
        self._given.pop(peer, None)

    lost = came

    def alone(self, peer: PeerId, turn: Turn) -> bool:
        """Return whether it does not follow the last one that `peer` was sent."""
        follows = self._given.get(peer) == turn.number - 1
        self._given[peer] = turn.number
        return not follows


def wholes_for(reference: str) -> Wholes:
    """Return the memory that a codec's `reference` wants."""
    return Chains() if reference == "link" else Latecomers()
