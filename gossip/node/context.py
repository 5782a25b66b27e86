"""The real world as a protocol sees it: trio's clock, a learning thread, the table of neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import trio

from gossip import heap, seeding
from gossip.learning.steps_by_deadline import StepsByDeadline
from gossip.merging.blocks import fresh_like
from gossip.merging.sanitise import MUTED
from gossip.net import signing
from gossip.node.handles import Deferred, is_only_held_by_a_job, travelled
from gossip.protocols.base import (
    Contribution,
    Event,
    FinishedMessage,
    GossipStep,
    Message,
    Part,
    PeerId,
    Ticket,
    TimerKey,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.learner import Learner, RecordedVerdict, Trained
    from gossip.net.identity import Identity
    from gossip.net.neighbours import NeighbourTable
    from gossip.node.learning_thread import LearningThread
    from gossip.node.outgoing_models import OutgoingModels
    from topologies import Topology


class TrainingJob:
    """One local update, in the learning thread; of as many steps as fit its time, where there is a deadline."""

    def __init__(
        self, learner: Learner, model: Deferred, round: int, paces: StepsByDeadline | None = None
    ) -> None:
        self._learner = learner
        self._model: Deferred | None = model
        self._round = round
        self._paces = paces

    def __call__(self) -> Trained:
        """Train in the model's own memory, if nobody else needs the model as it is."""
        model, self._model = self._model, None
        assert model is not None, "a job is done once"
        vector, spent = model.vector, is_only_held_by_a_job(model)
        # What others still read is freed when they have, not when training ends.
        del model
        if not (spent and self._learner.trains_in_place):
            vector = fresh_like(vector).copy_(vector)
        began_s = time.perf_counter()
        steps = None if self._paces is None else self._paces.steps()
        trained = self._learner.train(vector, round=self._round, steps=steps, in_place=True)
        if self._paces is not None:
            self._paces.took(time.perf_counter() - began_s, steps=trained.steps)
        if self._learner.task.model_settings.adapter is not None:
            # Gradients of factors leave gaps in this thread's heap; beside a frozen base an update is long, this short.
            heap.give_back()
        return trained


class Upcalls(NamedTuple):
    """Whom the world calls when something has come to pass."""

    on_timer: Callable[[TimerKey], None]
    on_trained: Callable[[Ticket, Deferred, Trained], None]
    on_event: Callable[[Event], None]
    on_finish: Callable[[Deferred], None]
    on_judged: Callable[[list[RecordedVerdict]], None]


