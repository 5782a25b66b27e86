"""Homes, peers files and real `gossip-node` processes for tests; loopback and free ports only."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossip.errors import NetworkError
from gossip.net.identity import Identity
from gossip.node.status import ask_status
from scenarios.processes.homes import free_ports
from scenarios.processes.launcher import Launcher

PATIENCE_S = 60.0
"""Nothing in a test waits longer; on an idle machine it is seconds."""


PACE = """
import gossip.learner, time
train = gossip.learner.Learner.train
gossip.learner.Learner.train = lambda *given, **more: (time.sleep({pace_s}), train(*given, **more))[1]
"""
"""Rounds that last, while others start: what takes its time then is no computing, which costs a busy machine dear."""


def make_homes(folder: Path, names: Sequence[str]) -> Path:
    """Make an identity for each name in folder/NAME and the peers file that lists them."""
    lines = [
        Identity.create(folder / name, name=name, advertise=f"127.0.0.1:{port}").peers_line()
        for name, port in zip(names, free_ports(len(names)), strict=True)
    ]
    peers = folder / "peers.txt"
    peers.write_text("# a test\n" + "\n".join(lines) + "\n")
    return peers


class Forked:
    """A node of the fork server, as `subprocess.Popen` would show it."""

    def __init__(self, nodes: _Nodes, id: str) -> None:
        self._nodes, self._id = nodes, id
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        while self.poll() is None and not self._nodes.launcher.running[self._id]:
            self._nodes.look(0.1)
        return self._nodes.launcher.running[self._id]

    def poll(self) -> int | None:
        self._nodes.look(0)
        return self.returncode

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        deadline = time.monotonic() + timeout_s
        while self.returncode is None:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"{self._id} has not ended in {timeout_s:g} s"
            self._nodes.look(left_s)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        self._nodes.launcher.signal([self._id], number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Nodes:
    """The nodes of one test, and the fork server that they share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._launcher: Launcher | None = None
        self._started: dict[str, Forked] = {}

    @property
    def launcher(self) -> Launcher:
        if self._launcher is None:
            self._launcher = Launcher(self._folder / "launcher.log")
        return self._launcher

    def start(self, name: str, argv: list[str], log: Path, stdout: Path, program: str) -> Forked:
        id = f"{name} {len(self._started)}"
        self.launcher.start(id, argv, stdout=stdout, stderr=log, program=program)
        self._started[id] = Forked(self, id)
        return self._started[id]

    def look(self, timeout_s: float) -> None:
        for exit in self.launcher.wait(timeout_s):
            self._started[exit.name].returncode = exit.code

    def close(self) -> None:
        if self._launcher is not None:
            self._launcher.close()


_nodes: list[_Nodes] = []


@contextmanager
def forked_nodes() -> Iterator[None]:
    """Within this, nodes are forked; the server is taken with the first and given back at the end."""
    with tempfile.TemporaryDirectory() as folder:
        _nodes.append(_Nodes(Path(folder)))
        try:
            yield
        finally:
            _nodes.pop().close()


def forked(
    name: str, argv: list[str], log: Path, *, stdout: Path = Path(os.devnull), program: str = "gossip.cli"
) -> Forked:
    """Start a process of this test that is gone at its end."""
    return _nodes[-1].start(name, argv, log, stdout, program)


class Running:
    """One `gossip-node` process.

    Args:
        folder: where the homes are.
        name: of its home.
        arguments: of its command line.
        pace_s: how long each of its local updates takes beside the computing.
        bare: begin as the console script does, where signals may come before the node listens to them.
        prelude: Python that its process runs first.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *arguments: str,
        pace_s: float = 0.0,
        bare: bool = False,
        prelude: str = "",
    ) -> None:
        self.name, self.home = name, folder / name
        self.log = folder / f"{name}.log"
        argv = ["--peers", str(folder / "peers.txt"), "--home", str(self.home), "--json", *arguments]
        prelude += PACE.format(pace_s=pace_s) if pace_s else ""
        program = "gossip.cli"
        if bare or prelude:
            argv = [json.dumps({"closed": [], "prelude": prelude}), *argv]
            program = "tests.integration.bare_node"
        self.process = forked(name, argv, self.log, program=program)

    def status(self) -> dict[str, Any]:
        """Return what `gossip-node status --json` says, or {} while nothing answers."""
        try:
            return ask_status(self.home)
        except NetworkError:
            return {}

    def round(self) -> int:
        """Return the rounds done, -1 while unknown."""
        return int(self.status().get("round", -1))

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def said(self) -> str:
        """Return the log so far."""
        return self.log.read_text() if self.log.exists() else ""


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until `true()`; fail with `what` if that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"it never came about that {what}"
        time.sleep(0.05)


@contextmanager
def all_ended(started: list[Running]) -> Iterator[None]:
    """Leave no process behind, whatever the test does."""
    try:
        yield
    finally:
        for each in started:
            if each.process.poll() is None:
                each.process.kill()
            each.process.wait()
