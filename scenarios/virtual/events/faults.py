"""What goes wrong in a virtual run, and when: the list of a scenario, and churn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossip import seeding
from gossip.errors import SettingError
from gossip.text_files import numbered_lines
from scenarios.effects import Effects
from scenarios.sections import Churn, Fault, FaultSettings
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation

HEALED_S = 1.0
"""From a link's return to the new connection: both sides try again with a backoff that has grown."""


class FaultPlan:
    """Puts every fault into the simulation's heap. Which peers a share means is drawn from the seed."""

    def __init__(self, settings: FaultSettings, simulation: Simulation, *, detected_s: float) -> None:
        self._simulation = simulation
        simulation.connections.detected_s = detected_s
        self._left: set[int] = set()
        self._cut: list[tuple[VirtualPeer, VirtualPeer]] = []
        self.effects = Effects(settings.list)
        for number, fault in enumerate(settings.list):
            check_positions(fault, number, len(simulation.peers))
            chosen = self._choose(fault, number)
            if fault.do == "join":
                for peer in chosen or ():
                    simulation.absent(peer)
            if fault.do in ("restart", "join"):
                self._schedule_return(fault.at, self._apply, number, fault, chosen)
            else:
                simulation.schedule(fault.at, self._apply, number, fault, chosen)
        if settings.churn is not None:
            self._churn(settings.churn)

    def _choose(self, fault: Fault, number: int) -> list[VirtualPeer] | None:
        if fault.peers is None:
            return None
        peers = self._simulation.peers
        return [peers[i] for i in chosen_positions(fault, number, len(peers), self._simulation.seed)]

    def _apply(self, number: int, fault: Fault, chosen: Sequence[VirtualPeer] | None) -> None:
        """Do what entry `number` says, and note whether that changed anything."""
        before = sum(self._simulation.faults.values()), len(self._cut)
        self._do(fault, chosen)
        after = sum(self._simulation.faults.values()), len(self._cut)
        self.effects.came(number, effective=after != before)

    def _do(self, fault: Fault, chosen: Sequence[VirtualPeer] | None) -> None:
        simulation = self._simulation
        everybody = simulation.peers
        match fault.do:
            case "crash" | "leave":
                for peer in chosen or ():
                    simulation.crash(peer, leaving=fault.do == "leave")
                    if fault.do == "leave":
                        self._left.add(peer.index)
            case "restart" | "join":
                # Whoever has not joined yet has nothing to start again from.
                for peer in [peer for peer in everybody if peer.life] if chosen is None else chosen:
                    self._left.discard(peer.index)
                    simulation.restart(peer)
            case "pause":
                for peer in chosen or ():
                    simulation.pause(peer)
            case "resume":
                for peer in everybody if chosen is None else chosen:
                    simulation.resume(peer)
            case "partition":
                self._partition({peer.index for peer in chosen or ()})
            case "heal":
                self._heal()

    def _schedule_return(self, time_s: float, function: Callable[..., None], *arguments: Any) -> None:
        """Schedule what may bring a peer back; the run is not over before."""
        self._simulation.returns += 1
        self._simulation.schedule(time_s, self._return, function, arguments)

    def _return(self, function: Callable[..., None], arguments: Sequence[Any]) -> None:
        self._simulation.returns -= 1
        function(*arguments)
        self._simulation.check_over()

    def _partition(self, group: set[int]) -> None:
        simulation = self._simulation
        simulation.note("partition", None, peers=sorted(group))
        for index in sorted(group):
            peer = simulation.peers[index]
            for name in peer.contacts:
                other = simulation.by_name[name]
                if other.index not in group and not simulation.connections.is_cut(peer, other):
                    simulation.connections.cut(peer, other)
                    self._cut.append((peer, other))

    def _heal(self) -> None:
        self._simulation.note("heal", None)
        for peer, other in self._cut:
            self._simulation.connections.heal(peer, other, delay_s=HEALED_S)
        self._cut.clear()

    # --- churn ---

    def _churn(self, churn: Churn) -> None:
        if churn.trace_path is not None:
            self._follow_trace(Path(churn.trace_path))
            return
        for peer in self._simulation.peers:
            rng = seeding.generator(self._simulation.seed, "churn", peer=peer.peer)
            self._next_session(peer, churn, rng, online=True)

    def _next_session(
        self, peer: VirtualPeer, churn: Churn, rng: np.random.Generator, *, online: bool
    ) -> None:
        mean_s = churn.online_s if online else churn.offline_s
        assert mean_s is not None, "checked with the settings"
        # The mean of a Weibull variable of scale 1 is Γ(1 + 1/shape).
        length_s = mean_s * float(rng.weibull(churn.shape)) / math.gamma(1 + 1 / churn.shape)
        time_s = self._simulation.now + length_s
        if online:
            self._simulation.schedule(time_s, self._go_offline, peer, churn, rng)
        else:
            self._schedule_return(time_s, self._come_back, peer, churn, rng)

    def _go_offline(self, peer: VirtualPeer, churn: Churn, rng: np.random.Generator) -> None:
        # Who has done all its rounds stays to answer the others; who left or has not joined is the list's affair.
        if peer.finished or peer.index in self._left:
            return
        joined = peer.alive or peer.life > 0
        self._simulation.crash(peer)
        self._next_session(peer, churn, rng, online=not joined)

    def _come_back(self, peer: VirtualPeer, churn: Churn, rng: np.random.Generator) -> None:
        if peer.index not in self._left:
            self._simulation.restart(peer)
            self._next_session(peer, churn, rng, online=True)

    def _follow_trace(self, path: Path) -> None:
        sessions = read_trace(path, len(self._simulation.peers))
        for index, times in sorted(sessions.items()):
            peer = self._simulation.peers[index]
            if times[0][0] > 0:
                self._simulation.absent(peer)
            for start_s, end_s in times:
                if start_s > 0:
                    self._schedule_return(start_s, self._simulation.restart, peer)
                self._simulation.schedule(end_s, self._simulation.crash, peer)


