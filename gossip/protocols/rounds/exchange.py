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
        near = self._near
        both_ways = near.audience is near.in_row
        # Most steps send to all of the row, of whom is asked only once whether they are up.
        unsent = [known.peer for known in near.in_row if known.served < tag] if both_ways else []
        if not both_ways:
            self._serve(ctx, message, tag)
        down = ctx.send_all(unsent, message) if unsent else ()
        come = waits = 0
        for known in near.in_row:
            if both_ways and known.served < tag:
                if down and known.peer in down:
                    continue
                known.served = tag
            elif not ctx.is_up(known.peer):
                continue
            if known.newest < tag:
                if not known.suspect and not known.missing:
                    known.missing = True
                    waits += 1
            else:
                # Who is ahead has come, too: if it did not count, waiting for those who are behind would be no extra.
                come += 1
                if tag in known.kept:
                    # Otherwise it has sent later models only, and will not send this one any more.
                    known.observe(tag, 0.0)
        near.missing += waits
        return come

    def send(self, ctx: Context, to: Sequence[Sender], tag: Tag, *, whole: bool = False) -> None:
        """Send the own model as that of a step; `whole`: all of it, whichever part has its turn."""
        message = self._parts.message(*tag, self._own.model, whole=whole)
        for known in to:
            known.served = tag
        ctx.send_all([known.peer for known in to], message)

    def say_finished(self, ctx: Context, rounds: int) -> None:
        """Tell all contacts that the own `rounds` are done."""
        message = FinishedMessage(round=rounds)
        for peer in sorted(self._near.contacts(ctx)):
            if ctx.is_up(peer):
                ctx.send(peer, message)

    def _serve(self, ctx: Context, message: Message, tag: Tag) -> None:
        """Send to those who hear this peer, and whom it need not hear."""
        unsent = [known for known in self._near.sent_to(ctx) if known.served < tag]
        for known in unsent:
            known.served = tag
        ctx.send_all([known.peer for known in unsent], message)
