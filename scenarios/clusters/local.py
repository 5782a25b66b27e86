"""Runs as processes of this machine, or one after another in this one."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from scenarios.clusters.executor import Ended, Executor
from scenarios.clusters.runs import Run, do
from scenarios.processes.server import keep_server, kept_server
from scenarios.standings import Standings

ENDING_S = 5.0
"""A process that was told to end is waited for so long."""


class Local(Executor):
    """A pool of processes.

    Args:
        jobs: how many at a time.
        standings: where each run tells how far it is; None: nobody asks.
    """

    def __init__(self, jobs: int, standings: Standings | None = None) -> None:
        self._jobs = jobs
        self._standings = standings
        self._waiting: deque[Run] = deque()
        self._running: dict[Future[None], Run] = {}
        self._before = set(multiprocessing.active_children())
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Executor`."""
        self._waiting.extend(runs)

    def completed(self) -> Iterator[Ended]:
        """See `Executor`. A process that dies takes the pool with it, so all that run at that moment are lost."""
        while self._waiting or self._running:
            self._fill()
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                run = self._running.pop(future)
                try:
                    future.result()
                except BrokenProcessPool:
                    self._pool = None
                    if self._standings is not None:
                        self._standings.forget(run.folder)
                    yield Ended(run, "a process was killed, perhaps for its memory (fewer --jobs need less)")
                else:
                    yield Ended(run)

    def _fill(self) -> None:
        # Not more than run: what waits in a pool is lost with it.
        while self._waiting and len(self._running) < self._jobs:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._jobs, mp_context=get_context("spawn"), initializer=begin
                )
            try:
                future = self._pool.submit(do, self._waiting[0], self._standings)
            except BrokenProcessPool:
                if self._running:
                    return  # they say so themselves
                self._pool = None
                continue
            self._running[future] = self._waiting.popleft()

    def cancel(self) -> None:
        """See `Executor`. Nodes that a run has started end when it is gone."""
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - self._before:
            child.terminate()
            child.join(ENDING_S)

    def close(self) -> None:
        """See `Executor`."""
        if self._pool is not None:
            self._pool.shutdown()


class Here(Executor):
    """One run after another in this process; `standings` as `Local`'s."""

    def __init__(self, standings: Standings | None = None) -> None:
        self._standings = standings
        self._waiting: deque[Run] = deque()

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Executor`."""
        self._waiting.extend(runs)

    def completed(self) -> Iterator[Ended]:
        """See `Executor`."""
        with kept_server():
            while self._waiting:
                run = self._waiting.popleft()
                do(run, self._standings)
                yield Ended(run)

    def cancel(self) -> None:
        """See `Executor`."""
        self._waiting.clear()

    def close(self) -> None:
        """See `Executor`."""


def one_thread() -> None:
    """Make the libraries of a process that has only begun compute on one core: its siblings have the others."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def begin() -> None:
    """Prepare a process that does one run after another."""
    one_thread()
    keep_server()
