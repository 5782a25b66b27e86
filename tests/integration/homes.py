"""Homes, peers files and real `gossip-node` processes for tests; loopback and free ports only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossip.errors import NetworkError
from gossip.net.identity import Identity
from gossip.node.status import ask_status

PATIENCE_S = 60.0
"""Nothing in a test waits longer; on an idle machine it is seconds."""


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def make_homes(folder: Path, names: Sequence[str]) -> Path:
    """Make an identity for each name in folder/NAME and the peers file that lists them."""
    lines = [
        Identity.create(folder / name, name=name, advertise=f"127.0.0.1:{port}").peers_line()
        for name, port in zip(names, free_ports(len(names)), strict=True)
    ]
    peers = folder / "peers.txt"
    peers.write_text("# a test\n" + "\n".join(lines) + "\n")
    return peers


class Running:
    """One `gossip-node` process."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name, self.home = name, folder / name
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "gossip.cli", "--peers", str(folder / "peers.txt")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--home", str(self.home), "--json", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

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
        return self.log.read_text()


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
