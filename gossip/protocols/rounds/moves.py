"""When a peer of `rounds` asks whether it is far behind, and what it tells the rule of it (`catching_up`)."""

from __future__ import annotations

from gossip.protocols.base import Context
from gossip.protocols.rounds.catching_up import LostTime, Move, find_move
from gossip.protocols.rounds.ending import Ending
from gossip.protocols.rounds.inbox import Inbox
from gossip.protocols.rounds.neighbourhood import Neighbourhood
from gossip.protocols.rounds.sender import Tag
from gossip.protocols.settings import RoundsSettings


class Moves:
    """One peer's.

    Args:
        settings: how far ahead a neighbour must be to be caught up with.
        near: who says how far it is.
        inbox: knows the newest round that anybody has spoken of.
        ending: after which round nobody need catch up any more.
        lost: how many rounds the own clock allows.
    """

    __slots__ = ("_ending", "_far", "_inbox", "_lost", "_near")

    def __init__(
        self,
        settings: RoundsSettings,
        *,
        near: Neighbourhood,
        inbox: Inbox,
        ending: Ending,
        lost: LostTime,
    ) -> None:
        self._far = settings.catch_up_rounds
        self._near = near
        self._inbox = inbox
        self._ending = ending
        self._lost = lost

    def due(self, ctx: Context, here: Tag) -> Move | None:
        """Return where a peer that is `here` is to go now; None: it stays."""
        if self._inbox.newest_round < here[0] + self._far:
            return None
        # Only a neighbour of this very round can have gone on without us: in a graph that varies, others may be
        # rounds ahead in ordinary operation. One that has left has no voice any more.
        return find_move(
            here,
            self._near.live(ctx),
            catch_up_rounds=self._far,
            last_round=self._ending.rounds - 1,
            credit_rounds=self._lost.credit_rounds(ctx.now()),
            contacts=(lambda: self._near.newest_of_contacts(ctx)) if self._near.varies(ctx) else None,
        )
