"""What goes on the wire of the message that a peer is sending, and what receivers will read: once for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from gossip.protocols.base import Message, Model, PeerId
from gossip.wire.wholes import NO_TURN
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.seams import Learning
from scenarios.virtual.events.tally import Frames
from scenarios.virtual.learning.requests import To

Way: TypeAlias = tuple[Message, int, int]
"""The message as its receivers will read it, its bytes and its class of frames."""


class Outgoing:
    """Remembers the latest message: the same one goes to all neighbours, one after the other.

    Args:
        learning: shapes and codes models.
        frames: classes of frames.
        frame_bytes: (peer, message) -> (bytes on the wire, of them tensors), see `Simulation`.
        reference: what receivers must hold to use what comes, see `Learning`.
        make_room: (peer, name) of a link, on which a model is to come, see `Network`.
    """

    def __init__(
        self,
        learning: Learning,
        frames: Frames,
        frame_bytes: Callable[..., tuple[int, int]],
        *,
        reference: str,
        make_room: Callable[[VirtualPeer, PeerId], None],
    ) -> None:
        self._learning = learning
        self._frames = frames
        self._frame_bytes = frame_bytes
        self._reference = reference
        self._make_room = make_room
        self._codes = learning.codes
        self.alike = not self._codes or (reference == "none" and not learning.sends_each)
        """Whether the same goes to all to whom a peer sends at a time."""
        self.message: Message | None = None
        self.sender: VirtualPeer | None = None
        self.way: Way | None = None
        """Of the latest message, where it is the same for all."""
        self._turn = NO_TURN
        self._shaped: Model = None
        """Its model before it is coded."""
        self._coded: Model | None = None
        self._ways: dict[bool, Way] = {}
        """How a model goes to those who came late, and to all others."""

    def to(self, name: PeerId, sender: VirtualPeer, message: Message) -> Way:
        """Return how a message goes to `name`: the same object where the same arrives as at others before."""
        if message is not self.message or sender is not self.sender:
            self.message, self.sender = message, sender
            if self._codes and message.carries_model:
                self.way = None
                self._begin_coding(sender, message)
            else:
                self.way = self._sized(sender, message, message)
        return self.way or self._code(name, sender, message)

    def _begin_coding(self, sender: VirtualPeer, message: Message) -> None:
        """Note a message that carries a model, of which receivers do not hold what the sender has."""
        aside = message.whole and self._reference != "own"
        self._turn = NO_TURN if aside else sender.wholes.turn(message)
        model: Model = message.model  # type: ignore[attr-defined]
        self._coded = None
        if not self._learning.sends_each:
            self._shaped = self._learning.shaped(model, sender.index, message)
        self._ways.clear()

    def _code(self, name: PeerId, sender: VirtualPeer, message: Message) -> Way:
        """Return what is coded, or, where that would be of no use to `name`, more."""
        if self._learning.sends_each:
            return self._for_one(name, sender, message)
        turn, alone = self._turn, False
        if self._reference == "link" and turn is not NO_TURN:
            # What waits behind one that gives way would follow nothing, and this one begins the link anew.
            self._make_room(sender, name)
        if self._reference != "none" and turn is not NO_TURN:
            alone = sender.wholes.alone(name, turn)
        way = self._ways.get(alone)
        if way is None:
            model = self._shaped
            if not alone or self._reference == "link":
                if self._coded is None:
                    self._coded = self._learning.coded(self._shaped, sender.index, message, turn)
                model = self._coded
            arriving = dataclasses.replace(message, model=model)  # type: ignore[call-arg]
            whole = alone or (self._reference == "own" and turn.whole)
            way = self._ways[alone] = self._sized(sender, message, arriving, whole=whole)
        return way

    def _for_one(self, name: PeerId, sender: VirtualPeer, message: Message) -> Way:
        """Return how a message goes of which each neighbour gets another; nothing is coded then."""
        weights = sender.neighbours(0)
        to = To(list(weights).index(name), tuple(weights.values())) if name in weights else None
        model = self._learning.shaped(message.model, sender.index, message, to=to)  # type: ignore[attr-defined]
        return self._sized(sender, message, dataclasses.replace(message, model=model))  # type: ignore[call-arg]

    def _sized(self, sender: VirtualPeer, message: Message, arriving: Message, *, whole: bool = False) -> Way:
        told = {"whole": True} if whole else {}
        nbytes, payload = self._frame_bytes(sender.index, message, **told)
        return arriving, nbytes, self._frames.number(message.kind, nbytes, payload)
