"""Who may send to a peer, who of them is in the present row of W, and who of those the present step waits for.

Whom it sends to are the same, unless edges have directions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gossip.protocols.base import Context, PeerId
from gossip.protocols.rounds.catching_up import enough_in_step
from gossip.protocols.rounds.sender import NOTHING, Sender, Tag

NO_ROW: Mapping[PeerId, float] = {}
NO_ROWS: Mapping[int, Mapping[PeerId, float]] = {}

FEW = 8
"""Among so many names one is found as quickly as in a set, which takes several times as much memory."""

ROWS_LOOKED_UP = 4
"""Rounds before and after the own one of which is asked who is in the row, once each. Where the graph varies, a row
costs the whole graph of its round, milliseconds to tenths of a second: a message must not choose it at will."""


class Neighbourhood:
    """One peer's. Who is waited for is noted with each neighbour, and how many they are here: every message asks."""

    __slots__ = (
        "_contacts",
        "_contacts_given",
        "_expected_before",
        "_final_rows",
        "_heard_before",
        "_rows",
        "_unheard",
        "audience",
        "in_row",
        "missing",
        "row",
        "senders",
    )

    def __init__(self) -> None:
        self.senders: dict[PeerId, Sender] = {}
        self.row: Mapping[PeerId, float] = NO_ROW
        self.in_row: list[Sender] = []
        """Those of the row, by name: sums depend on their order, which must be the same in every world."""
        self.audience: list[Sender] = []
        """Whom this peer sends to; `in_row` itself where edges have no directions."""
        self.missing = 0
        """How many of them the present step waits for."""
        self._unheard = 0
        self._heard_before = self._expected_before = 0
        """In rows that this round had before the present one."""
        self._final_rows = NO_ROWS
        self._contacts: Collection[PeerId] | None = None
        self._contacts_given: Sequence[PeerId] = ()
        self._rows: dict[int, Mapping[PeerId, float]] = {}
        """Of rounds near the own one."""

    def contacts(self, ctx: Context) -> Collection[PeerId]:
        """Return those that may ever be neighbours."""
        # A faster neighbour's models come before our own start, hence not in on_start.
        # The peers file may be read again while we run; the world then gives another sequence.
        if self._contacts is None or ctx.contacts is not self._contacts_given:
            given = self._contacts_given = ctx.contacts
            self._contacts = given if len(given) <= FEW else frozenset(given)
            self._rows.clear()
            self._final_rows = NO_ROWS
        return self._contacts

    def row_of(self, ctx: Context, round: int, *, own: int) -> Mapping[PeerId, float]:
        """Return the row of a round that is near the own one."""
        self.contacts(ctx)
        row = self._rows.get(round)
        if row is None:
            if len(self._rows) > 2 * ROWS_LOOKED_UP:
                for other in [known for known in self._rows if abs(known - own) > ROWS_LOOKED_UP]:
                    del self._rows[other]
            row = self._rows[round] = ctx.neighbours(round)
        return row

    def all_finished(self) -> bool:
        """Return whether all contacts have said that they are finished."""
        if self._contacts is None:
            return False
        return all(peer in self.senders and self.senders[peer].finished for peer in self._contacts)

    def sender(self, peer: PeerId) -> Sender:
        """Return what is known of a contact."""
        known = self.senders.get(peer)
        if known is None:
            known = self.senders[peer] = Sender(peer)
        return known

    def begin_round(self, ctx: Context, round: int) -> None:
        """Begin a round with its row."""
        row = self.row_of(ctx, round, own=round)
        self._heard_before = self._expected_before = 0
        if row is not self.row:
            self._take_row(row)
            told = sorted(ctx.audience(round))
            if told != [known.peer for known in self.in_row]:
                self.audience = [self.sender(peer) for peer in told]
        elif self._unheard:
            self._unheard = 0
            for known in self.in_row:
                known.unheard = False

    def begin_final(self, ctx: Context, step: int) -> None:
        """Begin a final step of the round, from 0, with its row."""
        self._heard_before, self._expected_before = self.heard, self.expected
        self._take_row(self.final_row(ctx, step))

    def final_row(self, ctx: Context, step: int) -> Mapping[PeerId, float]:
        """Return the row of a final step."""
        self.contacts(ctx)
        row = self._final_rows.get(step)
        if row is None:
            row = ctx.final_neighbours(step)
            self._final_rows = {**self._final_rows, step: row}
        return row

    def _take_row(self, row: Mapping[PeerId, float]) -> None:
        self.row = row
        self.audience = self.in_row = [self.sender(peer) for peer in sorted(row)]
        for known in self.in_row:
            known.weight = row[known.peer]
            known.unheard = False
        self._unheard = 0

    def live(self, ctx: Context) -> list[Sender]:
        """Return those of the row that can be reached now."""
        return [known for known in self.in_row if ctx.is_up(known.peer)]

    def sent_to(self, ctx: Context) -> list[Sender]:
        """Return those whom it sends to and can reach now."""
        return [known for known in self.audience if ctx.is_up(known.peer)]

    def varies(self, ctx: Context) -> bool:
        """Return whether others than those of the row may be neighbours in other rounds."""
        return len(self.contacts(ctx)) > len(self.row)

    def newest_of_contacts(self, ctx: Context) -> list[Tag]:
        """Return how far each contact that can be reached has said that it is, NOTHING where it has not."""
        up = [peer for peer in self.contacts(ctx) if ctx.is_up(peer)]
        return [self.senders[peer].newest if peer in self.senders else NOTHING for peer in up]

    @property
    def heard(self) -> int:
        """How many of the row were heard in all steps of the round so far, and how many of those in rows before it."""
        return self._heard_before + len(self.row) - self._unheard

    @property
    def expected(self) -> int:
        """How many could be heard."""
        return self._expected_before + len(self.row)

    def in_step(self, ctx: Context) -> bool:
        """Return whether enough of those that can be reached were heard in all steps of the round."""
        if not self._unheard:
            # By far the most frequent case: nobody need be counted.
            for known in self.in_row:  # noqa: SIM110 - a generator costs more than all that it would ask
                if ctx.is_up(known.peer):
                    return True
            return False
        live = len(self.live(ctx))
        return live > 0 and len(self.row) - self._unheard >= enough_in_step(live)

    def note_unheard(self, known: Sender) -> None:
        """Note that a step went without a model that one sent for it."""
        if not known.unheard:
            known.unheard = True
            self._unheard += 1

    def waits_no_more(self, known: Sender) -> bool:
        """Stop waiting for one; return whether it was the last."""
        if not known.missing:
            return False
        known.missing = False
        self.missing -= 1
        return self.missing == 0

    def wait_for_nobody(self) -> None:
        """Stop waiting."""
        self.missing = 0
        for known in self.in_row:
            known.missing = False
