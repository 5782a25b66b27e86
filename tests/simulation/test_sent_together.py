"""A message that goes to several at one moment is many messages, told at once."""

from __future__ import annotations

import pytest

from gossip.protocols import Message, Rounds, RoundsSettings
from gossip.protocols.base import PeerId
from scenarios.sections import NetworkSettings
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.scalars import ScalarLearning
from tests.simulation.watched import Unmeasured
from topologies import Topology

PEERS = 8


class OneByOne(Simulation):
    """Looks at every single message, and does nothing else."""

    def transmit(self, sender: VirtualPeer, name: PeerId, message: Message, connection: int) -> None:
        super().transmit(sender, name, message, connection)


def outcome(make: type[Simulation], kind: str, settings: RoundsSettings) -> tuple[object, ...]:
    """Return all that can be seen of a run in which peers crash, come back, and lose their links."""
    simulation = make(
        names=[f"p{index}" for index in range(PEERS)],
        topology=Topology(kind, PEERS, degree=3 if kind in ("regular", "epidemic-push") else None, seed=3),
        make_protocol=lambda model, state: Rounds.resume(settings, rounds=12, model=model, state=state),
        learning=ScalarLearning(),
        make_network=lambda schedule: Network(
            NetworkSettings(latency_ms=20), peers=PEERS, seed=0, schedule=schedule
        ),
        training_s=lambda peer, round: 0.01 * (1 + peer % 2),
        frame_bytes=lambda peer, message: (1000 * message.carries_model + 50, 0),
        measure=Unmeasured(),
        seed=0,
    )
    peers, links = simulation.peers, simulation.connections
    simulation.schedule(0.055, simulation.crash, peers[1])
    simulation.schedule(0.075, links.cut, peers[3], peers[4])
    simulation.schedule(0.2, simulation.restart, peers[1])
    simulation.schedule(0.25, lambda: links.heal(peers[3], peers[4], delay_s=0.1))
    simulation.start()
    simulation.run(until_s=300.0)
    return (
        simulation.log.hexdigest(),
        simulation.processed,
        [peer.checkpoint for peer in peers],
        [simulation.traffic_of(index) for index in range(PEERS)],
        [(peer.bytes_sent, peer.bytes_received) for peer in peers],
    )


@pytest.mark.parametrize("kind", ["ring", "regular", "star", "epidemic-push"])
@pytest.mark.parametrize("order", ["adapt-then-combine", "combine-then-adapt"])
def test_messages_to_several_at_once_are_those_sent_one_by_one(kind: str, order: str) -> None:
    settings = RoundsSettings(gossip_steps=2, order=order)
    together = outcome(Simulation, kind, settings)
    assert together == outcome(OneByOne, kind, settings)
