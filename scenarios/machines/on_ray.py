"""Hosts on the machines of a Ray cluster: an actor on each, which is a pair of pipes to the program there."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from gossip.plugins import one_line
from scenarios.clusters.on_ray import connect
from scenarios.machines.connection import PROGRAM, READ_BYTES_MAX, Connection, Gone, Place
from scenarios.machines.machines import Machines

LOOK_S = 1.0
"""A read that finds nothing comes back after so long."""


class Pair:
    """What runs as an actor. Nobody is left to hold its pipes when it ends, so the host ends, too."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def write(self, data: bytes) -> None:
        """Pass bytes on to the host."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def read(self) -> bytes | None:
        """Return what the host has said, nothing after a while, or None at its end."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        if not select.select([output], [], [], LOOK_S)[0]:
            return b""
        return os.read(output, READ_BYTES_MAX) or None


class Actor(Connection):
    """A host behind an actor."""

    def __init__(self, place: Place, ray: Any, actor: Any) -> None:
        super().__init__(place)
        self._ray = ray
        self._actor = actor
        self._asked: Any = None
        self._sending: Any = None

    def _send(self) -> None:
        # One at a time: an actor of several threads keeps no order.
        if self._sending is not None and self._ended(self._sending):
            sending, self._sending = self._sending, None
            self._get(sending)
        if self._unsent and self._sending is None:
            self._sending = self._actor.write.remote(bytes(self._unsent))
            self._unsent.clear()

    def _receive(self) -> bytes:
        if self._asked is None:
            self._asked = self._actor.read.remote()
        if not self._ended(self._asked):
            return b""
        asked, self._asked = self._asked, None
        read: bytes | None = self._get(asked)
        if read is None:
            raise Gone("the program of its peers has ended")
        return read

    def close(self) -> None:
        """See `Connection`."""
        with contextlib.suppress(Exception):
            self._ray.kill(self._actor)

    def _ended(self, asked: Any) -> bool:
        with self._there():
            ended, _ = self._ray.wait([asked], timeout=0)
        return bool(ended)

    def _get(self, asked: Any) -> Any:
        with self._there():
            return self._ray.get(asked)

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, self._ray.exceptions.RayError) as error:
            raise Gone(one_line(error)) from None


def on_ray(address: str) -> Machines:
    """Begin a host on every machine of the cluster that is there now, in the order of their addresses.

    Raises:
        SettingError: Ray is missing, or cannot be reached.
    """
    ray = connect(address, "--cluster")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = sorted(
        (node for node in ray.nodes() if node["Alive"]),
        key=lambda node: (node["NodeManagerAddress"], node["NodeID"]),
    )
    pair = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=2)(Pair)
    hosts: list[Connection] = []
    for number, node in enumerate(nodes, start=1):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = pair.options(scheduling_strategy=there).remote()
        place = Place(f"{number} of {len(nodes)}, {node['NodeManagerAddress']}", node["NodeManagerAddress"])
        hosts.append(Actor(place, ray, actor))
    return Machines(hosts, afterwards=ray.shutdown)
