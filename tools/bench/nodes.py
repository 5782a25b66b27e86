"""Three real `gossip-node` processes over TLS on this machine, which learn a model of a chosen size on tiny shards."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from gossip.net.identity import Identity
from scenarios.processes.homes import free_ports
from scenarios.processes.launcher import Launcher

PEERS = ("a", "b", "c")
FEATURES, CLASSES = 64, 10
SETTINGS: Mapping[str, Any] = {
    "data.train_max": 96,
    "data.test_max": 64,
    "local.lr": 0.01,
    "local.batch_size": 8,
    "topology.kind": "full",
    "node.threads": 1,
}
END_S = 10.0
"""For killed nodes to be gone."""


def hidden_widths(parameters: int, layers: int) -> list[int]:
    """Return `layers` equal widths of hidden layers that give about so many parameters."""
    # parameters = w (FEATURES + CLASSES + layers) + (layers - 1) w²
    b, a = FEATURES + CLASSES + layers, layers - 1
    width = parameters / b if not a else (-b + math.sqrt(b * b + 4 * a * parameters)) / (2 * a)
    return [max(1, round(width))] * layers


def count_parameters(hidden: Sequence[int]) -> int:
    """Return how many parameters the mlp has."""
    widths = [FEATURES, *hidden, CLASSES]
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


class Nodes:
    """Three nodes that run; a context manager that leaves none behind."""

    def __init__(
        self,
        folder: Path,
        algorithm: str,
        settings: Mapping[str, Any],
        *,
        started: Launcher | None = None,
        program: str = "gossip.cli",
        before: Sequence[str] = (),
        first: Sequence[str] = (),
    ) -> None:
        """Make homes, keys and the peers file, and start the nodes.

        Args:
            folder: for all of it.
            algorithm: of every node.
            settings: beside `SETTINGS`.
            started: starts them; default: one that gives each a process of its own, with imports of its own.
            program: module that is the node.
            before: arguments before the node's.
            first: arguments of the first node only.
        """
        self.homes = [folder / name for name in PEERS]
        self._folder = folder
        lines = [
            Identity.create(home, name=home.name, advertise=f"127.0.0.1:{port}").peers_line()
            for home, port in zip(self.homes, free_ports(len(PEERS)), strict=True)
        ]
        (folder / "peers.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
        arguments = [*before, "--peers", str(folder / "peers.txt"), "--algorithm", algorithm, "--json"]
        for key, value in {**SETTINGS, **settings}.items():
            arguments += ["--set", f"{key}={value}"]
        self._launcher = started or Launcher(folder / "launcher.log", fork=False)
        self._shared = started is not None
        self.codes: dict[str, int] = {}
        """Exit codes of those that have ended."""
        self._names = {f"{folder.name}-{name}": name for name in PEERS}
        for known, name in self._names.items():
            self._launcher.start(
                known,
                [*arguments, "--home", str(folder / name), *(first if name == PEERS[0] else ())],
                stdout=folder / f"{name}.out",
                stderr=folder / f"{name}.log",
                program=program,
            )

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._launcher.signal(self._names, signal.SIGKILL)
        deadline_s = time.monotonic() + END_S
        while self.running(0.1) and time.monotonic() < deadline_s:
            pass
        if not self._shared:
            self._launcher.close()

    @property
    def logs(self) -> list[Path]:
        """What each has written to standard error."""
        return [self._folder / f"{name}.log" for name in PEERS]

    def running(self, wait_s: float) -> list[tuple[Path, int]]:
        """Wait so long for one to end; return home and process id of those that have not."""
        for ended in self._launcher.wait(wait_s):
            if ended.name in self._names:
                self.codes[self._names[ended.name]] = ended.code
        left = self._launcher.running
        return [(self._folder / name, left[known]) for known, name in self._names.items() if known in left]
