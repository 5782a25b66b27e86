"""Rounds that carry a table beside the models: told to the neighbours every few rounds, and passed on by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gossip.protocols.base import Context, Message, MessageRejected, PeerId
from gossip.protocols.rounds.phase import Phase
from gossip.protocols.rounds.protocol import Rounds
from gossip.protocols.tables import Table, TableMessage


class CarryingRounds(Rounds):
    """One peer's; the rounds are as they were, and hang on nothing that a table says."""

    __slots__ = ("_every", "_table")
    messages: ClassVar[tuple[type[Message], ...]] = (*Rounds.messages, TableMessage)

    def carry(self, table: Table, *, every: int) -> None:
        """Carry a table: told after every so many rounds, and after the last. Before anything else is called."""
        self._table = table
        self._every = every

    @property
    def table(self) -> Table:
        """What is known by now."""
        return self._table

    def snapshot(self) -> Mapping[str, int | float | str]:
        """Return what rounds need, and the table."""
        return {**super().snapshot(), **self._table.saved()}

    def status(self) -> Mapping[str, int | str]:
        """Tell of the table, too."""
        return {**super().status(), "table_rows": len(self._table.rows)}

    def on_start(self, ctx: Context) -> None:
        """Begin, with own samples in the table."""
        self._table.begin(ctx)
        super().on_start(ctx)

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Take a contact's rows; all else is the rounds'."""
        if not isinstance(message, TableMessage):
            super().on_message(ctx, sender, message)
        elif sender not in self._near.contacts(ctx):
            ctx.emit(MessageRejected(sender=sender, reason="not-a-neighbour"))
        else:
            self._table.heard(ctx, sender, message)

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        """Forget what was told to somebody who comes (back), and tell it at once where no round will end any more.

        It may have been killed, and begin with what its checkpoint knows.
        """
        if up:
            self._table.forget_told(peer)
            if self._phase is Phase.FINISHED and peer in self._near.contacts(ctx):
                self._table.tell_one(ctx, peer)
        super().on_peer(ctx, peer, up)

    def _complete_round(self, ctx: Context) -> None:
        done = self._round + 1
        if done % self._every == 0 or done >= self._ending.rounds:
            # Before "finished" is said: nobody waits for what comes after it.
            self._table.tell(ctx, ctx.audience(self._round))
        super()._complete_round(ctx)
