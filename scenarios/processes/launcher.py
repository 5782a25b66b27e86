"""The engine's side of the fork server: start nodes, signal them, hear of their ends, leave none behind."""

from __future__ import annotations

import contextlib
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from scenarios.errors import RunFailed
from scenarios.processes.server import FORKS, KEPT, KILL_TIMEOUT_S, Server


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


class Launcher(Nodes):
    """Starts nodes of this machine through one fork server."""

    def __init__(self, log: Path, *, fork: bool | None = None) -> None:
        fork = FORKS if fork is None else fork
        # One that does not fork imports nothing: there is nothing to gain by keeping it.
        self._server = (KEPT.borrow(log) if fork else None) or Server(log, fork=fork)
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
            kept = self._server.fork and KEPT.wanted and self._kill_all() and KEPT.give_back(self._server)
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
