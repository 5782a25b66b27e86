"""What a method costs on a link: its protocol, graph and frames in the virtual engine's world, with empty models.

Who sends what to whom is decided by the protocol itself, sizes by the frames of the real wire, and seconds by the
engine's links. Training takes no time here, and the world runs so fast that no deadline comes true: what is measured in
it is multiplied by as much.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial

from gossip.errors import SettingError
from gossip.net.settings import bytes_per_second, sent_chunk_bytes
from gossip.protocols.base import Protocol, RoundCompleted
from gossip.wire.codecs.base import Codec
from gossip.wire.messages import register_messages
from gossip.wire.tensors import TENSOR_BYTES_MAX
from scenarios.scenario import ScenarioSettings
from scenarios.sections import NetworkSettings
from scenarios.virtual.assembly import protocols_of
from scenarios.virtual.events.frame_sizes import FrameSizes
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.scalars import ScalarLearning

SPACE_ID = "0" * 32
"""As long as any; only its length counts."""

ROUND_S = 1e-3
"""What a round should take in the fast world: a thousandth of what any protocol waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Of every peer: Mbit/s up and down each, and seconds one way."""

    mbps: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a round on average, and of one peer; what a codec sends whole to newcomers is not counted."""

    rounds: int
    """That it was counted over."""
    bytes_total: int
    """Sent by all peers in all these rounds: messages with framing, without TLS and heartbeats."""
    bytes_per_peer: float
    """Sent per round, mean of the peers."""
    bytes_busiest: float
    """Sent or received per round by whoever has most to do."""
    seconds: float
    """Of a round on the link, without training; at least the period where the protocol has one."""


class _Ends:
    """When the last round of any peer was completed."""

    def __init__(self) -> None:
        self.last_s = 0.0

    def round_completed(self, peer: VirtualPeer, event: RoundCompleted, now_s: float) -> bool:
        self.last_s = now_s
        return False


def cost_of(scenario: ScenarioSettings, *, parameters: int, link: Link) -> Cost:
    """Return what the scenario's method costs with models of so many parameters that travel, in `[stop] rounds` rounds.

    Raises:
        SettingError: the graph cannot be drawn, or no such model goes into messages so.
    """
    _check_messages(scenario, parameters)
    names, rounds = scenario.peer_names, scenario.stop.rounds
    protocol: type[Protocol] = scenario.protocol.load()
    register_messages(protocol)
    codec = scenario.codec.load()(scenario.codec)
    whole_s = len(names) * 4 * parameters / bytes_per_second(link.mbps) + link.latency_s
    faster = max(1.0, whole_s / ROUND_S)
    network = NetworkSettings(
        latency_ms=1000 * link.latency_s / faster, bandwidth_mbps=link.mbps * faster, jitter_ms=0.0, loss=0.0
    )
    ends, topology = _Ends(), scenario.graphs()
    uploads = scenario.uploads_mbps()
    simulation = Simulation(
        names=names,
        topology=topology,
        # Nobody has a score here, so nobody asks to stop early.
        make_protocol=protocols_of(scenario, topology, better=operator.gt),
        learning=ScalarLearning(),  # type: ignore[arg-type]
        make_network=partial(_network, network, len(names), [mbps and mbps * faster for mbps in uploads]),
        training_s=lambda peer, round: 0.0,
        frame_bytes=FrameSizes(
            names,
            run_id=scenario.task().run_id(),
            space_id=SPACE_ID,
            codec=codec,
            learned_size=parameters,
            chunk_bytes=[sent_chunk_bytes(scenario.net.chunk_bytes, mbps) for mbps in uploads],
        ),
        measure=ends,
        seed=scenario.seed,
    )
    simulation.start()
    simulation.run()
    sent, received = list(simulation.traffic.sent_bytes), list(simulation.traffic.received_bytes)
    busiest = max(max(sent), max(received)) / rounds
    period_s = protocol.update_period_s(scenario.protocol)
    if period_s is None:
        seconds = faster * ends.last_s / rounds
    else:
        # Its rounds begin by the clock, in whatever world.
        seconds = max(period_s, busiest / bytes_per_second(link.mbps) + link.latency_s)
    return Cost(
        rounds=rounds,
        bytes_total=sum(sent),
        bytes_per_peer=sum(sent) / len(names) / rounds,
        bytes_busiest=busiest,
        seconds=seconds,
    )


def _check_messages(scenario: ScenarioSettings, parameters: int) -> None:
    """Refuse models of fewer numbers than parts, and such that are too long for a message."""
    parts = scenario.protocol.load().parts(scenario.protocol)
    if parts > parameters:
        raise SettingError(
            f"[protocol] parts = {parts}: {parameters} numbers of the model travel, and a part has one at least"
        )
    longest = -(-parameters // parts)
    codec: Codec = scenario.codec.load()(scenario.codec)
    bytes_max = max((spec.nbytes for spec in codec.specs(longest)), default=0)
    if bytes_max > TENSOR_BYTES_MAX:
        raise SettingError(
            f"[codec] kind = '{scenario.codec.kind}': {longest} numbers are a tensor of {bytes_max} bytes, and one "
            f"in a message has at most {TENSOR_BYTES_MAX}"
        )


def _network(settings: NetworkSettings, peers: int, uploads: list[float | None], schedule: object) -> Network:
    return Network(settings, peers=peers, seed=0, schedule=schedule, uploads_mbps=uploads)  # type: ignore[arg-type]
