"""Handshakes take turns: one step of one of them in each pass of the event loop, known hosts first.

A step is half a millisecond of cryptography. Hundreds of them may be ready at one time, when everybody comes back after
a power failure or when somebody means harm; done in one pass they would keep every connection waiting for that long.

Of those that wait for their first step the newest is next: where more come than can be served, the oldest has waited in
vain in any case, and a queue would make everybody wait for as long.
"""

from __future__ import annotations

from collections import deque

import trio

KNOWN_IN_A_ROW_MAX = 8
"""Turns of known hosts while strangers wait: even under a flood of the former a stranger gets in, if late."""


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
            turn = self._next()
            if turn is None:
                self._asked = trio.Event()
                await self._asked.wait()
            else:
                turn.set()
                await trio.lowlevel.checkpoint()

    def _next(self) -> trio.Event | None:
        patient = self._strange and self._in_a_row >= KNOWN_IN_A_ROW_MAX
        if self._known and not patient:
            self._in_a_row += 1
            return self._known.next()
        self._in_a_row = 0
        return self._strange.next() if self._strange else None
