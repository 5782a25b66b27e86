"""Whom a peer may push to: its neighbours, who of them has just come, and who is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gossip.protocols.base import Context, PeerId


class Neighbourhood:
    """One peer's view of those around it."""

    def __init__(self) -> None:
        self.contacts: frozenset[PeerId] = frozenset()
        self.neighbours: list[PeerId] = []
        """Of the present graph, sorted."""
        self._done: set[PeerId] = set()
        self._newcomers: list[PeerId] = []
        self._came: dict[PeerId, int] = {}
        """Newcomer -> own wake-ups until it last was one."""
        self._contacts_given: Sequence[PeerId] | None = None
        self._row: Mapping[PeerId, float] | None = None

    def meet(self, ctx: Context, updates: int) -> None:
        """Learn who is there; anew after the list of peers was read again, or where the graph varies."""
        if ctx.contacts is not self._contacts_given:
            self._contacts_given = ctx.contacts
            self.contacts = frozenset(ctx.contacts)
        row = ctx.neighbours(updates)
        if row is not self._row:
            self._row = row
            self.neighbours = sorted(row)

    @property
    def all_done(self) -> bool:
        """Whether every contact has said that it is."""
        return self.contacts <= self._done

    def finished(self, peer: PeerId) -> None:
        """Note that a peer is done."""
        self._done.add(peer)

    def came(self, peer: PeerId, *, wake_ups: int, again_after: int) -> None:
        """Note that a peer is there (again).

        Who was one less than `again_after` own wake-ups ago is no newcomer: nobody falls far behind in so short a time,
        and whoever reconnects all the time would have all pushes.
        """
        # It says again that it is done, if it still is: a process begins with its last checkpoint.
        self._done.discard(peer)
        if wake_ups - self._came.get(peer, -again_after) >= again_after and peer not in self._newcomers:
            self._came[peer] = wake_ups
            self._newcomers.append(peer)

    def went(self, peer: PeerId) -> None:
        """Note that a peer is gone."""
        if peer in self._newcomers:
            self._newcomers.remove(peer)

    def waits(self, ctx: Context) -> bool:
        """Return whether somebody who can be reached is not done."""
        return any(ctx.is_up(peer) for peer in self.contacts - self._done)

    def targets(self, ctx: Context, fanout: int, rng: np.random.Generator) -> list[PeerId]:
        """Return whom to push to: newcomers, then neighbours drawn from `rng`; all of them where `fanout` is 0."""
        there = [peer for peer in self.neighbours if peer not in self._done and ctx.is_up(peer)]
        if not fanout or fanout >= len(there):
            self._newcomers.clear()
            return there
        first = [peer for peer in self._newcomers if peer in there][:fanout]
        if first:
            self._newcomers = [peer for peer in self._newcomers if peer not in first]
            there = [peer for peer in there if peer not in first]
        missing = fanout - len(first)
        if missing == 1:
            # Far cheaper than a choice without replacement.
            return [*first, there[int(rng.random() * len(there))]]
        drawn = rng.choice(len(there), size=missing, replace=False)
        return [*first, *(there[place] for place in sorted(drawn.tolist()))]
