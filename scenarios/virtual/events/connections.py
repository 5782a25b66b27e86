"""Who is connected with whom, and when does each end learn that this has changed?

A connection has a number, and a message belongs to the connection that it was sent over: it arrives if the receiver
still has that one. Each end keeps its own number, because the two learn at different times that the other is gone:

    a process dies           its system closes the connections: the others learn it one latency later
    a link is cut            nobody learns anything until heartbeats are missed; what is sent meanwhile is lost
    a process is stopped     the same, but what came before that is kept for it
    a process begins, a link is back, a stopped process goes on
                             it connects again, and both ends are told of the old connection's end before
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scenarios.virtual.events.event_log import Did

if TYPE_CHECKING:
    from scenarios.virtual.events.peer import VirtualPeer
    from scenarios.virtual.events.simulation import Simulation

DOWN = -1
"""No connection, and the peer knows it. Numbers below are connections that are dead without the peer's knowing."""

HANDSHAKE_LATENCIES = 6
"""TCP and TLS take about three times there and back."""

DETECTED_S = 10.0
"""As the default of `[net] heartbeat_timeout_s`."""


class Connections:
    """Keeps `VirtualPeer.links` and tells protocols. The first connections stand at time 0, all with number 0."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._numbers = 0
        self._cut: set[tuple[int, int]] = set()
        self.detected_s = DETECTED_S
        """How long a connection may be silent before an end gives it up."""

    # --- processes ---

    def absent(self, peer: VirtualPeer) -> None:
        """Note that a peer is not there from the beginning."""
        for other in self._linked(peer):
            peer.links[other.peer] = other.links[peer.peer] = DOWN

    def died(self, peer: VirtualPeer) -> None:
        """Close a dead process' connections."""
        simulation = self._simulation
        for other in self._linked(peer):
            peer.links[other.peer] = DOWN
            simulation.network.drop(peer.index, other.index, simulation.now)
            number = other.links.get(peer.peer, 0)
            if number >= 0:
                delay_s = simulation.network.latency.between(peer.index, other.index)
                simulation.schedule(simulation.now + delay_s, self._lost, other, peer, number)

    def dial(self, peer: VirtualPeer) -> float:
        """Connect a peer with all that can be reached; return when the last handshake will be done."""
        return max((self._dial(peer, other) for other in self._linked(peer)), default=self._simulation.now)

    def _dial(self, peer: VirtualPeer, other: VirtualPeer) -> float:
        """Connect two, if they can be; return when the handshake will be done, and now where there is none."""
        simulation = self._simulation
        reachable = other.alive and not other.paused and not self.is_cut(peer, other)
        if not reachable or peer.links.get(other.peer, 0) != DOWN:
            return simulation.now
        latency_s = simulation.network.latency.between(peer.index, other.index)
        time_s = simulation.now + HANDSHAKE_LATENCIES * latency_s
        simulation.schedule(time_s, self._connect, peer, other, peer.life, other.life)
        return time_s

    def stopped(self, peer: VirtualPeer) -> None:
        """Have a stopped process' neighbours miss its heartbeats."""
        simulation = self._simulation
        for other in self._linked(peer):
            simulation.schedule(simulation.now + self.detected_s, self._silent, other, peer)

    def went_on(self, peer: VirtualPeer) -> None:
        """Let a stopped process find out which connections it has lost, and connect again."""
        for other in self._linked(peer):
            if peer.links.get(other.peer, 0) < DOWN and not self.is_cut(peer, other):
                self._give_up(peer, other)
            if other.paused:
                self._simulation.schedule(self._simulation.now + self.detected_s, self._silent, peer, other)
        self.dial(peer)

    # --- links ---

    def is_cut(self, peer: VirtualPeer, other: VirtualPeer) -> bool:
        """Return whether nothing can pass between two peers."""
        return _pair(peer, other) in self._cut

    def cut(self, peer: VirtualPeer, other: VirtualPeer) -> None:
        """Take the link between two peers away."""
        simulation = self._simulation
        self._cut.add(_pair(peer, other))
        simulation.network.drop(peer.index, other.index, simulation.now)
        for one, two in ((peer, other), (other, peer)):
            if one.links.get(two.peer, 0) != DOWN:
                number = self._break(one, two)
                simulation.schedule(simulation.now + self.detected_s, self._lost, one, two, number)

    def heal(self, peer: VirtualPeer, other: VirtualPeer, *, delay_s: float) -> None:
        """Give the link back. The old connection is of no use any more; a new one comes up after `delay_s`."""
        self._cut.discard(_pair(peer, other))
        for one, two in ((peer, other), (other, peer)):
            if one.alive and not one.paused and one.links.get(two.peer, 0) < DOWN:
                self._give_up(one, two)
        self._simulation.schedule(
            self._simulation.now + delay_s, self._connect, peer, other, peer.life, other.life
        )

    # --- what ends learn ---

    def _lost(self, one: VirtualPeer, two: VirtualPeer, number: int) -> None:
        if one.paused:
            one.resume_queue.append((self._lost, one, two, number))
        elif one.alive and one.links.get(two.peer, 0) == number:
            self._give_up(one, two)
            # The other may be back already, and have been told that this end was not to be reached.
            self._dial(one, two)

    def _silent(self, one: VirtualPeer, stopped: VirtualPeer) -> None:
        """`one` has heard nothing for long, if the other has been stopped for so long; both must be able to look."""
        silent_s = self._simulation.now - stopped.paused_s
        if not (one.alive and stopped.paused) or one.paused or silent_s < self.detected_s * (1 - 1e-9):
            return
        if one.links.get(stopped.peer, 0) != DOWN:
            self._simulation.network.drop(one.index, stopped.index, self._simulation.now)
            self._give_up(one, stopped)
            if stopped.links.get(one.peer, 0) >= 0:
                self._break(stopped, one)

    def _connect(self, a: VirtualPeer, b: VirtualPeer, life_a: int, life_b: int) -> None:
        """Make a connection, if both are still the processes that wanted it."""
        if (a.life, b.life) != (life_a, life_b) or not (a.alive and b.alive):
            return
        number = a.links.get(b.peer, 0)
        if a.paused or b.paused or self.is_cut(a, b) or number == b.links.get(a.peer, 0) >= 0:
            return
        for one, two in ((a, b), (b, a)):
            if one.links.get(two.peer, 0) != DOWN:
                self._give_up(one, two)
        self._numbers += 1
        a.links[b.peer] = b.links[a.peer] = self._numbers
        for one, two in ((a, b), (b, a)):
            self._tell(one, two.peer, True)

    def _break(self, one: VirtualPeer, two: VirtualPeer) -> int:
        """Make one end's connection dead without its knowing; every number is used once."""
        self._numbers += 1
        one.links[two.peer] = DOWN - self._numbers
        return DOWN - self._numbers

    def _give_up(self, one: VirtualPeer, two: VirtualPeer) -> None:
        one.links[two.peer] = DOWN
        self._tell(one, two.peer, False)

    def _tell(self, peer: VirtualPeer, other: str, up: bool) -> None:
        simulation = self._simulation
        simulation.log.add(simulation.now, Did.PEER, peer.index, simulation.index_of[other], int(up))
        if up:
            peer.wholes.came(other)
        if peer.started:
            peer.protocol.on_peer(peer, other, up)

    def _linked(self, peer: VirtualPeer) -> Iterator[VirtualPeer]:
        by_name = self._simulation.by_name
        return (by_name[name] for name in peer.contacts)


def _pair(a: VirtualPeer, b: VirtualPeer) -> tuple[int, int]:
    return (a.index, b.index) if a.index < b.index else (b.index, a.index)
