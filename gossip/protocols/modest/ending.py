"""The last round: whoever averages it says so to all, and the final model spreads along a tree.

A peer that hears of the end fetches the model from its parent in a tree of all peers whose root is the one that said
so; from the root itself where the parent cannot be reached or takes long. So nobody sends the model to more than
`BRANCHES` peers as long as all is well.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossip.protocols.base import Context, FinishedMessage, Model, PeerId, RoundCompleted
from gossip.protocols.modest.core import Core
from gossip.protocols.modest.messages import NewestMessage

FINAL = "final"
BRANCHES = 4
FETCH_AGAIN_S = 5.0


class Ending:
    """Upon FINISHED, and everything after the end."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sources: list[PeerId] = []
        self._parents: list[PeerId] = []
        self._asked: set[PeerId] = set()
        self._told: set[PeerId] = set()
        self._children: set[PeerId] = set()
        self._waiting: set[PeerId] = set()

    @property
    def needed(self) -> bool:
        """Whether a child has not fetched the final model yet."""
        return bool(self._children)

    def announce(self, ctx: Context) -> None:
        """We have the final model, and nobody else may know that there is one."""
        self._children = {peer for peer in _children(ctx.peers, ctx.peer, ctx.peer) if ctx.is_up(peer)}
        for peer in ctx.contacts:
            self.say(ctx, peer)

    def finish(self, ctx: Context, model: Model, *, source: PeerId | None = None) -> None:
        """All is done; `source` gave us the final model."""
        core = self._core
        if core.finished:
            return
        core.finished = True
        if core.newest < core.rounds:
            core.take_model(model, newest=core.rounds)
            core.note_saved()
            ctx.emit(RoundCompleted(round=core.rounds, model=model, heard=1, expected=1))
        ctx.cancel_timer(FINAL)
        for peer in sorted(self._waiting):
            self.serve(ctx, peer)
        self._waiting.clear()
        if source is not None:
            # Both may be lingering for us.
            for peer in dict.fromkeys([source, *self._parents]):
                self.say(ctx, peer)
        ctx.finish(core.model)

    def told(self, ctx: Context, sender: PeerId) -> None:
        """Somebody has finished."""
        if self._core.finished:
            self._children.discard(sender)
            self.say(ctx, sender)
            return
        if sender not in ctx.peers:
            return  # it was taken off the list while this was under way
        if self._sources:
            if sender not in self._sources:
                self._sources.append(sender)
            return
        parent = _parent(ctx.peers, sender, ctx.peer)
        self._children = {peer for peer in _children(ctx.peers, sender, ctx.peer) if ctx.is_up(peer)}
        self._parents = [parent]
        self._sources = [parent, sender] if parent != sender else [sender]
        self.timer(ctx)

    def timer(self, ctx: Context) -> None:
        """Ask for the final model; everybody in turn, as long as it does not come."""
        if self._core.finished or not self._sources:
            return
        for _ in self._sources:
            peer = self._sources.pop(0)
            self._sources.append(peer)
            if ctx.is_up(peer):
                self._core.fetch(ctx, peer, round=self._core.rounds - 1)
                break
        ctx.set_timer(FINAL, FETCH_AGAIN_S)

    def serve(self, ctx: Context, peer: PeerId) -> None:
        """Send the final model to whoever asks for it; before there is one, remember who did."""
        core = self._core
        if not core.finished:
            self._waiting.add(peer)
            return
        core.send_model(ctx, NewestMessage, peer, round=core.rounds, expected=0, model=core.model)
        self._told.add(peer)

    def say(self, ctx: Context, peer: PeerId) -> None:
        """Tell a peer, once per connection, that we have finished."""
        if peer not in self._told and ctx.is_up(peer):
            self._told.add(peer)
            ctx.send(peer, FinishedMessage(round=self._core.rounds))

    def connection_lost(self, peer: PeerId) -> None:
        """Who is gone needs nothing."""
        self._children.discard(peer)
        self._waiting.discard(peer)
        self._told.discard(peer)


def _parent(peers: Sequence[PeerId], root: PeerId, peer: PeerId) -> PeerId:
    first, count = peers.index(root), len(peers)
    place = (peers.index(peer) - first) % count
    return peers[((place - 1) // BRANCHES + first) % count] if place else root


def _children(peers: Sequence[PeerId], root: PeerId, peer: PeerId) -> list[PeerId]:
    first, count = peers.index(root), len(peers)
    place = (peers.index(peer) - first) % count
    below = range(BRANCHES * place + 1, min(BRANCHES * place + BRANCHES + 1, count))
    return [peers[(child + first) % count] for child in below]
