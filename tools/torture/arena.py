"""Real nodes in temporary homes, over TLS on this machine, and what can be seen of them from outside.

Every wait here has an end. Nothing is left behind: `Arena` kills its processes, `Launcher` its server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import Key, make_key

from gossip.errors import NetworkError
from gossip.net.identity import Identity
from gossip.node.status import ask_status
from scenarios.processes.homes import free_ports
from scenarios.processes.launcher import Launcher

HERE = Path(__file__).resolve().parent
POLL_S = 0.05
TURN_S = 0.3
"""How long one look round may take before the caller gets its turn."""


@contextmanager
def launcher(started: Launcher | None = None) -> Iterator[Launcher]:
    """Start the process from which all nodes are forked, unless there is one."""
    if started is not None:
        yield started
        return
    here = f"{HERE}{os.pathsep}{HERE.parents[1]}"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = here if before is None else f"{here}{os.pathsep}{before}"
    try:
        with (
            tempfile.TemporaryDirectory(prefix="torture-") as folder,
            Launcher(Path(folder) / "log") as started,
        ):
            yield started
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@dataclass
class Peer:
    """One node: a home, and the lives it has had."""

    name: str
    home: Path
    port: int
    lives: int = 0
    codes: list[int] = field(default_factory=list)
    """Exit codes of its lives; minus a signal's number."""
    hwm_bytes: int = 0
    """The most memory that any of its lives had resident, as far as seen."""
    said_round: int = -1
    """The latest round that status called done, of all lives."""
    seen: dict[str, Any] = field(default_factory=dict)
    """The latest answer to status."""

    @property
    def log(self) -> Path:
        """The log of the present life."""
        return self.home.parent / f"{self.name}.{self.lives}.log"

    @property
    def printed(self) -> Path:
        """What the present life printed: a JSON line per round."""
        return self.home.parent / f"{self.name}.{self.lives}.out"

    def said(self) -> str:
        """Return the log of the present life, "" where it ended before it had one."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def logs(self) -> str:
        """Return the logs of all lives."""
        paths = [self.home.parent / f"{self.name}.{life}.log" for life in range(1, self.lives + 1)]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def saved_round(self) -> int:
        """Return the newest round on the disk, -1 for none."""
        found = [int(path.stem[6:]) for path in (self.home / "checkpoints").glob("round-*.safetensors")]
        return max(found, default=-1)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the evaluated rounds."""
        return _lines(self.home / "metrics.jsonl")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what of that kind happened."""
        return [entry for entry in _lines(self.home / "events.jsonl") if entry.get("event") == name]

    def summary(self) -> dict[str, Any]:
        """Return what the node says of its run at the end, {} before."""
        path = self.home / "summary.json"
        return json.loads(path.read_text()) if path.exists() else {}


class Arena:
    """A run of some nodes; a context manager that leaves no process behind."""

    def __init__(
        self,
        started: Launcher,
        names: Sequence[str],
        *,
        task: Sequence[str] = (),
        seats: Sequence[str] = (),
        addresses: Mapping[str, str] | None = None,
        orders: Mapping[str, Any] | None = None,
    ) -> None:
        """Make homes, keys and the peers file.

        Args:
            started: the process that forks nodes.
            names: of real nodes.
            task: arguments of every node.
            seats: names of peers that stand in the file with a key, and are played by an enemy.
            addresses: name -> host, where it is not loopback.
            orders: of every life, see `driven.Orders`.
        """
        self._launcher = started
        self._temporary = tempfile.TemporaryDirectory(prefix="torture-")
        self.folder = Path(self._temporary.name)
        self.task = tuple(task)
        self._orders = dict(orders or {})
        hosts = addresses or {}
        ports = free_ports(len(names) + len(seats))
        self.peers = {
            name: Peer(name, self.folder / name, port)
            for name, port in zip(names, ports[: len(names)], strict=True)
        }
        self.lines: dict[str, str] = {}
        for peer in self.peers.values():
            host = hosts.get(peer.name, "127.0.0.1")
            identity = Identity.create(peer.home, name=peer.name, advertise=f"{host}:{peer.port}")
            self.lines[peer.name] = identity.peers_line()
        self.seats: dict[str, Key] = {}
        for name, port in zip(seats, ports[len(names) :], strict=True):
            self.seats[name] = make_key(self.folder / f"{name}.pem", name)
            self.lines[name] = self.seats[name].peers_line(f"127.0.0.1:{port}")
        self.write_peers(self.lines.values())
        self._enemies: list[subprocess.Popen[bytes]] = []
        self.latencies_s: list[float] = []
        """Of every answer to status."""

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        for enemy in self._enemies:
            enemy.kill()
            enemy.wait()
        self.signal([name for name in self.peers if self.runs(name)], signal.SIGCONT, signal.SIGKILL)
        deadline_s = time.monotonic() + 10
        while any(self.runs(name) for name in self.peers) and time.monotonic() < deadline_s:
            self.reap(0.1)
        self._temporary.cleanup()

    # --- doing ---

    def write_peers(self, lines: Iterable[str], path: Path | None = None) -> None:
        """Write the peers file that all nodes read, or one of their own."""
        (path or self.folder / "peers.txt").write_text("\n".join(lines) + "\n")

    def start(self, *names: str, peers: Path | None = None, more: Sequence[str] = (), **orders: Any) -> None:
        """Start nodes, all that are named or simply all; `orders` are of these lives only."""
        for name in names or self.peers:
            peer = self.peers[name]
            peer.lives += 1
            given = json.dumps({**self._orders, **orders})
            where = ["--peers", str(peers or self.folder / "peers.txt"), "--home", str(peer.home), "--json"]
            self._launcher.start(
                self._id(name),
                [given, *where, *self.task, *more],
                stdout=peer.printed,
                stderr=peer.log,
                program="driven",
            )

    def enemy(self, behaviour: str, seat: str, *targets: str, **options: Any) -> Path:
        """Start an enemy with a seat's key; return the file in which it says what it meets (JSON lines)."""
        said = self.folder / f"{seat}.{len(self._enemies)}.jsonl"
        orders = {
            "key": str(self.folder / f"{seat}.pem"),
            "targets": {name: ["127.0.0.1", self.peers[name].port] for name in targets or self.peers},
            "peers": list(self.lines),
            "go": str(self.folder / "go"),
            **options,
        }
        with said.open("wb") as out, said.with_suffix(".log").open("wb") as errors:
            command = [sys.executable, str(HERE / "enemy.py"), behaviour, json.dumps(orders)]
            self._enemies.append(subprocess.Popen(command, stdout=out, stderr=errors))
        return said

    def enemies_end(self, timeout_s: float) -> bool:
        """Wait for the enemies to have done what they can; look on meanwhile."""
        return self.wait(lambda: all(each.poll() is not None for each in self._enemies), timeout_s)

    def dismiss(self) -> None:
        """End the enemies."""
        for enemy in self._enemies:
            enemy.kill()
            enemy.wait()

    def signal(self, names: Iterable[str], *numbers: signal.Signals) -> None:
        """Send signals, in order."""
        for number in numbers:
            self._launcher.signal([self._id(name) for name in names], number)

    # --- seeing ---

    def _id(self, name: str) -> str:
        return f"{self.folder.name}/{name}"

    def runs(self, name: str) -> bool:
        """Return whether its present life goes on."""
        return self._id(name) in self._launcher.running

    def pid(self, name: str) -> int:
        """Return its process id, 0 while unknown."""
        return self._launcher.running.get(self._id(name), 0)

    def reap(self, timeout_s: float = 0.0) -> list[str]:
        """Note who has ended; return their names."""
        ended = []
        for exit in self._launcher.wait(timeout_s):
            name = exit.name.rpartition("/")[2]
            if exit.name == self._id(name):
                self.peers[name].codes.append(exit.code)
                ended.append(name)
        return ended

    def ask(self, name: str) -> dict[str, Any]:
        """Ask for status, {} while nothing answers; notes round, latency and memory."""
        peer = self.peers[name]
        began_s = time.monotonic()
        try:
            peer.seen = ask_status(peer.home)
        except NetworkError:
            return {}
        self.latencies_s.append(time.monotonic() - began_s)
        peer.said_round = max(peer.said_round, int(peer.seen["round"]))
        peer.hwm_bytes = max(peer.hwm_bytes, of_process(self.pid(name), "VmHWM") * 1024)
        return peer.seen

    def look(self, names: Iterable[str] | None = None) -> None:
        """Note exits, and ask those that run."""
        self.reap()
        until_s = time.monotonic() + TURN_S
        for name in self.peers if names is None else names:
            if self.runs(name) and time.monotonic() < until_s:
                self.ask(name)

    def wait(
        self,
        true: Callable[[], bool],
        timeout_s: float,
        *,
        poll_s: float = POLL_S,
        names: Iterable[str] | None = None,
    ) -> bool:
        """Look on until something is true; return whether it came to that."""
        deadline_s = time.monotonic() + timeout_s
        names = None if names is None else list(names)
        while True:
            self.look(names)
            if true():
                return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(poll_s)

    def wait_until_round(self, round: int, timeout_s: float, names: Iterable[str] | None = None) -> bool:
        """Wait until all have done so many rounds."""
        wanted = list(self.peers if names is None else names)
        return self.wait(lambda: all(self.peers[name].said_round >= round for name in wanted), timeout_s)

    def wait_until_ended(self, timeout_s: float, names: Iterable[str] | None = None) -> bool:
        """Wait until all have ended."""
        wanted = list(self.peers if names is None else names)
        return self.wait(lambda: not any(self.runs(name) for name in wanted), timeout_s)

    def parameters(self, name: str) -> int:
        """Return how many parameters the model has, from the header of a checkpoint."""
        path = next((self.peers[name].home / "checkpoints").glob("round-*.safetensors"))
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(header["vector"]["shape"][0])

    def tracebacks(self) -> dict[str, str]:
        """Return the last line of each traceback in the logs: there shall be none."""
        found = {}
        for name, peer in self.peers.items():
            said = re.findall(r"^[\s|+-]*(?:Traceback .*)$", peer.logs(), re.MULTILINE)
            if said:
                lines = [line.strip(" |+-") for line in peer.logs().splitlines()]
                found[name] = next(
                    (x for x in reversed(lines) if re.match(r"[\w.]+(Error|Exit|Exception)\b", x)), "?"
                )
        return found


def of_process(pid: int, what: str) -> int:
    """Return a number of /proc/PID/status, 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{what}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile, 0 of nothing."""
    if len(values) < 2:
        return max(values, default=0.0)
    return statistics.quantiles(values, n=100, method="inclusive")[min(98, int(share * 100) - 1)]


def said_by(path: Path) -> list[dict[str, Any]]:
    """Return what an enemy has said so far."""
    return _lines(path)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue  # being written
    return entries
