"""Processes beside this one that compute on the same memory: parts of a plan, whose results are taken in its order.

They are forked once everything is set up, when there is something to compute for the first time, so they have samples,
network and a user's code as this process has them. Models and what updates remember lie in memory that all of them
share; an order is a few rows and numbers, and so is an answer. What the parts of a plan are depends on settings alone:
one process computes the same parts one after another, and the numbers are the same to the bit.

What fails in such a process is computed here once more, where its error is the one that a run without them has.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import stat
import sys
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, TypeAlias

import msgpack
import torch
from torch import Tensor

from gossip.errors import SettingError
from scenarios.virtual.learning.rows import SharedRows

Job: TypeAlias = Callable[[Any], Any]
"""From an order to its answer, both of numbers and lists; it reads and writes what is shared."""

WORKERS_MAX = 256

WORTHWHILE = 2e9
"""Multiplications of a whole run below which processes are not worth it: about a second of them."""

PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


class _Worker(NamedTuple):
    pid: int
    line: Connection


class Workers:
    """So many processes, or none beside this one.

    Args:
        count: 1 computes everything here; None: as many as there are cores, where that pays (`settle`).

    Raises:
        SettingError: there can be none on this machine.
    """

    def __init__(self, count: int | None = 1) -> None:
        if count is not None and not 1 <= count <= WORKERS_MAX:
            raise SettingError(f"--workers {count}: must be 1 to {WORKERS_MAX}")
        if count is not None and count > 1 and not possible():
            raise SettingError(f"--workers {count}: processes that share memory need Linux; valid: 1")
        self._wanted = count
        self.count = count or 1
        self._jobs: dict[str, Job] = {}
        self._workers: list[_Worker] | None = None
        """None: not forked yet."""

    def settle(self, device: torch.device, parts: int, multiplications: float) -> None:
        """Decide how many there are, before anything is shared.

        Args:
            device: where everything is computed.
            parts: of what there is to do at a time.
            multiplications: of the whole run, roughly.

        Raises:
            SettingError: several are wanted, and cannot be.
        """
        if device.type != "cpu":
            if self._wanted is not None and self._wanted > 1:
                raise SettingError(
                    f"--workers {self._wanted}: with [virtual] device = '{device}' everything is computed there; "
                    "valid: 1"
                )
        elif self._wanted is None and possible() and multiplications >= WORTHWHILE:
            self.count = max(1, min(WORKERS_MAX, len(os.sched_getaffinity(0)), parts))

    def add(self, name: str, job: Job) -> None:
        """Make a job known; before the first is done."""
        self._jobs[name] = job

    def run(self, name: str, orders: Sequence[Any]) -> list[Any]:
        """Return the answers to all orders, in their order."""
        job = self._jobs[name]
        if self.count == 1 or len(orders) < 2:
            return [job(order) for order in orders]
        if self._workers is None:
            self._workers = self._forked()
        answers: dict[int, Any] = {}
        left = list(range(len(orders)))[::-1]
        busy: dict[Connection, tuple[_Worker, int]] = {}
        idle = list(self._workers)
        while left or busy:
            while left and idle:
                worker, place = idle.pop(), left.pop()
                if self._sent(worker, [name, orders[place]]):
                    busy[worker.line] = worker, place
                else:
                    left.append(place)
            if not busy:  # none is left
                answers.update({place: job(orders[place]) for place in left})
                break
            for line in wait(list(busy)):
                assert isinstance(line, Connection)
                worker, place = busy.pop(line)
                answered = self._answer(worker)
                if answered is None:
                    answers[place] = job(orders[place])
                    continue
                idle.append(worker)
                done, answer = answered
                answers[place] = answer if done else job(orders[place])
        return [answers[place] for place in range(len(orders))]

    @property
    def pids(self) -> list[int]:
        """The processes, once they are forked."""
        return [worker.pid for worker in self._workers or []]

    def rows(self, rows: int, columns: int) -> SharedRows | None:
        """Return memory for so many rows of floats that all processes share; None where there is only this one."""
        return None if self.count == 1 else SharedRows(rows, columns)

    def zeros(self, rows: int, columns: int, *, device: torch.device | str = "cpu") -> Tensor:
        """Return zeros (rows, columns), on the CPU in memory that all processes share."""
        if self.count == 1 or not rows * columns:
            return torch.zeros(rows, columns, device=device)
        return SharedRows(rows, columns).vectors

    def close(self) -> None:
        """End the processes."""
        workers, self._workers, self.count = self._workers or [], [], 1
        for worker in workers:
            worker.line.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _sent(self, worker: _Worker, order: Any) -> bool:
        try:
            worker.line.send_bytes(msgpack.packb(order))
        except OSError:
            self._lost(worker)
            return False
        return True

    def _answer(self, worker: _Worker) -> tuple[bool, Any] | None:
        """Return whether the order was carried out, and the answer; None where the process is gone."""
        try:
            done, answer = msgpack.unpackb(worker.line.recv_bytes())
        except (EOFError, OSError):
            self._lost(worker)
            return None
        return done, answer

    def _lost(self, worker: _Worker) -> None:
        assert self._workers is not None
        self._workers.remove(worker)
        worker.line.close()
        _, status = os.waitpid(worker.pid, 0)
        logger.warning(
            "a worker process has ended (%d); what it had to do is done by the others",
            os.waitstatus_to_exitcode(status),
        )

    def _forked(self) -> list[_Worker]:
        sys.stdout.flush()  # else each of them would write once more what waits there
        sys.stderr.flush()
        workers: list[_Worker] = []
        for _ in range(self.count):
            ours, theirs = Pipe()
            parent = os.getpid()
            with warnings.catch_warnings():
                # A bar on the terminal has a thread; what is forked touches nothing of it.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if not pid:
                _leave_sockets(theirs)
                _serve(self._jobs, theirs, parent)
            theirs.close()
            workers.append(_Worker(pid, ours))
        return workers


def possible() -> bool:
    """Return whether there can be processes beside this one: what torch has begun must survive a fork."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def _leave_sockets(line: Connection) -> None:
    """Close the sockets of the process that this one was forked from: nobody would see that their other end is gone."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(entry) != line.fileno() and stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                os.close(int(entry))


def _serve(jobs: dict[str, Job], line: Connection, parent: int) -> NoReturn:
    """Carry out orders until nobody gives any more; for a process that was forked for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever forked this one ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)  # threads of its own would wait for those that were not forked
    gc.freeze()  # else the first collection writes to, and so copies, every page
    try:
        while os.getppid() == parent:
            name, order = msgpack.unpackb(line.recv_bytes())
            try:
                answer = msgpack.packb([True, jobs[name](order)])
            except Exception:
                answer = msgpack.packb([False, None])  # told where it is computed once more
            sys.stdout.flush()
            line.send_bytes(answer)
    finally:
        os._exit(0)
