"""The one thread that trains, merges and evaluates, in the order in which it was asked.

torch releases the interpreter lock while it computes, so the event loop, and with it heartbeats and
transfers, go on meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class LearningThread:
    """Jobs one after the other; each one's outcome is handed back in the event loop's thread."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Callable[[], object], Callable[[object], None]]] = deque()
        self._arrived = trio.Event()
        self._limiter = trio.CapacityLimiter(1)
        self._began_s: float | None = None
        self._done_s = 0.0
        self.last_s = 0.0
        """What the job took whose outcome is being handed back."""

    @property
    def busy_s(self) -> float:
        """Seconds of work so far, those of the job in hand included."""
        began_s = self._began_s
        return self._done_s + (0.0 if began_s is None else time.monotonic() - began_s)

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Queue `job`. A peer asks for one training at a time and Q merges, so the queue stays short."""
        self._jobs.append((job, done))  # type: ignore[arg-type]
        self._arrived.set()

    async def run(self) -> None:
        """Work until cancelled. A training in hand is abandoned then: its round was not finished anyway."""
        while True:
            while not self._jobs:
                self._arrived = trio.Event()
                await self._arrived.wait()
            job, done = self._jobs.popleft()
            self._began_s = time.monotonic()
            outcome = await trio.to_thread.run_sync(job, limiter=self._limiter, abandon_on_cancel=True)
            self.last_s = time.monotonic() - self._began_s
            self._done_s, self._began_s = self._done_s + self.last_s, None
            done(outcome)
            # Else the models of this job would live until the next one.
            del job, done, outcome