class NodeContext:
    """Implements `gossip.protocols.Context` for one real peer."""

    def __init__(
        self,
        *,
        peer: PeerId,
        peers: Sequence[PeerId],
        topology: Topology,
        everybody: bool,
        learner: Learner,
        thread: LearningThread,
        outgoing: OutgoingModels,
        table: NeighbourTable,
        identity: Identity | None,
        nursery: trio.Nursery,
        upcalls: Upcalls,
    ) -> None:
        self.peer = peer
        self._everybody = everybody
        self._seed = learner.task.seed
        self._learned_size = learner.task.space.learned_size
        self._learner = learner
        self._thread = thread
        self._outgoing = outgoing
        self._table = table
        self._identity = identity
        self._nursery = nursery
        self._upcalls = upcalls
        self._paces = StepsByDeadline.of(learner.task.local_settings)
        self.declared: dict[PeerId, frozenset[int]] = {}
        """The classes of which each sender last said that it has samples, where models tell of them."""
        self._timers: dict[TimerKey, trio.CancelScope] = {}
        self._tickets = 0
        self._finished: list[tuple[PeerId, Message]] | None = []
        """What says that we have finished, until that may be said."""
        self.replace_peers(peers, topology)

    def replace_peers(self, peers: Sequence[PeerId], topology: Topology) -> None:
        """Take over a peers file that was read again; rounds that have begun keep their row."""
        self.peers = tuple(peers)
        self._topology = topology
        self._row: tuple[int, Mapping[PeerId, float]] | None = None
        self._position = self.peers.index(self.peer)
        self.contacts = (
            tuple(name for name in self.peers if name != self.peer)
            if self._everybody
            else tuple(self.peers[i] for i in topology.contacts(self._position))
        )

    def now(self) -> float:
        """Return trio's monotonic seconds."""
        return trio.current_time()

    def rng(self, purpose: str, round: int = 0) -> np.random.Generator:
        """Return the generator of this peer, purpose and round."""
        return seeding.generator(self._seed, purpose, peer=self.peer, round=round)

    def neighbours(self, round: int) -> Mapping[PeerId, float]:
        """Return W_ij of the round's neighbours."""
        if not self._topology.time_varying:
            round = 0
        if self._row is None or self._row[0] != round:
            weights = self._topology.row(self._position, round)
            self._row = (round, {self.peers[j]: weight for j, weight in weights.items()})
        return self._row[1]

    def final_neighbours(self, step: int) -> Mapping[PeerId, float]:
        """Return W_ij of a final step."""
        final = self._topology.final
        return {} if final is None else {self.peers[j]: w for j, w in final.row(self._position, step).items()}

    def audience(self, round: int) -> Sequence[PeerId]:
        """Return whom we send to in the round."""
        if not self._topology.directed:
            return tuple(self.neighbours(round))
        return tuple(self.peers[j] for j in self._topology.audience(self._position, round))

    def is_up(self, peer: PeerId) -> bool:
        """Return whether there is a connection."""
        return self._table.is_up(peer)

    def send(self, peer: PeerId, message: Message) -> None:
        """Put the message into the peer's outbox; that we have finished waits for `tell_finished`."""
        if self._finished is not None and isinstance(message, FinishedMessage):
            self._finished.append((peer, message))
        elif message.carries_model and self._table.is_up(peer):  # what nobody gets is not told to anybody
            if self._outgoing.follows(message):
                # What waits behind one that gives way would follow nothing, and this one begins the link anew.
                self._table.make_room(peer)
            self._table.send(peer, self._outgoing.coded(message, peer, self.neighbours))
        else:
            self._table.send(peer, message)

    def send_all(self, peers: Sequence[PeerId], message: Message) -> Sequence[PeerId]:
        """Put the message into the outboxes of all that there is a connection to; return the others."""
        down = []
        for peer in peers:
            if self.is_up(peer):
                self.send(peer, message)
            else:
                down.append(peer)
        return down

    def came(self, peer: PeerId) -> None:
        """Note that there is a connection to `peer` from now on."""
        self._outgoing.came(peer)

    def lost(self, peer: PeerId) -> None:
        """Note that `peer` did not get, or could not use, a model that it was sent."""
        self._outgoing.lost(peer)

    def tell_finished(self) -> None:
        """Let neighbours know of the end: whoever hears it may leave, and is not there for one that must do it again.

        So not before the last round is on the disk, or cannot be.
        """
        told, self._finished = self._finished or [], None
        for peer, message in told:
            self._table.send(peer, message)

    def set_timer(self, key: TimerKey, delay_s: float) -> None:
        """Start (or replace) a timer."""
        self.cancel_timer(key)
        scope = self._timers[key] = trio.CancelScope()
        self._nursery.start_soon(self._ring, key, delay_s, scope)

    def cancel_timer(self, key: TimerKey) -> None:
        """Stop a timer, if there is one."""
        scope = self._timers.pop(key, None)
        if scope is not None:
            scope.cancel()

    async def _ring(self, key: TimerKey, delay_s: float, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(delay_s)
            # Cancelled after it woke and before it ran: trio does not raise then.
            if self._timers.get(key) is scope:
                del self._timers[key]
                self._upcalls.on_timer(key)

    def train(self, model: Deferred, *, round: int) -> Ticket:
        """Queue a local update."""
        self._tickets += 1
        ticket = Ticket(self._tickets)

        def trained(outcome: Trained) -> None:
            # Whoever keeps the figures of a local update is not to keep its model.
            self._upcalls.on_trained(ticket, Deferred(self._learned_size, outcome.model), outcome.figures())

        self._thread.submit(TrainingJob(self._learner, model, round, self._paces), trained)
        return ticket

    def merge(
        self,
        own: Deferred,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
    ) -> Deferred:
        """Queue a merge."""
        merged = Deferred(self._learned_size)
        size = self._learned_size
        declared = {each.sender: self.declared.get(each.sender, frozenset()) for each in received}
        models = [each.model for each in received]
        named = [(each.sender, each.weight) for each in received]

        def job() -> Tensor:
            spent = frozenset(
                sender
                for place, (sender, _) in enumerate(named)
                if not isinstance(models[place], Deferred) and is_only_held_by_a_job(models[place])
            )
            contributions = [
                Contribution(sender, travelled(models.pop(0), size), weight) for sender, weight in named
            ]
            public = self._outgoing.own_coded(own.vector, at)
            merged = self._learner.merge(
                own.vector if public is None else public,
                own_weight,
                contributions,
                at=at,
                declared=declared,
                spent=spent,
            )
            if public is None:
                return merged
            # x_i + γ (M(x̂_i; x̂_j …) - x̂_i): where M keeps the mean of what all hold, the mean of the models is kept.
            return self._learner.moved(own.vector, public, merged, rate=self._outgoing.rate, in_place=True)

        self._thread.submit(job, lambda vector: self._merged(merged, vector))
        return merged

    def adopt(self, own: Deferred, received: Sequence[Contribution]) -> Deferred:
        """Queue the exchange of what travels; statistics and the like stay our own."""
        return self._taken_over(self._learner.adopt, own, received)

    def agreed(self, own: Deferred, received: Sequence[Contribution]) -> Deferred:
        """Queue the search for what most of them agree on."""
        return self._taken_over(self._learner.agreed, own, received)

    def _taken_over(
        self,
        choose: Callable[[Tensor, Sequence[Contribution]], Tensor],
        own: Deferred,
        received: Sequence[Contribution],
    ) -> Deferred:
        taken = Deferred(self._learned_size)
        size = self._learned_size
        self._thread.submit(
            lambda: choose(
                own.vector, [each._replace(model=travelled(each.model, size)) for each in received]
            ),
            lambda vector: self._merged(taken, vector),
        )
        return taken

    def graft(self, base: Deferred, source: Any, part: Part) -> Any:
        """Queue the making of one model out of two. What was not even decoded stays what it is."""
        if source is MUTED:
            return source
        grafted = Deferred(self._learned_size)
        self._thread.submit(
            lambda: self._learner.graft(base.vector, travelled(source, self._learned_size), part), grafted.set
        )
        return grafted

    def moved(self, base: Deferred, before: Deferred, after: Deferred) -> Deferred:
        """Queue the sum; in the memory of `after`, if nobody else needs that."""
        moved = Deferred(self._learned_size)
        ends = [after]

        def job() -> Tensor:
            end = ends.pop()
            vector, spent = end.vector, is_only_held_by_a_job(end)
            return self._learner.moved(base.vector, before.vector, vector, in_place=spent)

        self._thread.submit(job, moved.set)
        return moved

    def _merged(self, handle: Deferred, vector: Tensor) -> None:
        handle.set(vector)
        judged = self._learner.take_judged()
        if judged:
            self._upcalls.on_judged(judged)

    def sign(self, statement: bytes) -> bytes:
        """Sign with the key of the identity."""
        return signing.sign(self._identity, statement)

    def verify(self, peer: PeerId, statement: bytes, signature: bytes) -> bool:
        """Return whether the key of the peer's line in the peers file has signed."""
        return signing.verify(self._table.certificate_of(peer), statement, signature)

    def emit(self, event: Event) -> None:
        """Pass an event to the shell."""
        self._upcalls.on_event(event)

    def finish(self, model: Deferred) -> None:
        """Tell the shell that the rounds are done."""
        self._upcalls.on_finish(model)
