"""How well the nearest prototype of each simulated peer's table tells the test samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gossip.channels.samples import PrototypeSamples
from gossip.learning.task import Shard
from gossip.protocols.rounds.carrying import CarryingRounds
from gossip.protocols.tables import Row
from gossip.storage.atomic import write_atomically
from gossip.storage.models import PROTOTYPES
from scenarios.virtual.events.peer import VirtualPeer


class PrototypeScores:
    """Evaluates tables, each once while it stays as it is.

    Args:
        samples: what the task's samples are to prototypes.
        shard: returns the samples that a peer learns from.
    """

    def __init__(self, samples: PrototypeSamples, shard: Callable[[int], Shard]) -> None:
        self._samples = samples
        self._shard = shard
        self._lengths: dict[int, float] = {}
        self._known: dict[int, tuple[tuple[Row, ...], Mapping[str, float | int]]] = {}

    def write(self, home: Path, index: int) -> None:
        """Write the prototypes of the peer's last evaluated table, as real nodes do."""
        if index in self._known:
            rows, _ = self._known[index]
            file = self._samples.file(rows, length_max=self._lengths[index])
            write_atomically(home / PROTOTYPES, file, durable=False)

    def told(self, peer: VirtualPeer) -> Mapping[str, float | int]:
        """Return what a measurement says of the peer's table as it is now."""
        assert isinstance(peer.protocol, CarryingRounds)
        rows, index = peer.protocol.table.rows, peer.index
        if index not in self._lengths:
            self._lengths[index] = self._samples.length_max(self._shard(index).x)
        known = self._known.get(index)
        if known is None or known[0] is not rows:
            known = self._known[index] = (rows, self._samples.told(rows, length_max=self._lengths[index]))
        return known[1]
