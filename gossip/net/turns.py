"""Handshakes take turns: one step of one of them in each pass of the event loop, known hosts first.

A step is half a millisecond of cryptography. Hundreds of them may be ready at one time, when everybody comes back after
a power failure or when somebody means harm; done in one pass they would keep every connection waiting for that long.

Of those that wait for their first step the newest is next: where more come than can be served, the oldest has waited in
vain in any case, and a queue would make everybody wait for as long.

Strangers may call without end, and each call costs a signature here: their steps have a share of the time and no more,
the rest is learning's.
"""

from __future__ import annotations

import math
import time
from collections import deque

import trio

KNOWN_IN_A_ROW_MAX = 8
"""Turns of known hosts while strangers wait: even under a flood of the former a stranger gets in, if late."""

STRANGERS_SHARE = 0.1
"""Of the event loop's time, for the steps of hosts that no peer is known to have: some hundred handshakes a second."""


class _Line:
    """Those that wait of one kind of host: for a further step, the oldest first; for the first one, the newest."""

    def __init__(self) -> None:
        self.further: deque[trio.Event] = deque()
        self.first: deque[trio.Event] = deque()

    def __bool__(self) -> bool:
        return bool(self.further or self.first)

    def next(self) -> trio.Event:
        return self.further.popleft() if self.further else self.first.pop()


class Turns:
    """`take` one and do the step at once; `run` gives them out."""

    def __init__(self) -> None:
        self._known = _Line()
        self._strange = _Line()
        self._asked = trio.Event()
        self._in_a_row = 0
        self._strangers_from_s = -math.inf
        """When the next stranger may have a turn."""

    async def take(self, *, known: bool, first: bool) -> None:
        """Wait for a turn."""
        turn = trio.Event()
        line = self._known if known else self._strange
        waiting = line.first if first else line.further
        waiting.append(turn)
        self._asked.set()
        try:
            await turn.wait()
        except trio.Cancelled:
            # One that has been turned away must not use up a turn, or many of them would use up all.
            if not turn.is_set():
                waiting.remove(turn)
            raise

    async def run(self) -> None:
        """Give out turns until cancelled."""
        while True:
            rested = trio.current_time() >= self._strangers_from_s
            line = self._next_line(strangers=rested)
            if line is None:
                self._asked = trio.Event()
                with trio.move_on_at(self._strangers_from_s if self._strange else math.inf):
                    await self._asked.wait()
                continue
            began_s = time.thread_time()
            line.next().set()
            await trio.lowlevel.checkpoint()
            if line is self._strange:
                # Whoever has the turn runs beside this task or after it in that pass; after one more, surely.
                await trio.lowlevel.checkpoint()
                # What else ran meanwhile counts as well: a busy loop has less time for strangers.
                rest_s = (time.thread_time() - began_s) * (1 / STRANGERS_SHARE - 1)
                self._strangers_from_s = trio.current_time() + rest_s

    def _next_line(self, *, strangers: bool) -> _Line | None:
        strange = self._strange if strangers and self._strange else None
        if self._known and not (strange and self._in_a_row >= KNOWN_IN_A_ROW_MAX):
            self._in_a_row += 1
            return self._known
        self._in_a_row = 0
        return strange
