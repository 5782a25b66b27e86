"""The event engine: an agenda of (time, order) over pure protocols. No trio, no threads, no wall clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from gossip.protocols.base import (
    Message,
    MessageRejected,
    Model,
    ModelSaved,
    PeerId,
    Protocol,
    RoundCompleted,
    Ticket,
)
from gossip.wire.wholes import wholes_for
from scenarios.virtual.events.agenda import Agenda
from scenarios.virtual.events.connections import Connections
from scenarios.virtual.events.contacts import AllBut
from scenarios.virtual.events.event_log import FLUSH_NUMBERS, Did, EventLog
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.outgoing import Outgoing
from scenarios.virtual.events.paces import AS_EVER, Paces
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.seams import Learning, Measure, State
from scenarios.virtual.events.tally import Counts, Traffic
from topologies import Topology

_SEND, _DELIVER, _TRAIN, _TRAINED = map(int, (Did.SEND, Did.DELIVER, Did.TRAIN, Did.TRAINED))

Delivery: TypeAlias = list[Any]
"""[next index, receiver, number of its connection, receiver, …]: one message for several peers at one moment."""

LINGER_S = 10.0
"""Virtual seconds in which what is under way at the end may still arrive."""


class Simulation:
    """All peers of a run and the time they live in.

    Args:
        names: the peers, sorted.
        topology: graphs and weights.
        make_protocol: (model, state of the checkpoint, empty at first) -> a peer's protocol.
        learning: computes models.
        network: made with this simulation's `schedule`.
        training_s: (peer, round) -> how long its local update takes; with ``steps=``, of so many.
        frame_bytes: (peer, message) -> (bytes on the wire, of them tensors); ``whole=True``: the model goes whole.
        measure: told of every completed round.
        seed: of the peers' own draws.
        paces: how many steps a local update has; default: as many as ever.
    """

    def __init__(
        self,
        *,
        names: Sequence[PeerId],
        topology: Topology,
        make_protocol: Callable[[Model, State], Protocol],
        learning: Learning,
        make_network: Callable[[Callable[..., None]], Network],
        training_s: Callable[..., float],
        frame_bytes: Callable[..., tuple[int, int]],
        measure: Measure,
        seed: int,
        paces: Paces | None = None,
    ) -> None:
        self.topology = topology
        self.learning = learning
        self.seed = seed
        self.now = 0.0
        self.traffic = Traffic(len(names))
        self.log = EventLog(self.traffic.count)
        self._log_numbers = self.log.numbers
        self.notes: list[dict[str, Any]] = []
        """Lines of events.jsonl."""
        self.faults: dict[str, int] = {}
        self.processed = 0
        self._agenda = Agenda()
        # Bound once: a method looked up per message would be another object in memory per message.
        self._deliver_call = self._deliver
        self.reference = learning.reference if learning.codes else "none"
        """What receivers must hold to use what comes."""
        self._outgoing = Outgoing(
            learning,
            self.traffic.frames,
            frame_bytes,
            reference=self.reference,
            make_room=lambda peer, name: self.network.make_room(peer.index, self.index_of[name]),
        )
        self._stepping = False  # the caller looks at every single event
        self._make_protocol = make_protocol
        self._training_s = training_s
        self._paces = paces
        self._measure = measure
        self.on_round: Callable[[VirtualPeer, RoundCompleted], None] | None = None
        """Told of every completed round, too: where peers are to know what their models score."""
        self._over = False
        self.network = make_network(self.schedule)
        self.network.on_replaced = self.lost
        self._same_latency_s = self.network.latency.between(0, 0) if self.network.ideal else None
        # Who looks at every single message does so in `transmit`.
        self._together = self._same_latency_s is not None and type(self).transmit is Simulation.transmit
        self.index_of = {name: index for index, name in enumerate(names)}
        self.peers = self._make_peers(tuple(names))
        self.by_name = {peer.peer: peer for peer in self.peers}
        self.connections = Connections(self)
        self.returns = 0
        """How many faults are still to come that may bring a peer back; before the last the run is not over."""
        self._running = len(self.peers)
        self._quiet_since_s = 0.0

    def _make_peers(self, names: tuple[PeerId, ...]) -> list[VirtualPeer]:
        peers = []
        for index in range(len(names)):
            protocol = self._make_protocol(self.learning.initial(index), {})
            contacts: Sequence[PeerId] = (
                AllBut(names, index)
                if protocol.everybody
                else tuple(names[j] for j in self.topology.contacts(index))
            )
            peers.append(VirtualPeer(self, index, names, contacts, protocol))
        return peers

    # --- time ---

    def schedule(self, time_s: float, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function(*arguments)`` at `time_s`; equal times in the order in which they were asked for."""
        self._agenda.add(time_s, function, arguments)

    def start(self) -> None:
        """Let every living peer begin at time 0, in their order."""
        for peer in self.peers:
            if peer.alive:
                self.schedule(0.0, self._start, peer, peer.life)

    def run(self, *, until_s: float = float("inf"), events_max: int | None = None) -> bool:
        """Process events until the run is over or time is up; return whether `events_max` came first.

        One message to several peers at one moment may exceed `events_max`, unless that is 1.
        """
        self._stepping = events_max == 1
        agenda, left = self._agenda, events_max if events_max is not None else -1
        while not self._over:
            time_s = agenda.next_time_s()
            if time_s > until_s or time_s == float("inf"):
                self.now = min(until_s, time_s) if until_s < float("inf") else self.now
                return False
            self.now = time_s
            self.log.flush_if_long()
            queue = agenda.at(time_s)
            while queue and not self._over:
                if left == 0:
                    return True
                left -= 1
                function, arguments = queue.popleft()
                self.processed += 1
                function(*arguments)
            if not queue:
                agenda.done(time_s)
        return False

    def _start(self, peer: VirtualPeer, life: int) -> None:
        if not peer.alive or peer.started or peer.life != life:
            return
        if peer.paused:
            peer.resume_queue.append((self._start, peer, life))
            return
        peer.started = True
        self.log.add(self.now, Did.START, peer.index)
        peer.protocol.on_start(peer)

    # --- what peers ask for ---

    def lost(self, sender: int, receiver: int) -> None:
        """Note that a model that was queued has given way to a newer one."""
        self.peers[sender].wholes.lost(self.peers[receiver].peer)

    def transmit(self, sender: VirtualPeer, name: PeerId, message: Message, connection: int) -> None:
        """Count the message and let the network say when it arrives; a dead connection swallows it."""
        receiver = self.by_name[name]
        arriving, nbytes, frame = self._outgoing.to(name, sender, message)
        self.traffic.sent_bytes[sender.index] += nbytes
        numbers = self._log_numbers
        numbers += (self.now, _SEND, sender.index, receiver.index, nbytes, frame)
        if connection < 0:
            return
        delivery = (sender, arriving, frame, [1, receiver, connection])
        if self._same_latency_s is not None:
            self._agenda.add(self.now + self._same_latency_s, self._deliver_call, delivery)
        else:

            def arrive(time_s: float) -> None:
                self.schedule(time_s, self._deliver, *delivery)

            self.network.send(sender.index, receiver.index, message, nbytes, self.now, arrive)

    def transmit_all(self, sender: VirtualPeer, names: Sequence[PeerId], message: Message) -> None:
        """Transmit the same to several that are not down; they get it at the same moment, where all links are alike."""
        links = sender.links
        if not (self._together and (self._outgoing.alike or not message.carries_model)):
            for name in names:
                self.transmit(sender, name, message, links.get(name, 0))
            return
        arriving, nbytes, frame = self._outgoing.to("", sender, message)
        by_name, numbers, index, now_s = self.by_name, self._log_numbers, sender.index, self.now
        delivery: Delivery = [1]
        for name in names:
            receiver = by_name[name]
            numbers += (now_s, _SEND, index, receiver.index, nbytes, frame)
            connection = links.get(name, 0) if links else 0
            if connection >= 0:
                delivery += (receiver, connection)
        self.traffic.sent_bytes[index] += nbytes * len(names)
        if len(delivery) > 1:
            time_s = now_s + self._same_latency_s  # type: ignore[operator]
            self._agenda.add(time_s, self._deliver_call, (sender, arriving, frame, delivery))

    def _deliver(self, sender: VirtualPeer, message: Message, frame: int, to: Delivery) -> None:
        """Hand a message to its receivers, each of which is an event by itself."""
        name, nbytes, numbers = sender.peer, self.traffic.frames.sizes[frame][1], self._log_numbers
        received_bytes = self.traffic.received_bytes
        self.processed -= 1
        index, end = to[0], len(to)
        while index < end:
            receiver, connection = to[index], to[index + 1]
            index += 2
            self.processed += 1
            # What was under way when the receiver died, or the connection, went down with it.
            if receiver.links.get(name, 0) != connection:
                continue
            if receiver.paused:
                one = [1, receiver, connection]
                receiver.resume_queue.append((self._deliver, sender, message, frame, one))
                continue
            received_bytes[receiver.index] += nbytes
            numbers += (self.now, _DELIVER, receiver.index, sender.index, 0, frame)
            receiver.protocol.on_message(receiver, name, message)
            if index < end and (self._stepping or self._over):
                # The others' turn is the next event.
                to[0] = index
                self._agenda.put_back(self.now, (self._deliver_call, (sender, message, frame, to)))
                return
        if len(numbers) >= FLUSH_NUMBERS:
            self.log.flush()

    def train(self, peer: VirtualPeer, ticket: Ticket, model: Model, round: int) -> None:
        """Defer the value, and tell the protocol when its virtual time has passed."""
        numbers = self._log_numbers
        numbers += (self.now, _TRAIN, peer.index, -1, round, 0)
        steps = AS_EVER if self._paces is None else self._paces.begin(peer.index, self.now)
        handle = self.learning.train(model, peer.index, round=round, **steps)
        end_s = self.now + self._training_s(peer.index, round, **steps)
        self._agenda.add(end_s, self._trained, (peer, ticket, handle, peer.life, end_s))

    def _trained(self, peer: VirtualPeer, ticket: Ticket, model: Model, life: int, due_s: float) -> None:
        if peer.life != life:
            return
        if peer.paused:
            peer.resume_queue.append((self._trained, peer, ticket, model, life, due_s))
            return
        if peer.lag_s:
            # A stopped process does not compute either.
            due_s, peer.lag_s = due_s + peer.lag_s, 0.0
            self.schedule(due_s, self._trained, peer, ticket, model, life, due_s)
            return
        peer.training, peer.trained = False, model
        if self._paces is not None:
            self._paces.end(peer.index, self.now)
        numbers = self._log_numbers
        numbers += (self.now, _TRAINED, peer.index, -1, ticket, 0)
        peer.protocol.on_trained(peer, ticket, model)

    def round_completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        """Note the round, which is the peer's checkpoint too."""
        self.log.add(self.now, Did.ROUND, peer.index, event.heard, event.round)
        self.saved(peer, event)
        if self.on_round is not None:
            self.on_round(peer, event)
        if self._measure.round_completed(peer, event, self.now):
            self._over = True

    def saved(self, peer: VirtualPeer, event: RoundCompleted | ModelSaved) -> None:
        """Note a checkpoint, of a completed round or between two of them."""
        peer.checkpoint, peer.saved_s = (event.round, event.model), self.now
        if self.returns and self.learning.remembers:
            peer.memory = self.learning.remember(peer.index)

    def scored(self, peer: VirtualPeer, round: int) -> None:
        """Log that a peer is told its score."""
        self.log.add(self.now, Did.SCORE, peer.index, -1, round)

    def traffic_of(self, peer: int) -> tuple[Counts, Counts]:
        """Return what a peer has sent and received so far."""
        self.log.flush()
        return self.traffic.counted(peer)

    def rejected(self, peer: VirtualPeer, event: MessageRejected) -> None:
        """Log that a message was not used."""
        self.log.add(self.now, Did.REJECT, peer.index, self.index_of[event.sender])

    def finished(self, peer: VirtualPeer, model: Model) -> None:
        """Note that a peer is done; the run goes on until nobody needs it any more."""
        if not peer.finished:
            peer.finished = True
            self.log.add(self.now, Did.FINISH, peer.index)
            self._running -= 1
        self.check_over()

    def check_over(self) -> None:
        """Once all that live are finished, farewells and answers under way still arrive; then it is over."""
        if self._running == 0 and self.returns == 0:
            self._quiet_since_s = self.now
            self.schedule(self.now + LINGER_S, self._end, self.now)

    def _end(self, quiet_since_s: float) -> None:
        if self._running == 0 and self.returns == 0 and quiet_since_s == self._quiet_since_s:
            self._over = True

    # --- faults ---

    def note(self, event: str, peer: VirtualPeer | None, **details: Any) -> None:
        """Add a line to events.jsonl."""
        who = {} if peer is None else {"peer": peer.peer}
        self.notes.append({"time": round(self.now, 6), **who, "event": event, **details})

    def crash(self, peer: VirtualPeer, *, leaving: bool = False) -> None:
        """End a peer's process: all that it held in memory is gone, its checkpoint stays."""
        if not peer.alive:
            return
        if leaving and peer.started and not peer.paused:
            peer.protocol.on_leave(peer)
        if peer.checkpoint is not None:
            # Of this very checkpoint: what a protocol did since is lost with the process.
            peer.state = {**peer.protocol.snapshot(), "round": peer.checkpoint[0]}
        self._fault("left" if leaving else "crashed", peer)
        peer.alive = peer.started = peer.training = peer.paused = False
        peer.life += 1
        peer.lag_s = 0.0
        peer.timers.clear()
        peer.resume_queue.clear()
        if not peer.finished:
            self._running -= 1
        self.connections.died(peer)
        self.check_over()

    def restart(self, peer: VirtualPeer) -> None:
        """Start a peer (again), from its last checkpoint where it has one."""
        if peer.alive:
            return
        self._fault("restarted" if peer.life else "joined", peer)
        _, model = peer.checkpoint or (0, self.learning.initial(peer.index))
        away = {} if peer.checkpoint is None else {"away_s": self.now - peer.saved_s}
        peer.protocol = self._make_protocol(model, {**peer.state, **away})
        if peer.life:
            peer.wholes = wholes_for(self.reference)
            if self._paces is not None:
                self._paces.forget(peer.index)
            self.learning.begin_anew(peer.index)
            if peer.checkpoint is not None and peer.memory is not None:
                self.learning.restore(peer.index, peer.memory)
        peer.alive = True
        peer.finished = False
        self._running += 1
        self.schedule(self.connections.dial(peer), self._start, peer, peer.life)

    def absent(self, peer: VirtualPeer) -> None:
        """Make a peer one that has not started yet; call before `start`."""
        if peer.alive:
            peer.alive = False
            self._running -= 1
            self.connections.absent(peer)

    def pause(self, peer: VirtualPeer) -> None:
        """Stop a process without ending it (SIGSTOP): its connections stay until heartbeats are missed."""
        if peer.alive and not peer.paused:
            self._fault("paused", peer)
            peer.paused, peer.paused_s = True, self.now
            self.connections.stopped(peer)

    def resume(self, peer: VirtualPeer) -> None:
        """Let a paused process go on: what came meanwhile is handled now, in its order."""
        if not peer.paused:
            return
        self._fault("resumed", peer)
        peer.paused = False
        if peer.training:
            peer.lag_s += self.now - peer.paused_s
        queue, peer.resume_queue = peer.resume_queue, []
        for function, *arguments in queue:
            function(*arguments)
        self.connections.went_on(peer)

    def _fault(self, name: str, peer: VirtualPeer) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1
        self.log.add(self.now, Did.FAULT, peer.index, len(name))
        self.note(name, peer)
