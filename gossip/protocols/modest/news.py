"""Views on the wire: what a model's message says of others, and what its receiver lacks."""

from __future__ import annotations

from gossip.protocols.base import Context, Model, PeerId
from gossip.protocols.modest.messages import BulkMessage
from gossip.protocols.modest.view import View


class News:
    """Which part of whose view has been told to whom, over connections that are still the same."""

    def __init__(self) -> None:
        self._merged: dict[PeerId, int] = {}
        self._known_to: dict[PeerId, int] = {}

    def note_merged(self, sender: PeerId, version: int) -> None:
        """Note that our view contains the sender's up to a version."""
        self._merged[sender] = version

    def merged_of(self, peer: PeerId) -> int:
        """Return how much of a peer's view ours contains: a version of the peer's."""
        return self._merged.get(peer, 0)

    def note_known(self, peer: PeerId, version: int) -> None:
        """Note how much of our view `peer` says to have."""
        self._known_to[peer] = version

    def connection_lost(self, peer: PeerId) -> None:
        """Forget what was agreed with a process that may be gone."""
        self._merged.pop(peer, None)
        self._known_to.pop(peer, None)

    def send(
        self,
        ctx: Context,
        kind: type[BulkMessage],
        peer: PeerId,
        *,
        round: int,
        expected: int,
        model: Model,
        view: View,
        horizon: int,
    ) -> None:
        """Send a model with the news of `view`, of departures since round `horizon`."""
        since = self._known_to.get(peer, 0)
        if since > view.version:
            since = 0  # it speaks of a view that we had before a restart
        entries, version = view.news(since, horizon=horizon)
        ctx.send(peer, kind(round=round, expected=expected, view=entries, version=version, model=model))
