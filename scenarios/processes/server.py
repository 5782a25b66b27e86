"""The process of `fork_server`, seen from the engine: it takes orders, may be kept for more runs, or begun early."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scenarios.errors import RunFailed

START_TIMEOUT_S = 120.0
"""For importing torch on a slow, cold disk."""

KILL_TIMEOUT_S = 10.0
"""For a killed process to be gone; only a broken disk or kernel needs longer."""

FORKS = sys.platform == "linux"
"""Whether nodes are forked; elsewhere that is unsafe after the imports."""

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""As many processes as peers share the cores; threads in each would only fight. Also keeps imports free of threads."""

READ_ONCE = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_")
"""How variables begin that are read when an interpreter or a library is loaded; torch sets some of its own then."""


class Server:
    """The process of `fork_server`, seen from here. One launcher at a time gives it orders.

    It sits in a session of its own, so that Ctrl-C in the terminal reaches the engine only.
    """

    def __init__(self, log: Path, *, fork: bool, memory: int | None = None) -> None:
        self.log = log
        self._memory = memory
        """What the log is in until a run has one, where it is no file: a descriptor."""
        self.fork = fork
        self._read_once = _read_once()
        self._told_before_ready = b""
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scenarios.processes.fork_server", *(["--fork"] if fork else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._pending = b""
        self._ready = False

    def wait_until_ready(self) -> None:
        """Wait until it has imported what nodes need.

        Raises:
            RunFailed: it is gone, or has not come to it in `START_TIMEOUT_S`.
        """
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._ready:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise RunFailed(
                    f"the process that starts nodes was not ready in {START_TIMEOUT_S:g} s: "
                    f"{last_line(self.log)}; see {self.log}"
                )
            self._ready = any("ready" in message for message in self.listen(left_s))
            if self._ready:
                with contextlib.suppress(OSError):
                    self._told_before_ready = self.log.read_bytes()

    def begin_again(self, log: Path) -> bool:
        """Be as a server that is started here and now: log, environment, working folder; return whether it can.

        What else a process inherits (limits, umask, priority) is of the moment at which it began.
        """
        try:
            folder = os.getcwd()
        except FileNotFoundError:
            return False
        if self._process.poll() is not None or self._read_once != _read_once():
            return False
        try:
            self.wait_until_ready()
            log.write_bytes(self._told_before_ready)
            self.order({"log": str(log.absolute()), "environment": _environment(), "folder": folder})
        except RunFailed:
            return False
        self.log = log
        return True

    def listen(self, timeout_s: float) -> list[dict[str, Any]]:
        """Return what it has told, after at most `timeout_s`.

        Raises:
            RunFailed: it is gone.
        """
        if not self._selector.select(timeout_s):
            return []
        read = os.read(self._output, 1 << 20)
        if not read:
            raise self._gone()
        *lines, self._pending = (self._pending + read).split(b"\n")
        return [json.loads(line) for line in lines]

    def order(self, order: dict[str, Any]) -> None:
        """Tell it what to do.

        Raises:
            RunFailed: it is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def close(self) -> None:
        """End it; it kills its nodes."""
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        if not self._ready:
            self._process.kill()  # it has no nodes, and imports for seconds
        try:
            self._process.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(KILL_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None

    def _gone(self) -> RunFailed:
        return RunFailed(f"the process that starts nodes has ended: {last_line(self.log)}; see {self.log}")


def _environment() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}


def _read_once() -> dict[str, str]:
    """Return of the environment what an interpreter and its libraries look at when they start, and never again."""
    return {
        key: value
        for key, value in _environment().items()
        if key.startswith(READ_ONCE) and key != "PYTHONPATH"  # which the server can follow
    }


class Kept:
    """At most one idle server, and how many ask for one to be kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._idle: Server | None = None
        self._asked = 0

    @property
    def wanted(self) -> bool:
        """Whether a server that is given back would be kept."""
        return self._asked > 0 and self._idle is None and self._process == os.getpid()

    def ask(self) -> None:
        with self._lock:
            self._asked += 1

    def begin(self) -> None:
        with self._lock:
            if self._idle is None and self._process == os.getpid():
                # Not a file: who is killed would leave it behind.
                memory = os.memfd_create("fork_server.log")
                try:
                    self._idle = Server(Path(f"/proc/self/fd/{memory}"), fork=True, memory=memory)
                except OSError:
                    os.close(memory)
                    raise

    def ask_no_more(self) -> None:
        with self._lock:
            self._asked -= 1
            idle, self._idle = (None, self._idle) if self._asked else (self._idle, None)
        if idle is not None:
            idle.close()

    def borrow(self, log: Path) -> Server | None:
        if self._process != os.getpid():
            return None  # a fork of whoever keeps it: the server is not ours
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is None or idle.begin_again(log):
            return idle
        idle.close()
        return None

    def give_back(self, server: Server) -> bool:
        with self._lock:
            kept = self.wanted
            if kept:
                self._idle = server
        return kept


KEPT = Kept()


@contextmanager
def kept_server() -> Iterator[None]:
    """Within this, launchers of this process use one server after each other: each run but the first gains seconds.

    The server is started when the first launcher needs it and ends with the context. One that has died, or has a node
    that cannot be killed, is not kept; launchers at the same time have servers of their own. Contexts may be nested.
    """
    KEPT.ask()
    try:
        yield
    finally:
        KEPT.ask_no_more()


@contextmanager
def server_ahead() -> Iterator[None]:
    """Have the server import what nodes need while this process imports what it needs itself, for the first launcher.

    One that no launcher has taken ends with the context.
    """
    if not FORKS:
        yield
        return
    with kept_server():
        with contextlib.suppress(OSError):  # the launcher begins one itself, and says what is wrong
            KEPT.begin()
        yield


def keep_server() -> None:
    """Do what `kept_server` does until this process ends; the server ends when it finds nobody there."""
    KEPT.ask()


def last_line(path: Path, default: str = "it says nothing") -> str:
    """Return the last line of a log that says something."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return default
    # Python frames the tracebacks of exception groups with these.
    said = (line.strip().strip("|+- ") for line in reversed(lines))
    return next((line for line in said if line), default)
