"""Who is there: for each peer its last membership event and the last round in which it was active.

A view is an element of a join semilattice. Of a peer it keeps the greatest (counter, left) – only the peer itself
issues its counters, and of two events with one counter leaving wins – and, independently, the greatest activity. So
merging commutes, associates and is idempotent: the order and the number of messages do not matter.

Peers of the initial population are joined with counter 0 and activity -1 until something else is heard; such entries
are neither stored nor sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from gossip.protocols.base import PeerId

Entry: TypeAlias = tuple[str, int, bool, int]
"""(peer, counter, left, active), as it travels; one object in all views that have taken it over."""

NEVER = -1

STRANGERS_MAX = 1024
"""Peers outside the population that a view remembers: names that somebody made up must not fill the memory."""

ENTRIES_SENT_MAX = 2048
BYTES_SENT_MAX = 40 * 1024
"""Of one message's view, counted as `ENTRY_BYTES` and the name: the wire takes 4096 items and 64 KiB of fields."""
ENTRY_BYTES = 14


def join(a: Entry, b: Entry) -> Entry:
    """Return the least upper bound of two entries of one peer."""
    newer = a if (a[1], a[2]) >= (b[1], b[2]) else b
    if newer[3] >= a[3] and newer[3] >= b[3]:
        return newer
    return (newer[0], newer[1], newer[2], max(a[3], b[3]))


def _fitting(
    entries: Iterable[tuple[Entry, int]], *, share: int, horizon: int
) -> tuple[list[tuple[Entry, int]], bool]:
    """Return the entries that fit into one `share`-th of a message's view, and whether these are all."""
    room = BYTES_SENT_MAX // share
    found: list[tuple[Entry, int]] = []
    for entry, version in entries:
        if entry[2] and entry[3] < horizon:
            continue
        room -= ENTRY_BYTES + len(entry[0].encode())
        if room < 0 or len(found) == ENTRIES_SENT_MAX // share:
            return found, False
        found.append((entry, version))
    return found, True


class View:
    """One peer's view.

    Args:
        population: who is there from the beginning.
    """

    def __init__(self, population: Sequence[PeerId]) -> None:
        self._population = frozenset(population)
        self._names = tuple(population)
        # In the order of their last change, so that news are found from the end.
        self._entries: dict[PeerId, tuple[Entry, int]] = {}
        self._strangers: set[PeerId] = set()
        self.version = 0
        """Rises with every change."""
        self.newest = 0
        """The greatest activity."""

    def replace_population(self, population: Sequence[PeerId]) -> None:
        """Take over a changed list of peers; what is known of them stays."""
        self._population = frozenset(population)
        self._names = tuple(population)
        self._strangers = {peer for peer in self._entries if peer not in self._population}

    def __len__(self) -> int:
        return len(self._population) + len(self._strangers)

    def __getitem__(self, peer: PeerId) -> Entry:
        """Return what is known of a peer; of a stranger, that it never joined."""
        known = self._entries.get(peer)
        if known is not None:
            return known[0]
        return (peer, 0, False, NEVER) if peer in self._population else (peer, -1, True, NEVER)

    def entries(self) -> tuple[Entry, ...]:
        """Return all that differs from the beginning, the latest change last."""
        return tuple(entry for entry, _ in self._entries.values())

    def merge(self, entries: Iterable[Entry], *, active_max: int | None = None) -> None:
        """Take over what is newer.

        Args:
            entries: of another view.
            active_max: activity in later rounds than this is not believed.
        """
        for entry in entries:
            if active_max is not None and entry[3] > active_max:
                entry = (entry[0], entry[1], entry[2], NEVER)
            self._take(entry)

    def hear(self, entries: Iterable[Entry], *, sender: PeerId, active_max: int, counter_max: int) -> None:
        """Take over what one peer says of others: that they were active, which is hearsay, and nothing else.

        Only of itself, over its own connection, a peer says that it has joined or left. Names outside the population
        are not remembered: whoever is put on the list later will speak for itself.

        Args:
            entries: of the sender's view.
            sender: whose connection they came over.
            active_max: nobody is taken to have been active later than in this round.
            counter_max: of the sender's own event; a greater one is not believed.
        """
        for peer, counter, left, active in entries:
            if peer not in self._population:
                continue
            active = min(active, active_max)
            if peer == sender and counter <= counter_max:
                self._take((peer, counter, left, active))
            else:
                self.touch(peer, active)

    def touch(self, peer: PeerId, round: int) -> None:
        """Note that a peer was active in `round`; never lowers."""
        _, counter, left, active = self[peer]
        if round > active:
            self._put((peer, counter, left, round))

    def registered(self) -> Iterator[PeerId]:
        """Yield the peers of the population that have not left."""
        for peer in self._names:
            known = self._entries.get(peer)
            if known is None or not known[0][2]:
                yield peer

    def candidates(self, round: int, *, window: int, me: PeerId) -> list[PeerId]:
        """Return who may be in the sample of `round`: active in the last `window` rounds; `me` always is."""
        oldest = round - window
        entries = self._entries
        found = []
        for peer in self._names:
            known = entries.get(peer)
            if known is None:
                if oldest <= NEVER or peer == me:
                    found.append(peer)
            elif (known[0][3] >= oldest and not known[0][2]) or peer == me:
                found.append(peer)
        return found

    def news(self, since: int, *, horizon: int = NEVER) -> tuple[tuple[Entry, ...], int]:
        """Return what has changed after version `since`, newest first, and the version that it brings the reader to.

        Who left before round `horizon` is not told of any more. Where not all fits, half of the room goes to the
        newest, for they decide who is drawn next, and half to the oldest, so that the reader comes nearer each time.
        """
        newest, all_of_them = _fitting(self._since(since), share=1, horizon=horizon)
        if all_of_them:
            return tuple(entry for entry, _ in newest), self.version
        newest, _ = _fitting(self._since(since), share=2, horizon=horizon)
        lacking = (known for known in self._entries.values() if known[1] > since)
        oldest, _ = _fitting(lacking, share=2, horizon=horizon)
        return tuple(dict.fromkeys(entry for entry, _ in newest + oldest)), oldest[-1][1]

    def _since(self, version: int) -> Iterator[tuple[Entry, int]]:
        """Yield entries and their versions, newest first, down to a version."""
        for known in reversed(self._entries.values()):
            if known[1] <= version:
                return
            yield known

    def _take(self, entry: Entry) -> None:
        known = self._entries.get(entry[0])
        if known is None:
            if entry[0] in self._population:
                if entry[1] > 0 or entry[2] or entry[3] > NEVER:
                    self._put(entry)
            elif len(self._strangers) < STRANGERS_MAX:
                self._strangers.add(entry[0])
                self._put(entry)
            return
        old = known[0]
        if old is entry:
            return
        if entry[3] <= old[3] and (entry[1], entry[2]) <= (old[1], old[2]):
            return
        self._put(join(old, entry))

    def _put(self, entry: Entry) -> None:
        self._entries.pop(entry[0], None)
        self.version += 1
        self._entries[entry[0]] = (entry, self.version)
        if entry[3] > self.newest:
            self.newest = entry[3]
