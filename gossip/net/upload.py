"""What a peer sends per second over all its connections together: a token bucket that they draw from in turn.

In any w seconds at most ``rate · w + burst`` bytes leave. A connection asks for one piece at a time, and its next one
waits behind what the others have asked for meanwhile: so each gets an equal share of what the others leave. What is
short passes models, since a heartbeat or a vote that comes late costs more than the bytes it takes.
"""

from __future__ import annotations

import math
from collections import deque

import trio

from gossip.net.budget import Bucket
from gossip.net.settings import UPLOAD_BURST_S, bytes_per_second

BURST_BYTES_MIN = 1500
"""A packet; smaller pieces would be mostly headers."""

SHORT_BYTES = 4096
"""What is no longer than this passes models: votes, heartbeats, steps of handshakes."""

SHORT_IN_A_ROW_MAX = 8
"""Turns of what is short while models wait: they go on however much else is said."""


class Upload:
    """One peer's. Times are trio's."""

    def __init__(self, mbps: float) -> None:
        self.mbps = mbps
        """The most, Mbit/s."""
        rate = bytes_per_second(mbps)
        self.burst_bytes = max(BURST_BYTES_MIN, math.floor(rate * UPLOAD_BURST_S))
        self._bucket = Bucket(rate, self.burst_bytes, -math.inf)
        self._short: deque[trio.Event] = deque()
        self._long: deque[trio.Event] = deque()
        self._busy = False
        self._in_a_row = 0
        self.taken_bytes = 0
        """All that was let through."""

    @property
    def waiting(self) -> int:
        """How many connections wait for a turn."""
        return len(self._short) + len(self._long)

    def pieces(self, data: memoryview) -> list[memoryview]:
        """Cut what is to leave into what may leave at once."""
        return [data[start : start + self.burst_bytes] for start in range(0, len(data), self.burst_bytes)]

    async def take(self, nbytes: int, *, short: bool) -> None:
        """Wait until `nbytes`, at most a burst, may leave; then they must at once.

        Args:
            nbytes: the piece.
            short: whether all that is to be sent is short, and so passes models.
        """
        await self._take_turn(self._short if short else self._long)
        try:
            pause_s = self._bucket.spend(nbytes, trio.current_time())
            if pause_s:
                await trio.sleep(pause_s)
            self.taken_bytes += nbytes
        finally:
            self._pass_on()

    async def _take_turn(self, line: deque[trio.Event]) -> None:
        if not self._busy:
            self._busy = True
            return
        turn = trio.Event()
        line.append(turn)
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():
                self._pass_on()
            else:
                line.remove(turn)
            raise

    def _pass_on(self) -> None:
        patient = self._long and self._in_a_row >= SHORT_IN_A_ROW_MAX
        if self._short and not patient:
            self._in_a_row += 1
            self._short.popleft().set()
        elif self._long:
            self._in_a_row = 0
            self._long.popleft().set()
        else:
            self._busy = False

    def as_dict(self) -> dict[str, float]:
        """Return what `gossip-node status` says of it; bytes are those of sockets, with TLS and handshakes."""
        return {"mbps_max": self.mbps, "bytes": self.taken_bytes, "waiting": self.waiting}
