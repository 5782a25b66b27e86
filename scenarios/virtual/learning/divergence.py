"""Watches the models of all peers of a virtual run for divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gossip.learning.divergence import Sign, Watch
from scenarios.virtual.learning.training import Outcomes


class Watches:
    """One watch per peer; asked in the hot path only where something is amiss.

    Args:
        peers: how many there are.
        chance: the loss of who knows nothing.
        rms: the root mean square of what is learned, at the start.
    """

    def __init__(self, peers: int, *, chance: float, rms: float) -> None:
        self._watches: list[Watch | None] = [Watch(chance=chance, rms=rms) for _ in range(peers)]
        """None once there was a sign."""
        self._limits = [watch.limit for watch in self._watches if watch is not None]
        self.skipped = [0] * peers
        """Mini-batches of each peer whose gradient was not finite, so far."""
        self.on_sign: Callable[[int, Sign], None] = lambda peer, sign: None
        """Told (peer, its first sign)."""

    def trained(self, peers: Sequence[int], rounds: Sequence[int], outcomes: Outcomes) -> None:
        """Look at the local updates of some models."""
        limits, skips = self._limits, outcomes.skipped
        for place, loss in enumerate(outcomes.losses):
            peer = peers[place]
            if (not loss <= limits[peer] and outcomes.samples[place]) or skips[place]:
                first_loss, steps = outcomes.first_losses[place], outcomes.steps[place]
                self._look(peer, rounds[place], loss, first_loss, skips[place], steps)

    def _look(self, peer: int, round: int, loss: float, first_loss: float, skipped: int, steps: int) -> None:
        self.skipped[peer] += skipped
        watch = self._watches[peer]
        if watch is None:
            return
        sign = watch.trained(round=round, loss=loss, first_loss=first_loss, steps=steps, skipped=skipped)
        self._limits[peer] = watch.limit
        self._note(peer, sign)

    def evaluated(self, peer: int, *, round: int, loss: float, rms: float) -> None:
        """Look at the evaluation of a peer's model."""
        watch = self._watches[peer]
        if watch is not None:
            self._note(peer, watch.evaluated(round=round, loss=loss, rms=rms))

    def _note(self, peer: int, sign: Sign | None) -> None:
        if sign is not None:
            self._watches[peer] = None
            self.on_sign(peer, sign)
