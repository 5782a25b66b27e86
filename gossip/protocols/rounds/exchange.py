"""What a peer of `rounds` sends of its own model, who has had it already, and for whose models a gossip step waits."""

from __future__ import annotations

from collections.abc import Sequence

from gossip.protocols.base import Context, FinishedMessage, Message
from gossip.protocols.rounds.neighbourhood import Neighbourhood
from gossip.protocols.rounds.order import OwnModel
from gossip.protocols.rounds.parts import Parts
from gossip.protocols.rounds.sender import Sender, Tag


class Exchange:
    """One peer's.

    Args:
        own: the model that is sent.
        near: to whom it goes, and who sends theirs.
        parts: which of it a step sends.
    """

    __slots__ = ("_near", "_own", "_parts")

    def __init__(self, own: OwnModel, near: Neighbourhood, parts: Parts) -> None:
        self._own = own
        self._near = near
        self._parts = parts

    def begin(self, ctx: Context, tag: Tag) -> int:
        """Send what a step sends, and note whom it waits for; return how many it need not wait for."""
        message = self._parts.message(*tag, self._own.model)
        near, is_up, send = self._near, ctx.is_up, ctx.send
        come = 0
        one_way = near.audience is not near.in_row
        if one_way:
            self._serve(ctx, message, tag)
        for known in near.in_row:
            peer = known.peer
            if not is_up(peer):
                continue
            if known.served < tag and not one_way:
                known.served = tag
                send(peer, message)
            if known.newest < tag:
                if not known.suspect:
                    near.wait_for(known)
            else:
                # Who is ahead has come, too: if it did not count, waiting for those who are behind would be no extra.
                come += 1
                if tag in known.kept:
                    # Otherwise it has sent later models only, and will not send this one any more.
                    known.observe(tag, 0.0)
        return come

    def send(self, ctx: Context, to: Sequence[Sender], tag: Tag, *, whole: bool = False) -> None:
        """Send the own model as that of a step; `whole`: all of it, whichever part has its turn."""
        message = self._parts.message(*tag, self._own.model, whole=whole)
        for known in to:
            known.served = tag
            ctx.send(known.peer, message)

    def say_finished(self, ctx: Context, rounds: int) -> None:
        """Tell all contacts that the own `rounds` are done."""
        message = FinishedMessage(round=rounds)
        for peer in sorted(self._near.contacts(ctx)):
            if ctx.is_up(peer):
                ctx.send(peer, message)

    def _serve(self, ctx: Context, message: Message, tag: Tag) -> None:
        """Send to those who hear this peer, and whom it need not hear."""
        for known in self._near.sent_to(ctx):
            if known.served < tag:
                known.served = tag
                ctx.send(known.peer, message)
