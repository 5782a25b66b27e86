"""Curves of peers that have no rounds in common: all living peers are looked at, at the same moments."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gossip.protocols.base import Model, RoundCompleted
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.measures.rounds import Measurements, Waiting

if TYPE_CHECKING:
    from scenarios.virtual.events.simulation import Simulation


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a peer stands after its last own update."""

    peer: VirtualPeer
    event: RoundCompleted
    trained: Model
    seconds: float
    """Between its last two updates."""


class TimedMeasurements(Measurements):
    """Evaluates every living peer's model as of its last own update, once in so much virtual time.

    Measurements are numbered by `point`; `round` is how many updates the peer had done by then.
    """

    compares_before = False

    def __init__(
        self,
        learning: BatchedLearning,
        *,
        peers: int,
        every: int,
        rounds: int,
        interval_s: float,
        attackers: Collection[int] = (),
    ) -> None:
        super().__init__(learning, peers=peers, every=every, rounds=rounds, attackers=attackers)
        self._interval_s = interval_s
        self._standing: dict[int, _Standing] = {}
        self._point = 0
        self._updated_s = 0.0
        self._sampled_s = -1.0

    def attend(self, simulation: Simulation) -> None:
        """Look at the peers from now on."""
        simulation.schedule(simulation.now + self._interval_s, self._look, simulation)

    def round_completed(self, peer: VirtualPeer, event: RoundCompleted, now_s: float) -> bool:
        """Note where a peer stands; never ends the run."""
        if peer.index in self._attackers:
            return False
        seconds, self._last_s[peer.index] = now_s - self._last_s[peer.index], now_s
        self._standing[peer.index] = _Standing(peer, event, peer.trained, seconds)
        self._updated_s = now_s
        return False

    def finish(self) -> None:
        """Look once more, at the end, if anything has happened since the last time."""
        if self._updated_s > self._sampled_s:
            self._sample(self._updated_s)
        super().finish()

    def _look(self, simulation: Simulation) -> None:
        self._sample(simulation.now)
        self.attend(simulation)

    def _sample(self, now_s: float) -> None:
        self._sampled_s = now_s
        standing = [each for _, each in sorted(self._standing.items()) if each.peer.alive]
        if not standing:
            return
        self._point += 1
        for each in standing:
            entry = self._entry(each.peer, each.event, now_s, each.seconds)
            entry["point"] = self._point
            self._waiting.append(Waiting(entry, each.event.model, each.trained, each.peer.index))
        self.flush()
        if self._point in self._sums:
            self._close(self._point)  # fewer than all
