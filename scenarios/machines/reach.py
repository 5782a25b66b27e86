"""`--cluster` and `--hosts` of `gossip-scenario run`: which machines have the peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gossip.errors import SettingError
from scenarios.clusters.choice import LOCAL, RAY
from scenarios.machines.connection import Connection, by_ssh
from scenarios.machines.hosts_file import Line, read_hosts
from scenarios.machines.machines import Machines


def reach(cluster: str, hosts: Path | None) -> Callable[[], Machines] | None:
    """Return what begins a host on each machine; None: all peers are here.

    Raises:
        SettingError: both are given, or one that is none; a hosts file that says something else.
    """
    if hosts is not None:
        if cluster != LOCAL:
            raise SettingError(
                f"--hosts {hosts}: and --cluster {cluster} both say where peers run; give one of them"
            )
        return partial(_over_ssh, read_hosts(hosts))
    if cluster == LOCAL:
        return None
    if not cluster.startswith(RAY):
        raise SettingError(
            f"--cluster {cluster}: a run's peers can be local or at ray://HOST:PORT; a sweep takes slurm"
        )
    return partial(_on_ray, cluster)


def _over_ssh(lines: list[Line]) -> Machines:
    connections: list[Connection] = []
    try:
        for line in lines:
            connections.append(by_ssh(line.place, line.target, line.python))
    except OSError as error:
        for each in connections:
            each.close()
        raise SettingError(f"--hosts: the command 'ssh' cannot be run: {error.strerror}") from None
    return Machines(connections)


def _on_ray(address: str) -> Machines:
    from scenarios.machines.on_ray import on_ray

    return on_ray(address)
