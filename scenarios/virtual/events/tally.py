"""Messages and bytes by peer and type, counted from the event log when it is hashed.

Counters in every peer would be touched by every message, and with ten thousand peers nothing of a peer is still in the
processor's caches when its next message comes; the log is written in order.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scenarios.virtual.events.event_log import Did, Entries

_SEND, _DELIVER = int(Did.SEND), int(Did.DELIVER)

Counts: TypeAlias = Mapping[str, tuple[int, int, int]]
"""Type of message -> (messages, bytes, of them bytes of tensors)."""


class Tally:
    """One direction's counters of all peers.

    Frames of one type and size are one class, and a log entry names the class.
    """

    def __init__(self, peers: int, frames: Frames) -> None:
        self._peers = peers
        self._frames = frames
        self._counts: list[NDArray[np.int64]] = []  # per type (3, peers)

    def add(self, peers: NDArray[np.int64], frames: NDArray[np.int64]) -> None:
        """Count frames (n,) that peers (n,) have sent, or got."""
        sizes = np.array(self._frames.sizes, dtype=np.int64).reshape(-1, 3)[
            frames
        ]  # (n, 3): type, bytes, tensors
        while len(self._counts) < len(self._frames.kinds):
            self._counts.append(np.zeros((3, self._peers), dtype=np.int64))
        for kind, counts in enumerate(self._counts):
            mine = np.flatnonzero(sizes[:, 0] == kind)
            if len(mine):
                np.add.at(counts[0], peers[mine], 1)
                np.add.at(counts[1], peers[mine], sizes[mine, 1])
                np.add.at(counts[2], peers[mine], sizes[mine, 2])

    def of(self, peer: int) -> Counts:
        """Return a peer's counters, without the types that it has none of."""
        counts = {}
        for kind, of_kind in zip(self._frames.kinds, self._counts, strict=False):
            messages, nbytes, payload = of_kind[:, peer].tolist()
            if messages:
                counts[kind] = (messages, nbytes, payload)
        return counts


class Frames:
    """Numbers for (type, bytes, bytes of tensors), in the order in which they appear."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.sizes: list[tuple[int, int, int]] = []
        """Of each class: number of its type, bytes, bytes of tensors."""
        self._known: dict[tuple[str, int, int], int] = {}

    def number(self, kind: str, nbytes: int, payload: int) -> int:
        """Return the class' number."""
        key = (kind, nbytes, payload)
        number = self._known.get(key)
        if number is None:
            if kind not in self.kinds:
                self.kinds.append(kind)
            number = self._known[key] = len(self.sizes)
            self.sizes.append((self.kinds.index(kind), nbytes, payload))
        return number


class Traffic:
    """What all peers of a run have sent and received so far."""

    def __init__(self, peers: int) -> None:
        self.frames = Frames()
        self.sent_bytes = array("q", bytes(8 * peers))
        """By peer. Whoever sends or delivers a message adds to it, and writes the log's entry."""
        self.received_bytes = array("q", bytes(8 * peers))
        self._sent = Tally(peers, self.frames)
        self._received = Tally(peers, self.frames)

    def bytes_sent(self) -> int:
        """Return what all peers together have sent so far."""
        return sum(self.sent_bytes)

    def count(self, entries: Entries) -> None:
        """Count those of the log's entries that tell of messages."""
        for did, tally in ((_SEND, self._sent), (_DELIVER, self._received)):
            mine = entries[entries[:, 1] == did]
            if len(mine):
                tally.add(mine[:, 2].astype(np.int64), mine[:, 5].astype(np.int64))

    def counted(self, peer: int) -> tuple[Counts, Counts]:
        """Return what of a peer's sent and received messages has been counted: all, once the log is flushed."""
        return self._sent.of(peer), self._received.of(peer)


def traffic(counts: Counts) -> dict[str, Any]:
    """Return a peer's counters of one direction as `scenarios.records.Traffic` names them."""
    protocol = sum(entry[1] for entry in counts.values())
    return {
        "payload": sum(entry[2] for entry in counts.values()),
        "protocol": protocol,
        "transport": 0,
        "total": protocol,
        "by_type": {kind: entry[1] for kind, entry in sorted(counts.items())},
    }
