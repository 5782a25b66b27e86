"""Requests that wait until somebody looks at a model, or until enough have gathered to be computed together."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from scenarios.virtual.learning import requests
from scenarios.virtual.learning.arena import Handle

PENDING_PER_PEER_MAX = 4
PENDING_MIN = 256
"""So many requests wait at most: two rounds of training and averaging, enough to fill the stacks."""


class Deferred:
    """What all peers have asked for and nothing has computed yet.

    Args:
        computations: what computes all requests of a type whose inputs exist; within a level in this order.
        ordered: types of which a peer's requests must be computed in the order in which they were asked for.
        peers: how many there are.
        free: the arena's free rows: those of handles that nobody holds any more join them.
    """

    def __init__(
        self,
        computations: Mapping[type, Callable[[list[Handle]], None]],
        *,
        ordered: Container[type],
        peers: int,
        free: list[int],
    ) -> None:
        self._computations = computations
        self._ordered = ordered
        self._pending: list[Handle] = []
        self._pending_max = max(PENDING_MIN, PENDING_PER_PEER_MAX * peers)
        self._free = free
        self._noted = self._computed = 0
        self.on_computed: Callable[[], None] = lambda: None
        """Called whenever something of what waits has been computed, which may take long."""

    @property
    def computed(self) -> float:
        """How much of all that was ever asked for has been computed: from 0 to 1."""
        return self._computed / self._noted if self._noted else 1.0

    def __len__(self) -> int:
        """Return how many requests wait."""
        return len(self._pending)

    def note(self, peer: int, request: requests.Request) -> Handle:
        """Return the handle of what a peer asks for."""
        handle = Handle(peer, request, self._free)
        self._pending.append(handle)
        self._noted += 1
        if len(self._pending) >= self._pending_max:
            self.flush()
        return handle

    def waits_for(self, peer: int, kind: type | None = None) -> bool:
        """Return whether something that a peer asked for waits; `kind`: of that type."""
        return any(
            handle.peer == peer and (kind is None or type(handle.request) is kind) for handle in self._pending
        )

    def flush(self) -> None:
        """Compute everything, level by level."""
        pending, self._pending = self._pending, []
        levels = requests.levels(pending, ordered=self._ordered)
        del pending  # what nobody holds any more is to be freed on the way
        levels.reverse()
        while levels:
            level = levels.pop()
            for kind, compute in self._computations.items():
                if kind in level:
                    count = len(level[kind])
                    compute(level.pop(kind))
                    self._computed += count
                    self.on_computed()
