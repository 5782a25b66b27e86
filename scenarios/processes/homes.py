"""What a user would prepare by hand on every machine: identities, addresses, the peers file, the task."""

from __future__ import annotations

import errno
import json
import random
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tomli_w import dumps

from gossip.errors import SettingError
from gossip.net.identity import Identity
from scenarios.errors import RunFailed
from scenarios.scenario import ScenarioSettings

HOST = "127.0.0.1"

PORTS = range(15_000, 32_000)
"""Below the ports that systems hand out to outgoing connections (from 32768 on Linux, 49152 on macOS): a neighbour
that dials early could otherwise be given the very port that this peer is about to listen on."""


def prepare(
    scenario: ScenarioSettings, folder: Path, addresses: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Make a home per peer, and peers.txt and task.toml for all; return name -> home.

    Peers listen at their `addresses` (host:port), without them at free ports of the loopback.

    Called again after a lost race for a port, it starts from nothing.
    """
    shutil.rmtree(folder / "peers", ignore_errors=True)
    homes = {name: folder / "peers" / name for name in scenario.peer_names}
    lines = []
    if addresses is None:
        ports = free_ports(len(homes))
        addresses = {name: f"{HOST}:{port}" for name, port in zip(homes, ports, strict=True)}
    for name, home in homes.items():
        lines.append(Identity.create(home, name=name, advertise=addresses[name]).peers_line())
    (folder / "peers.txt").write_text(peers_text(lines), encoding="utf-8")
    (folder / "task.toml").write_text(task_text(scenario), encoding="utf-8")
    return homes


def peers_text(lines: Sequence[str]) -> str:
    """Return peers.txt."""
    return "\n".join(["# name   address   certificate", *lines]) + "\n"


def task_text(scenario: ScenarioSettings) -> str:
    """Return task.toml, the same for all peers."""
    task = scenario.task()
    node = task.node if task.node.threads is not None else task.node.model_copy(update={"threads": 1})
    # The engine averages the evaluated models, and removes them if the user has not asked for them.
    evaluate = task.evaluate.model_copy(update={"snapshots": True})
    task = task.model_copy(update={"node": node, "evaluate": evaluate})
    return dumps(task.as_sections())


def attacker_arguments(
    scenario: ScenarioSettings, folder: Path, name: str, *, fresh: bool = True
) -> list[str]:
    """Return the arguments of `scenarios.attacks.node` for one attacker."""
    return [
        json.dumps(
            {
                "attack": scenario.attack.model_dump(mode="json", exclude_none=True),
                "attackers": list(scenario.attackers),
                "peers": str(folder / "peers.txt"),
                "task": str(folder / "task.toml"),
                "home": str(folder / "peers" / name),
                "fresh": fresh,
                "own": own_settings(scenario, name),
            }
        )
    ]


def own_settings(scenario: ScenarioSettings, name: str) -> list[str]:
    """Return what one peer has and the task does not say of all, as `--set` takes it."""
    said = scenario.trace().upload_mbps_max
    mbps = None if said is None else said[scenario.peer_names.index(name)]
    return [] if mbps is None else [f"net.upload_mbps_max={mbps!r}"]


def arguments(folder: Path, home: Path, *, fresh: bool = True, own: Sequence[str] = ()) -> list[str]:
    """Return the arguments of `gossip-node` for one peer, with settings of its `own`; without `fresh` it resumes."""
    return [
        "--peers",
        str(folder / "peers.txt"),
        "--task",
        str(folder / "task.toml"),
        "--home",
        str(home),
        "--json",
        *(["--fresh"] if fresh else []),
        *(argument for setting in own for argument in ("--set", setting)),
    ]


def free_ports(count: int, host: str = HOST) -> list[int]:
    """Return ports of an address of this machine, or of all with "", that nobody listens on now.

    Raises:
        RunFailed: there are not that many.
    """
    # Where to look is no result of the run: two engines started together should look in different places.
    order = random.SystemRandom().sample(PORTS, len(PORTS))
    found: list[int] = []
    for port in order:
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                    raise SettingError(f"no port of {host or '*'} can be used: {error.strerror}") from None
                continue
        found.append(port)
    if len(found) < count:
        raise RunFailed(
            f"{count} free ports are needed, {host or '*'} has {len(found)} from {PORTS.start} to {PORTS.stop}"
        )
    return found
