"""The engine's side of the fork server: start nodes, signal them, hear of their ends, leave none behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scenarios.errors import RunFailed

START_TIMEOUT_S = 120.0
"""For importing torch on a slow, cold disk."""

KILL_TIMEOUT_S = 10.0
"""For a killed process to be gone; only a broken disk or kernel needs longer."""

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""As many processes as peers share the cores; threads in each would only fight. Also keeps imports free of threads."""

READ_ONCE = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_")
"""How variables begin that are read when an interpreter or a library is loaded; torch sets some of its own then."""


@dataclass(frozen=True, slots=True)
class Exit:
    """A node has ended. `code` is negative where a signal ended it."""

    name: str
    code: int
    words: str | None = None
    """What is known of it beside its log."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is started: ``gossip-node ARGV``, or the module `program` that has a function ``run(argv) -> exit code``."""

    name: str
    argv: list[str]
    stdout: Path
    stderr: Path
    program: str
    namespace: str | None


class Nodes(ABC):
    """Nodes that can be started, signalled and heard of, here or elsewhere; a context manager that leaves none."""

    running: dict[str, int]
    """Name -> process id, of the nodes that have not ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self,
        name: str,
        argv: list[str],
        *,
        stdout: Path,
        stderr: Path,
        program: str = "gossip.cli",
        namespace: str | None = None,
    ) -> None:
        """Start a node.

        It lives in the network `namespace` of that path, without one in that of whoever starts it.

        Raises:
            RunFailed: whoever starts nodes is gone.
        """
        self._start(Node(name, argv, stdout, stderr, program, namespace))

    @abstractmethod
    def _start(self, node: Node) -> None:
        """Start it."""

    @abstractmethod
    def signal(self, names: Iterable[str], number: signal.Signals) -> None:
        """Send a signal to those of the named nodes that still run."""

    @abstractmethod
    def wait(self, timeout_s: float) -> list[Exit]:
        """Return the nodes that have ended, after at most `timeout_s`.

        Raises:
            RunFailed, SettingError: whoever starts nodes is gone, or cannot do what it was told.
        """

    @abstractmethod
    def stop(self, timeout_s: float) -> bool:
        """Ask every node to end, wait up to `timeout_s`, kill the rest; return whether all ended by themselves."""

    @abstractmethod
    def close(self) -> None:
        """Kill what is left."""


class Server:
    """The process of `fork_server`, seen from here. One launcher at a time gives it orders.

    It sits in a session of its own, so that Ctrl-C in the terminal reaches the engine only.
    """

    def __init__(self, log: Path, *, fork: bool) -> None:
        self.log = log
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
        try:
            self._process.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(KILL_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

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


class _Kept:
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


_KEPT = _Kept()


@contextmanager
def kept_server() -> Iterator[None]:
    """Within this, launchers of this process use one server after each other: each run but the first gains seconds.

    The server is started when the first launcher needs it and ends with the context. One that has died, or has a node
    that cannot be killed, is not kept; launchers at the same time have servers of their own. Contexts may be nested.
    """
    _KEPT.ask()
    try:
        yield
    finally:
        _KEPT.ask_no_more()


def keep_server() -> None:
    """Do what `kept_server` does until this process ends; the server ends when it finds nobody there."""
    _KEPT.ask()


class Launcher(Nodes):
    """Starts nodes of this machine through one fork server."""

    def __init__(self, log: Path, *, fork: bool | None = None) -> None:
        fork = sys.platform == "linux" if fork is None else fork
        # One that does not fork imports nothing: there is nothing to gain by keeping it.
        self._server = (_KEPT.borrow(log) if fork else None) or Server(log, fork=fork)
        self.running: dict[str, int] = {}

    def _start(self, node: Node) -> None:
        self._server.wait_until_ready()
        self._server.order(
            {
                "start": node.name,
                "program": node.program,
                "argv": node.argv,
                "stdout": str(node.stdout),
                "stderr": str(node.stderr),
                "namespace": node.namespace,
            }
        )
        self.running[node.name] = 0

    def signal(self, names: Iterable[str], number: signal.Signals) -> None:
        """See `Nodes`."""
        self._server.order({"signal": int(number), "to": list(names)})

    def wait(self, timeout_s: float) -> list[Exit]:
        """See `Nodes`."""
        exits = []
        for message in self._server.listen(timeout_s):
            if "started" in message:
                if message["started"] in self.running:
                    self.running[message["started"]] = message["pid"]
            elif "exited" in message:
                self.running.pop(message["exited"], None)
                exits.append(Exit(message["exited"], message["code"]))
        return exits

    def stop(self, timeout_s: float) -> bool:
        """See `Nodes`."""
        self.signal(list(self.running), signal.SIGTERM)
        if self._wait_for_end(timeout_s):
            return True
        self._kill_all()
        return False

    def close(self) -> None:
        """Kill what is left and end the server, or let the next launcher have it: see `kept_server`."""
        kept = False
        try:
            kept = self._server.fork and _KEPT.wanted and self._kill_all() and _KEPT.give_back(self._server)
        finally:
            if not kept:
                self._server.close()

    def _kill_all(self) -> bool:
        with contextlib.suppress(RunFailed):
            self.signal(list(self.running), signal.SIGKILL)
            return self._wait_for_end(KILL_TIMEOUT_S)
        return False

    def _wait_for_end(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while self.running and (left_s := deadline_s - time.monotonic()) > 0:
            self.wait(left_s)
        return not self.running


def last_line(path: Path, default: str = "it says nothing") -> str:
    """Return the last line of a log that says something."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return default
    # Python frames the tracebacks of exception groups with these.
    said = (line.strip().strip("|+- ") for line in reversed(lines))
    return next((line for line in said if line), default)
