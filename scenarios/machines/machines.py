"""Several hosts as one launcher: start nodes, signal them, hear of their ends, wherever they are."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossip.errors import SettingError
from gossip.net.address import is_loopback
from scenarios.clusters.versions import difference
from scenarios.errors import RunFailed
from scenarios.inputs import named_files
from scenarios.machines.connection import Connection, Gone
from scenarios.machines.mirror import Mirror
from scenarios.machines.speech import Garbled, Listener, message
from scenarios.processes import homes as preparation
from scenarios.processes.launcher import Exit, Node, Nodes
from scenarios.processes.server import KILL_TIMEOUT_S, START_TIMEOUT_S
from scenarios.scenario import ScenarioSettings

MACHINES = "machines.json"
"""Of the run's folder: peer -> the machine that had it."""

logger = logging.getLogger("scenarios")

PAUSE_S = 0.02
"""Between two looks at quiet hosts."""

CLOCKS_APART_S = 1.0
"""Times of events are those of their machines; who compares them should know."""

LOST = 255
"""Exit code of a node whose machine is gone: ssh's own."""


@dataclass
class _Machine:
    connection: Connection
    listener: Listener = field(default_factory=Listener)
    peers: frozenset[str] = frozenset()
    hello: Mapping[str, Any] | None = None
    prepared: Sequence[str] | None = None
    lost: str | None = None
    asked_s: float = 0.0
    """When it was asked to prepare, by the clock here."""

    @property
    def name(self) -> str:
        return self.connection.place.name


