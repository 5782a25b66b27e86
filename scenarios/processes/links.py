"""`[network]` for real processes: a network namespace for each peer, and the kernel's queues between them.

Each peer has one interface, and all of them hang on one bridge. What a peer sends passes a rate limit (HTB), then a
delay, jitter and loss (netem); what it receives passes a rate limit at the bridge. Latencies of pairs are those that
the virtual engine draws, and then each destination has a queue of its own. Rates count Ethernet, IP and TCP headers.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from types import TracebackType

from gossip.errors import SettingError
from scenarios.processes.namespaces import new_namespace, path_of, run_inside
from scenarios.scenario import ScenarioSettings
from scenarios.sections import NetworkSettings
from scenarios.virtual.events.network import Latency, rates

PEERS_MAX = 1000
"""A bridge takes 1024 interfaces."""

PORT = 7700

UNLIMITED_BITS = 10_000_000_000
"""Faster than a machine's own processes talk to each other; netem keeps packets in order only where it has a rate."""

WAITING_PACKETS_MAX = 100_000
"""Those that are under way on a long, fast link; more would be lost."""


class Links:
    """Namespaces of all peers of a scenario; a context manager. Nothing is left when it, or this process, ends."""

    def __init__(self, scenario: ScenarioSettings) -> None:
        self._scenario = scenario
        self._network = scenario.network
        names = scenario.peer_names
        self.addresses = {
            name: f"10.213.{place // 250}.{place % 250 + 1}" for place, name in enumerate(names)
        }
        """Peer -> its IP address, within its namespace and the others'."""
        self._descriptors: list[int] = []
        self._namespaces: dict[str, int] = {}

    def __enter__(self) -> Links:
        where = f"{self._scenario.where('processes')} links = 'namespaces'"
        else_ = "use --engine virtual, or links = 'loopback', which leaves [network] out"
        missing = self._missing()
        if missing:
            raise SettingError(f"{where}: {missing}; {else_}")
        try:
            self._build()
        except PermissionError:
            self.close()
            raise SettingError(f"{where}: making network namespaces takes root; {else_}") from None
        except (OSError, subprocess.SubprocessError) as error:
            self.close()
            raise SettingError(f"{where}: {_told(error)}; {else_}") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all namespaces; they end with their last process."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def namespace(self, name: str) -> str:
        """Return the path of a peer's namespace."""
        return path_of(self._namespaces[name])

    def _missing(self) -> str | None:
        if sys.platform != "linux":
            return "network namespaces are Linux'"
        for command in ("ip", "tc"):
            if shutil.which(command) is None:
                return f"the command '{command}' is missing (apt-get install iproute2)"
        if len(self.addresses) > PEERS_MAX:
            return f"{len(self.addresses)} peers, and one bridge takes {PEERS_MAX}"
        return None

    def _new(self) -> int:
        descriptor = new_namespace()
        self._descriptors.append(descriptor)
        return descriptor

    def _build(self) -> None:
        hub = self._new()
        run_inside(hub, ["ip", "-batch", "-"], lines=["link add hub0 type bridge", "link set hub0 up"])
        names = self._scenario.peer_names
        limits = rates(self._network, len(names), self._scenario.trace(), ())
        latency = Latency(self._network, peers=len(names), seed=self._scenario.seed)
        for place, name in enumerate(names):
            inside = self._namespaces[name] = self._new()
            port = f"p{place}"
            # Packets of one segment: a lost one is a packet, and slow links are not held up by 64 KiB at a time.
            lines = [
                f"link add {port} type veth peer name eth0 netns {path_of(inside)}",
                f"link set {port} gso_max_segs 1 master hub0 up",
            ]
            run_inside(hub, ["ip", "-batch", "-"], lines=lines)
            lines = [
                "link set lo up",
                f"addr add {self.addresses[name]}/16 dev eth0",
                "link set eth0 gso_max_segs 1 up",
            ]
            run_inside(inside, ["ip", "-batch", "-"], lines=lines)
            up, down = (math.inf, math.inf) if limits is None else (limits.up[place], limits.down[place])
            run_inside(inside, ["tc", "-batch", "-"], lines=self._sending(place, up, latency))
            if down < math.inf:
                run_inside(hub, ["tc", "-batch", "-"], lines=_limit(port, down))

    def _sending(self, place: int, rate: float, latency: Latency) -> list[str]:
        """Return tc's commands for what one peer sends, `rate` bytes per second."""
        lines = _limit("eth0", rate)
        if not delays(self._network):
            return lines if rate < math.inf else []
        if latency.constant:
            held_up = self._held_up(latency.between(place, place))
            return [*lines, f"qdisc add dev eth0 parent 1:1 handle 2: {held_up}"]
        # Each destination is a class: its share is guaranteed, and what others leave is lent.
        lines[0] = "qdisc add dev eth0 root handle 1: htb"
        total = _bits(rate)
        for other, address in enumerate(self.addresses.values()):
            if other == place:
                continue
            number = f"{other + 2:x}"
            share = max(1000, total // max(1, len(self.addresses) - 1))
            lines += [
                f"class add dev eth0 parent 1:1 classid 1:{number} htb rate {share}bit ceil {total}bit",
                f"qdisc add dev eth0 parent 1:{number} handle {number}: {self._held_up(latency.between(place, other))}",
                f"filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst {address}/32 flowid 1:{number}",
            ]
        return lines

    def _held_up(self, latency_s: float) -> str:
        """Return netem's arguments; its jitter is to both sides of the delay, ours is added."""
        half_ms = self._network.jitter_ms / 2
        said = f"netem limit {WAITING_PACKETS_MAX} delay {latency_s * 1000 + half_ms:.3f}ms"
        if half_ms:
            said += f" {half_ms:.3f}ms"
        if self._network.loss:
            said += f" loss random {self._network.loss * 100:g}%"
        return f"{said} rate {UNLIMITED_BITS}bit"


def says_something(network: NetworkSettings) -> bool:
    """Return whether `[network]` asks for anything else than the network that is there."""
    return delays(network) or network.bandwidth_mbps is not None


def delays(network: NetworkSettings) -> bool:
    """Return whether packets are to be late or lost."""
    usual = NetworkSettings()
    return any(
        getattr(network, key) != getattr(usual, key)
        for key in ("latency_ms", "jitter_ms", "loss", "cities_path")
    )


def _limit(device: str, rate: float) -> list[str]:
    return [
        f"qdisc add dev {device} root handle 1: htb default 1",
        f"class add dev {device} parent 1: classid 1:1 htb rate {_bits(rate)}bit",
    ]


def _bits(rate: float) -> int:
    return UNLIMITED_BITS if rate == math.inf else max(1000, round(8 * rate))


def _told(error: BaseException) -> str:
    """Return in one sentence why a namespace or a queue could not be made."""
    if isinstance(error, subprocess.CalledProcessError):
        said = next((line for line in (error.stderr or "").splitlines() if line.strip()), "it says nothing")
        if "kind is unknown" in said or "not found" in said:
            return (
                "this kernel lacks a queueing discipline that latency, jitter, loss (netem) or a bandwidth (htb) "
                "take: modprobe sch_netem sch_htb"
            )
        return f"{error.cmd[0]} says '{said.strip()}'"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
