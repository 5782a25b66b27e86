"""One simulated peer: the `Context` of an unchanged protocol, under virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gossip import seeding
from gossip.protocols.base import (
    Contribution,
    Event,
    GossipStep,
    Message,
    MessageRejected,
    Model,
    ModelAdopted,
    ModelSaved,
    Part,
    PeerId,
    Protocol,
    RoundCompleted,
    Ticket,
    TimerKey,
)
from gossip.wire.wholes import wholes_for
from scenarios.virtual.events.connections import DOWN
from scenarios.virtual.events.event_log import Did

if TYPE_CHECKING:
    from scenarios.virtual.events.simulation import Simulation

NO_STATE: Mapping[str, int | float | str] = {}
NONE_REJECTED: Mapping[str, int] = {}


def _signature(peer: PeerId, statement: bytes) -> bytes:
    return hashlib.blake2b(statement, key=hashlib.sha256(peer.encode()).digest()).digest()


class VirtualPeer:
    """Everything of one peer outside its protocol. Attributes are read by the simulation on every event."""

    __slots__ = (
        "_row",
        "_simulation",
        "adopted",
        "alive",
        "checkpoint",
        "contacts",
        "finished",
        "index",
        "lag_s",
        "life",
        "links",
        "memory",
        "paused",
        "paused_s",
        "peer",
        "peers",
        "protocol",
        "rejected",
        "resume_queue",
        "round",
        "saved_s",
        "started",
        "state",
        "tickets",
        "timers",
        "trained",
        "training",
        "wholes",
    )

    def __init__(
        self,
        simulation: Simulation,
        index: int,
        names: Sequence[PeerId],
        contacts: Sequence[PeerId],
        protocol: Protocol,
    ) -> None:
        self._simulation = simulation
        self._row: tuple[int, Mapping[PeerId, float]] | None = None
        self.index = index
        self.peer = names[index]
        self.peers = names
        self.contacts = contacts
        self.protocol = protocol
        self.alive = True
        self.started = False
        self.paused = False
        self.paused_s = 0.0
        """When the present pause began."""
        self.lag_s = 0.0
        """How long the present training was held up by pauses."""
        self.life = 0
        """Counts crashes: what was begun in an earlier life is not for this one."""
        self.links: dict[PeerId, int] = {}
        """Contact -> the number of the connection to it, see `connections`; those that are not here have number 0."""
        self.timers: dict[TimerKey, list[float]] = {}
        """Key -> [when it rings (infinite: cancelled), when the heap will ask]."""
        self.wholes = wholes_for(simulation.reference)
        """Which models go whole, of this life."""
        self.tickets = 0
        self.training = False
        self.trained: Model | None = None
        """The outcome of the last local update, kept for its loss."""
        self.round = 0
        self.finished = False
        self.adopted = 0
        self.checkpoint: tuple[int, Model] | None = None
        self.memory: Any = None
        """What is remembered beside the model, as of the checkpoint."""
        self.saved_s = 0.0
        """When the checkpoint was made."""
        self.state = NO_STATE
        """The protocol's part of the checkpoint that the next life begins from."""
        self.resume_queue: list[tuple[Any, ...]] = []
        self.rejected = NONE_REJECTED

    @property
    def bytes_sent(self) -> int:
        """What this peer has sent so far."""
        return self._simulation.traffic.sent_bytes[self.index]

    @property
    def bytes_received(self) -> int:
        """What this peer has received so far."""
        return self._simulation.traffic.received_bytes[self.index]

    def note_rejected(self, reason: str) -> None:
        """Count a message or model that was of no use."""
        self.rejected = {**self.rejected, reason: self.rejected.get(reason, 0) + 1}

    def now(self) -> float:
        """Return virtual seconds since the start."""
        return self._simulation.now

    def rng(self, purpose: str, round: int = 0) -> np.random.Generator:
        """Return the generator of this peer, purpose and round."""
        return seeding.generator(self._simulation.seed, purpose, peer=self.peer, round=round)

    def neighbours(self, round: int) -> Mapping[PeerId, float]:
        """Return W_ij of the round's neighbours."""
        row = self._row
        if row is not None and row[0] == round:
            return row[1]
        topology = self._simulation.topology
        if not topology.time_varying:
            if row is not None:
                return row[1]
            round = 0
        names = self.peers
        weights = {names[j]: weight for j, weight in topology.row(self.index, round).items()}
        self._row = (round, weights)
        return weights

    def final_neighbours(self, step: int) -> Mapping[PeerId, float]:
        """Return W_ij of a final step."""
        final, names = self._simulation.topology.final, self.peers
        return {} if final is None else {names[j]: w for j, w in final.row(self.index, step).items()}

    def audience(self, round: int) -> Sequence[PeerId]:
        """Return whom this peer sends to in the round."""
        topology = self._simulation.topology
        if not topology.directed:
            return tuple(self.neighbours(round))
        return tuple(self.peers[j] for j in topology.audience(self.index, round))

    def is_up(self, peer: PeerId) -> bool:
        """Return whether there is a connection, as far as this peer knows."""
        return self.links.get(peer, 0) != DOWN

    def send(self, peer: PeerId, message: Message) -> None:
        """Hand the message to the network."""
        connection = self.links.get(peer, 0)
        if connection != DOWN:
            self._simulation.transmit(self, peer, message, connection)

    def send_all(self, peers: Sequence[PeerId], message: Message) -> Sequence[PeerId]:
        """Hand the message to the network, for all of them at once."""
        down: list[PeerId] = []
        links = self.links
        if links:
            down = [peer for peer in peers if links.get(peer, 0) == DOWN]
            if down:
                peers = [peer for peer in peers if peer not in down]
        if peers:
            self._simulation.transmit_all(self, peers, message)
        return down

    def set_timer(self, key: TimerKey, delay_s: float) -> None:
        """Start or replace a timer.

        The heap holds one entry per key, which looks when it is due whether the timer has moved: a deadline that
        is replaced in every step would otherwise leave thousands of dead entries.
        """
        simulation = self._simulation
        rings_s = simulation.now + delay_s
        simulation.log.add(simulation.now, Did.SET_TIMER, self.index, -1, int(delay_s * 1000))
        timer = self.timers.get(key)
        if timer is None:
            self.timers[key] = [rings_s, rings_s]
        elif timer[1] <= rings_s:
            timer[0] = rings_s
            return
        else:
            timer[0] = timer[1] = rings_s
        simulation.schedule(rings_s, self._ring, key, rings_s, self.life)

    def cancel_timer(self, key: TimerKey) -> None:
        """Make the timer never ring."""
        timer = self.timers.get(key)
        if timer is not None:
            timer[0] = float("inf")

    def _ring(self, key: TimerKey, asked_s: float, life: int) -> None:
        """A heap entry of a timer is due: ring, or look again when the timer is due now."""
        timer = self.timers.get(key)
        if self.life != life or timer is None or timer[1] != asked_s:
            return
        simulation = self._simulation
        if timer[0] > asked_s:
            if timer[0] == float("inf"):
                del self.timers[key]
            else:
                timer[1] = timer[0]
                simulation.schedule(timer[0], self._ring, key, timer[0], life)
            return
        if self.paused:
            self.resume_queue.append((self._ring, key, asked_s, life))
            return
        del self.timers[key]
        simulation.log.add(simulation.now, Did.TIMER, self.index)
        self.protocol.on_timer(self, key)

    def train(self, model: Model, *, round: int) -> Ticket:
        """Begin a local update; its value is computed with many others, later."""
        assert not self.training, f"{self.peer} trains two models at a time"
        self.training = True
        self.tickets += 1
        ticket = Ticket(self.tickets)
        self._simulation.train(self, ticket, model, round)
        return ticket

    def merge(
        self,
        own: Model,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
    ) -> Model:
        """Merge; its value is computed with many others, later."""
        simulation = self._simulation
        simulation.log.add(simulation.now, Did.MERGE, self.index, len(received), at.round, at.step)
        return simulation.learning.merge(own, own_weight, received, peer=self.index, at=at)

    def adopt(self, own: Model, received: Sequence[Contribution]) -> Model:
        """Take over what travels of another peer's model."""
        simulation = self._simulation
        simulation.log.add(simulation.now, Did.ADOPT, self.index, simulation.index_of[received[0].sender])
        return simulation.learning.adopt(own, received)

    def agreed(self, own: Model, received: Sequence[Contribution]) -> Model:
        """Take over what most of other peers' models agree on."""
        simulation = self._simulation
        for each in received:
            simulation.log.add(simulation.now, Did.ADOPT, self.index, simulation.index_of[each.sender])
        return simulation.learning.agreed(own, received)

    def graft(self, base: Model, source: Model, part: Part) -> Model:
        """Make one model out of two; its value is computed with many others, later."""
        return self._simulation.learning.graft(base, source, part)

    def moved(self, base: Model, before: Model, after: Model) -> Model:
        """Add an update to another model; its value is computed with many others, later."""
        return self._simulation.learning.moved(base, before, after)

    def sign(self, statement: bytes) -> bytes:
        """Return as many bytes as a signature has; nobody here makes one for another."""
        return _signature(self.peer, statement)

    def verify(self, peer: PeerId, statement: bytes, signature: bytes) -> bool:
        """Return whether it is that peer's."""
        return signature == _signature(peer, statement)

    def emit(self, event: Event) -> None:
        """Count and measure."""
        match event:
            case RoundCompleted():
                self.round = event.round
                self._simulation.round_completed(self, event)
            case MessageRejected():
                self.note_rejected(event.reason)
                self._simulation.rejected(self, event)
            case ModelSaved():
                self.round = event.round
                self._simulation.saved(self, event)
            case ModelAdopted():
                self.adopted += 1
                self._simulation.note("adopted", self, other=event.sender, round=event.round)

    def finish(self, model: Model) -> None:
        """All rounds are done."""
        self._simulation.finished(self, model)
