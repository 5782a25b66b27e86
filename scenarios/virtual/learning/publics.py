"""What others hold of each peer's model: asked for when it is sent, and where the peer's own merges start from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from gossip.draws import Draws
from gossip.protocols.base import WHOLE, GossipStep, Message, Part, PeerId
from gossip.wire.wholes import Turn
from scenarios.virtual.learning import requests
from scenarios.virtual.learning.arena import Handle
from scenarios.virtual.learning.sending import Sending


class Publics:
    """Those of all peers.

    Args:
        sending: computes them.
        note: notes (peer, request) and returns its handle.
        names: of the peers, by number: codecs draw by them.
        seed: of the run.
    """

    def __init__(
        self,
        sending: Sending,
        note: Callable[[int, requests.Request], Handle],
        names: Sequence[PeerId],
        *,
        seed: int,
    ) -> None:
        self._sending = sending
        self._note = note
        self._names = names
        self._seed = seed
        self._last: dict[int, tuple[requests.Send, Handle]] = {}
        """Of each peer what was sent last, where its merges need it, or what counts its bytes."""
        self._links: dict[int, Handle] = {}
        """What the messages of each peer add up to, where links do."""

    def begin_anew(self, peer: int) -> None:
        """Forget what links have brought of a peer: its process has ended."""
        self._links.pop(peer, None)

    def shaped(self, model: Handle, peer: int, message: Message, to: requests.To | None) -> Handle:
        """Return the model that `peer`'s message is about, as it is before it is coded."""
        if not self._sending.shapes:
            return model
        draws = self._draws(message, peer)
        return self._sending.shaped(model, draws, functools.partial(self._note, peer), to)

    def coded(self, shaped: Handle, peer: int, message: Message, turn: Turn) -> Handle:
        """Return what comes of it to those who get it coded."""
        draws, sending = self._draws(message, peer), self._sending
        if sending.own_coded and not message.whole and sending.reference == "none":
            return self._public(shaped, peer, draws, message.piece or WHOLE)
        handle = sending.coded(shaped, message, draws, turn, functools.partial(self._note, peer))
        if sending.reference == "link" and handle is not shaped:
            self._links[peer] = handle
        if sending.varies and handle is not shaped:
            self._last[peer] = handle.request, handle
        return handle

    def mixed(self, own: Handle, peer: int, at: GossipStep) -> Handle | None:
        """Return what a step mixes of the peer's own model, where codecs want it; None: nobody holds any yet."""
        if self._sending.reference == "link":
            return self._links.get(peer)
        return self._public(own, peer, Draws.at(at, seed=self._seed, peer=self._names[peer]), at.part)

    def sent_last(self, peer: int) -> Handle:
        """Return what a peer's last message has brought."""
        return self._last[peer][1]

    def _draws(self, message: Message, peer: int) -> Draws:
        return Draws.of(message, seed=self._seed, peer=self._names[peer])

    def _public(self, model: Handle, peer: int, draws: Draws, part: Part) -> Handle:
        request = requests.Send(model, draws, part)
        last = self._last.get(peer)
        if last is None or last[0] != request:
            last = self._last[peer] = request, self._note(peer, request)
        return last[1]
