"""How many steps each peer's local updates have, where they are to fit a time (`[local] deadline_s`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gossip.learning.steps_by_deadline import StepsByDeadline

AS_EVER: Mapping[str, int] = {}
"""What is asked of a local update that has as many steps as `[local]` says."""


class Paces:
    """All peers'.

    Args:
        make: makes one peer's, for one life of it; None where there is no deadline.
    """

    def __init__(self, make: Callable[[], StepsByDeadline | None] = lambda: None) -> None:
        self._make = make
        self._by_peer: dict[int, StepsByDeadline | None] = {}
        self._began: dict[int, tuple[float, int]] = {}

    def begin(self, peer: int, now_s: float) -> Mapping[str, int]:
        """Return ``{"steps": K}`` of the local update that a peer begins now; {}: as many as ever."""
        if peer not in self._by_peer:
            self._by_peer[peer] = self._make()
        pace = self._by_peer[peer]
        if pace is None:
            return AS_EVER
        steps = pace.steps()
        self._began[peer] = (now_s, steps)
        return {"steps": steps}

    def end(self, peer: int, now_s: float) -> None:
        """Note that it is done."""
        pace = self._by_peer.get(peer)
        if pace is not None:
            began_s, steps = self._began[peer]
            pace.took(now_s - began_s, steps=steps)

    def forget(self, peer: int) -> None:
        """Measure anew: the peer's process has ended."""
        self._by_peer.pop(peer, None)
