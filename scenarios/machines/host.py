"""The program on each machine: ``python -m scenarios.machines.host``. It makes identities, which stay there, and nodes.

Standard input and output carry the messages of `speech`. The engine says ``prepare`` (which peers, at which address),
``put`` (peers.txt, task.toml), ``start`` and ``signal``; the host says ``hello``, ``prepared`` (the peers' lines),
``exited``, and what the peers write, before the exit of whoever wrote it. When standard input ends, the engine is gone:
every node is killed, and the folder with all keys is removed; that of a host which was killed, by the next one there.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gossip.errors import GossipError
from gossip.net.identity import Identity
from scenarios.clusters.versions import versions
from scenarios.inputs import missing_file
from scenarios.machines.outbox import Outbox
from scenarios.machines.speech import Listener, Said, message
from scenarios.private_folder import private_folder
from scenarios.processes.homes import HOST as LOOPBACK
from scenarios.processes.homes import free_ports
from scenarios.processes.launcher import Launcher

LOG = "launcher.log"

POLL_S = 0.05
READ_BYTES = 1 << 16
PUT = ("peers.txt", "task.toml")


class Host:
    """One machine's peers.

    Args:
        folder: of all their homes.
        output: descriptor of what the engine hears.
    """

    def __init__(self, folder: Path, output: int) -> None:
        self._folder = folder
        self._output = output
        self._outboxes: dict[str, Outbox] = {}

    def serve(self, given: int) -> None:
        """Obey what comes from the descriptor `given` until it ends.

        Raises:
            BrokenPipeError: nobody hears any more. Garbled: the engine is none of ours.
        """
        self._say(
            {
                "hello": socket.gethostname(),
                "versions": dict(versions()),
                "cores": os.cpu_count() or 1,
                "folder": str(self._folder),
            }
        )
        listener = Listener()
        with Launcher(self._folder / LOG) as self._launcher:
            while True:
                readable, _, _ = select.select([given], [], [], POLL_S)
                if readable:
                    read = os.read(given, READ_BYTES)
                    if not read:
                        return
                    for said, data in listener.heard(read):
                        self._obey(said, data)
                self._tell()

    def _obey(self, said: dict[str, Any], data: bytes) -> None:
        try:
            if "prepare" in said:
                self._prepare(said)
            elif "put" in said and said["put"] in PUT:
                (self._folder / said["put"]).write_bytes(data)
            elif "start" in said:
                self._start(said)
            elif "signal" in said:
                self._launcher.signal(said["to"], signal.Signals(said["signal"]))
        except (GossipError, OSError) as error:
            # The folder goes when this process does: nobody can look into the log that a sentence names.
            self._say({"failed": str(error).removesuffix(f"; see {self._folder / LOG}")})

    def _prepare(self, said: Mapping[str, Any]) -> None:
        """Begin with new homes; a second time after a lost race for a port."""
        wrong = missing_file(said["files"])
        if wrong is not None:
            self._say({"failed": wrong})
            return
        names, address, loopback = said["prepare"], said["address"], said["loopback"]
        shutil.rmtree(self._folder / "peers", ignore_errors=True)
        ports = free_ports(len(names), host=LOOPBACK if loopback else "")
        lines = []
        for name, port in zip(names, ports, strict=True):
            home = self._folder / "peers" / name
            lines.append(Identity.create(home, name=name, advertise=f"{address}:{port}").peers_line())
        self._outboxes = {name: Outbox(name, self._folder / "peers" / name) for name in names}
        self._say({"prepared": lines, "clock": time.time()})

    def _start(self, said: Mapping[str, Any]) -> None:
        home = self._folder / "peers" / said["start"]
        self._outboxes[said["start"]].begins_again()
        self._launcher.start(
            said["start"],
            said["argv"],
            stdout=home / "progress.jsonl",
            stderr=home / "node.log",
            program=said["program"],
        )

    def _tell(self) -> None:
        exits = self._launcher.wait(0)
        for name in self._launcher.running:
            for said, data in self._outboxes[name].look():
                self._say(said, data)
        for exit in exits:
            for said, data in self._outboxes[exit.name].last_look():
                self._say(said, data)
            self._say({"exited": exit.name, "code": exit.code})

    def _say(self, said: Mapping[str, Any], data: bytes = b"") -> None:
        whole: Said = (dict(said), data)
        left = memoryview(message(*whole))
        while left:
            left = left[os.write(self._output, left) :]


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(1)


def main() -> None:
    """Serve in a folder of its own, which is gone afterwards."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # the folder has keys in it
    # Whatever prints must not speak to the engine.
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        with private_folder("gossip-host-") as folder:
            try:
                Host(folder, output).serve(0)
            finally:
                for number in (signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # the folder has to go now
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
