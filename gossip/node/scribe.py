"""A thread that writes lines, so that the event loop waits for no disk and no terminal.

A disk may be slow, a network file system may hang, and whoever reads our standard output may have stopped reading:
heartbeats and models go on meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from gossip.telemetry.containment import Containment

JOBS_MAX = 10_000
"""Lines that wait to be written, a few megabytes. A disk or reader that is behind by more loses the newest."""


class Scribe:
    """Does small jobs one after the other, in the order in which they were given. Failures are contained."""

    def __init__(self, contained: Containment) -> None:
        self._contained = contained
        self._jobs: deque[tuple[str, Callable[[], object]]] = deque()
        self._arrived = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._limiter = trio.CapacityLimiter(1)

    def put(self, what: str, job: Callable[[], object]) -> None:
        """Queue a job; `what` names its failure, see `Containment`."""
        if len(self._jobs) >= JOBS_MAX:
            self._contained.failed(what, OSError(f"{JOBS_MAX} lines wait already"))
            return
        self._jobs.append((what, job))
        if self._idle.is_set():
            self._idle = trio.Event()
        self._arrived.set()

    async def run(self) -> None:
        """Work until cancelled; a job that hangs is abandoned then."""
        while True:
            while not self._jobs:
                self._idle.set()
                self._arrived = trio.Event()
                await self._arrived.wait()
            # All that wait at once: a change of threads costs more than a line.
            await trio.to_thread.run_sync(self._work, limiter=self._limiter, abandon_on_cancel=True)

    def _work(self) -> None:
        for _ in range(len(self._jobs)):
            what, job = self._jobs.popleft()
            with self._contained(what):
                job()

    async def flush(self) -> None:
        """Wait until all that was put is done. Needs `run`."""
        await self._idle.wait()