class Machines(Nodes):
    """Stands where a `Launcher` does, and prepares what that finds prepared; a context manager.

    Args:
        connections: to one host each.
        afterwards: called when all of them are closed.

    Raises:
        SettingError: a host cannot be reached, or has other versions; names it.
    """

    def __init__(
        self, connections: Sequence[Connection], afterwards: Callable[[], None] | None = None
    ) -> None:
        self._afterwards = afterwards
        self._machines = [_Machine(connection) for connection in connections]
        self._of: dict[str, _Machine] = {}
        self._mirror: Mirror | None = None
        self._exits: list[Exit] = []
        self.running: dict[str, int] = {}
        """Names of nodes that have not ended; process ids are their machines' own affair."""
        try:
            self._wait_for(lambda machine: machine.hello is not None)
            for machine in self._machines:
                assert machine.hello is not None
                other = difference(machine.hello["versions"])
                if other is not None:
                    raise SettingError(
                        f"the machine {machine.name} cannot have peers: it has {other}; make it the same"
                    )
        except BaseException:
            self.close()
            raise

    def prepare(self, scenario: ScenarioSettings, folder: Path) -> dict[str, Path]:
        """Have identities made, each on its machine, and give all machines the peers file and the task.

        Called again after a lost race for a port, it starts from nothing.

        Returns: peer -> the image of its home, in `folder`.

        Raises:
            SettingError: a machine cannot.
        """
        shares = shared_out(scenario.peer_names, [int(self._hello(each)["cores"]) for each in self._machines])
        for machine, names in zip(self._machines, shares, strict=True):
            machine.peers, machine.prepared = frozenset(names), None
            self._of.update(dict.fromkeys(names, machine))
        where = {name: self._of[name].name for name in scenario.peer_names}
        (folder / MACHINES).write_text(json.dumps(where, indent=1) + "\n", encoding="utf-8")
        homes = {name: folder / "peers" / name for name in scenario.peer_names}
        self._mirror = Mirror(homes)
        files = named_files(scenario.as_file())
        for machine in self._machines:
            address = machine.connection.place.address
            asked = {"prepare": sorted(machine.peers), "address": address, "loopback": is_loopback(address)}
            machine.asked_s = time.time()
            self._send(machine, message({**asked, "files": files}))
        self._wait_for(lambda machine: machine.prepared is not None)
        lines = {line.split()[0]: line for each in self._machines for line in each.prepared or ()}
        if sorted(lines) != sorted(homes):
            raise RunFailed("the machines have made identities of other peers than they were asked for")
        peers = preparation.peers_text([lines[name] for name in homes])
        task = preparation.task_text(scenario)
        for name, text in (("peers.txt", peers), ("task.toml", task)):
            (folder / name).write_text(text, encoding="utf-8")
            for machine in self._machines:
                self._send(machine, message({"put": name}, text.encode()))
        return homes

    def folder_of(self, name: str) -> Path:
        """Return the run's folder on the machine of a peer."""
        return Path(self._hello(self._of[name])["folder"])

    def _start(self, node: Node) -> None:
        """Outputs stand in the peer's home there, and come here with the rest of it."""
        machine = self._of[node.name]
        self.running[node.name] = 0
        if machine.lost is not None:
            self._exits.append(self._end(node.name, machine))
            return
        self._send(machine, message({"start": node.name, "argv": node.argv, "program": node.program}))

    def signal(self, names: Iterable[str], number: signal.Signals) -> None:
        """See `Nodes`."""
        wanted = [name for name in names if name in self.running]
        for machine in self._machines:
            to = [name for name in wanted if name in machine.peers]
            if to and machine.lost is None:
                self._send(machine, message({"signal": int(number), "to": to}))

    def wait(self, timeout_s: float) -> list[Exit]:
        """Return the nodes that have ended, after at most `timeout_s`. A lost machine's have.

        Raises:
            SettingError: a host says that it cannot do what it was told.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            heard = [self._hear(machine) for machine in self._machines]
            if any(heard) or self._exits or (left_s := until_s - time.monotonic()) <= 0:
                exits, self._exits = self._exits, []
                return exits
            time.sleep(min(PAUSE_S, left_s))

    def stop(self, timeout_s: float) -> bool:
        """See `Nodes`."""
        for number, seconds in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, KILL_TIMEOUT_S)):
            self.signal(list(self.running), number)
            until_s = time.monotonic() + seconds
            while self.running and (left_s := until_s - time.monotonic()) > 0:
                self.wait(left_s)
            if not self.running:
                return number == signal.SIGTERM
        return False

    def close(self) -> None:
        """Let all hosts go; each kills what it has left."""
        for machine in self._machines:
            with contextlib.suppress(Exception):
                machine.connection.close()
        if self._afterwards is not None:
            self._afterwards()
        if self._mirror is not None:
            self._mirror.tidy()

    def _hear(self, machine: _Machine) -> bool:
        """Take in what a host has said; return whether it has said anything."""
        if machine.lost is not None:
            return False
        try:
            read = machine.connection.read()
            for said, data in machine.listener.heard(read):
                self._take(machine, said, data)
        except Gone as gone:
            self._lose(machine, str(gone))
        except (ValueError, KeyError, TypeError) as garbled:
            self._lose(machine, f"it says what no host says: {garbled}")
        else:
            return bool(read)
        return True

    def _take(self, machine: _Machine, said: dict[str, Any], data: bytes) -> None:
        if self._mirror is not None and self._mirror.take(said, data, of=machine.peers):
            return
        if "hello" in said:
            machine.hello = said
        elif "prepared" in said:
            _compare_clocks(machine, float(said["clock"]))
            machine.prepared = [str(line) for line in said["prepared"]]
            if not all(len(line.split()) == 3 and "\n" not in line for line in machine.prepared):
                raise Garbled("peers' lines of another shape")
        elif "failed" in said:
            raise SettingError(f"the machine {machine.name} cannot have peers: {said['failed']}")
        elif "exited" in said and said["exited"] in machine.peers and isinstance(said.get("code"), int):
            if self.running.pop(said["exited"], None) is not None:
                self._exits.append(Exit(said["exited"], said["code"]))
        else:
            raise Garbled(str(said)[:80])

    def _send(self, machine: _Machine, data: bytes) -> None:
        try:
            machine.connection.write(data)
        except Gone as gone:
            self._lose(machine, str(gone))

    def _lose(self, machine: _Machine, why: str) -> None:
        machine.lost = why
        self._exits += [self._end(name, machine) for name in list(self.running) if name in machine.peers]
        with contextlib.suppress(Exception):
            machine.connection.close()

    def _end(self, name: str, machine: _Machine) -> Exit:
        self.running.pop(name, None)
        return Exit(name, LOST, words=f"its machine {machine.name} is lost: {machine.lost}")

    def _hello(self, machine: _Machine) -> Mapping[str, Any]:
        assert machine.hello is not None
        return machine.hello

    def _wait_for(self, so: Callable[[_Machine], bool]) -> None:
        """Hear all machines until something is so of each.

        Raises:
            SettingError: one is lost, or does not come to it in time; nothing has begun then.
        """
        until_s = time.monotonic() + START_TIMEOUT_S
        while True:
            late = [machine for machine in self._machines if not so(machine)]
            if not late:
                return
            for machine in self._machines:
                self._hear(machine)
                if machine.lost is not None:
                    raise SettingError(f"the machine {machine.name} cannot have peers: {machine.lost}")
            if time.monotonic() > until_s:
                raise SettingError(f"the machine {late[0].name} has not answered in {START_TIMEOUT_S:g} s")
            time.sleep(PAUSE_S)


def _compare_clocks(machine: _Machine, clock_s: float) -> None:
    """Say it where a clock was not between ours before the question and after the answer."""
    apart_s = max(machine.asked_s - clock_s, clock_s - time.time())
    if apart_s > CLOCKS_APART_S:
        logger.warning(
            "the clock of %s is %.1f s off, and so are the times of its events", machine.name, apart_s
        )


def shared_out(names: Sequence[str], cores: Sequence[int]) -> list[list[str]]:
    """Return the peers of each machine, as evenly by its cores as it goes; of machines that are alike, the first."""
    shares: list[list[str]] = [[] for _ in cores]
    for name in names:
        least = min(range(len(cores)), key=lambda place: (len(shares[place]) + 1) / max(1, cores[place]))
        shares[least].append(name)
    return shares