def check_positions(fault: Fault, number: int, peers: int) -> None:
    """Raise `SettingError` for a position that no peer has."""
    if isinstance(fault.peers, tuple):
        for position in fault.peers:
            if not 0 <= position < peers:
                raise SettingError(
                    f"[faults] list, entry {number + 1} ({fault.do} at {fault.at:g} s): peer {position} does not "
                    f"exist; positions are 0 to {peers - 1}"
                )


def chosen_positions(fault: Fault, number: int, peers: int, seed: int) -> list[int]:
    """Return the positions that a fault means, the same in every engine.

    `number` is the fault's place in the list: each draws for itself.
    """
    if fault.peers is None:
        return []
    if isinstance(fault.peers, tuple):
        return list(fault.peers)
    count = max(1, round(float(fault.peers) * peers))
    rng = seeding.generator(seed, "faults", round=number)
    return sorted(int(i) for i in rng.choice(peers, size=count, replace=False))


def read_trace(path: Path, peers: int) -> dict[int, list[tuple[float, float]]]:
    """Read CSV lines 'peer,online_from_s,online_to_s'; a peer without a line is always online."""
    sessions: dict[int, list[tuple[float, float]]] = {}
    for number, line in numbered_lines(path):
        try:
            peer, start, end = line.split(",")
            index, start_s, end_s = int(peer), float(start), float(end)
            if not (0 <= index < peers and 0 <= start_s < end_s < math.inf):
                raise ValueError
        except ValueError:
            raise SettingError(
                f"{path}:{number}: {line[:80]!r}: must be 'peer,online_from_s,online_to_s' with peer 0 to {peers - 1} "
                "and from before to"
            ) from None
        if any(start_s < other_end_s and other_s < end_s for other_s, other_end_s in sessions.get(index, ())):
            raise SettingError(f"{path}:{number}: {line[:80]!r}: overlaps another session of peer {index}")
        sessions.setdefault(index, []).append((start_s, end_s))
    for times in sessions.values():
        times.sort()
    return sessions
