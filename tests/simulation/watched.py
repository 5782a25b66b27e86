"""A simulation in which checkers are told of everything: what peers do, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossip.protocols import Contribution, GossipStep, Message, Protocol, RoundCompleted
from gossip.protocols.base import Context, Model, Part, PeerId, Ticket, TimerKey
from gossip.protocols.rounds import Rounds
from gossip.protocols.rounds.final import FinalSteps
from gossip.protocols.rounds.parts import Parts
from gossip.protocols.settings import RoundsSettings
from gossip.protocols.stopping import StopRule
from scenarios.sections import NetworkSettings
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from tests.simulation.checkers import Checkers, Limits
from topologies import Topology

MODEL_BYTES = 20_000
SMALL_BYTES = 60


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A model that is one number, or one for each part; two are the same only if they are the same object."""

    value: Any
    came: Number | None = None
    """What was received of it, where the rest is the own model's."""


class Unmeasured:
    def round_completed(self, peer: VirtualPeer, event: RoundCompleted, now_s: float) -> bool:
        return False


class WatchedProtocol(Protocol):
    """Tells of every event before the protocol handles it."""

    def __init__(self, inner: Rounds, checkers: Callable[[], Checkers]) -> None:
        self.inner = inner
        self._checkers = checkers

    @classmethod
    def resume(cls, settings: Any, *, rounds: int, model: Model, state: Mapping[str, Any]) -> Any:
        raise NotImplementedError("made around a protocol that is there already")

    def on_start(self, ctx: Context) -> None:
        self._checkers().tell("started", ctx)
        self.inner.on_start(ctx)
        self._checkers().tell("handled", ctx)

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        assert isinstance(ctx, VirtualPeer)
        self._checkers().tell("delivered", ctx, ctx._simulation.by_name[sender], message)
        self.inner.on_message(ctx, sender, message)
        self._checkers().tell("handled", ctx)

    def on_timer(self, ctx: Context, key: TimerKey) -> None:
        self._checkers().tell("timer_rang", ctx)
        self.inner.on_timer(ctx, key)
        self._checkers().tell("handled", ctx)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        self._checkers().tell("train_ended", ctx)
        self.inner.on_trained(ctx, ticket, model)
        self._checkers().tell("handled", ctx)

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        self._checkers().tell("told", ctx)
        self.inner.on_peer(ctx, peer, up)
        self._checkers().tell("handled", ctx)

    def on_score(self, ctx: Context, round: int, score: float | None) -> None:
        self.inner.on_score(ctx, round, score)
        self._checkers().tell("handled", ctx)

    def why_stopped(self) -> str:
        return self.inner.why_stopped()

    def needed(self) -> bool:
        return self.inner.needed()

    def snapshot(self) -> Mapping[str, int | float | str]:
        return self.inner.snapshot()


class CheckedLearning:
    """Numbers: training changes nothing, a merge is the weighted sum; merges are told of."""

    def __init__(self, checkers: Callable[[], Checkers], *, parts: int = 1) -> None:
        self._checkers = checkers
        self._parts = parts
        self.peers: list[VirtualPeer] = []

    codes = remembers = False

    def initial(self, peer: int) -> Number:
        return Number(float(peer) if self._parts == 1 else np.full(self._parts, float(peer)))

    def train(self, model: Number, peer: int, *, round: int) -> Number:
        self._checkers().tell("train_began", self.peers[peer], round)
        return Number(model.value)

    def begin_anew(self, peer: int) -> None:
        pass

    def merge(
        self,
        own: Number,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        peer: int,
        at: GossipStep,
    ) -> Number:
        self._checkers().tell("merged", self.peers[peer], own_weight, received, at.round, at.step)
        return Number(own_weight * own.value + sum(each.weight * each.model.value for each in received))

    def graft(self, base: Number, source: Number, part: Part) -> Number:
        values = base.value.copy()
        values[part.place] = source.value[part.place]
        return Number(values, came=source)

    def moved(self, base: Number, before: Number, after: Number) -> Number:
        return Number(base.value + (after.value - before.value))

    def adopt(self, own: Number, received: Sequence[Contribution]) -> Number:
        raise NotImplementedError("rounds merge what is ahead")


class WatchedSimulation(Simulation):
    """Floats on any topology and network, under the eyes of all checkers."""

    def __init__(
        self,
        topology: Topology,
        *,
        rounds: int,
        protocol: RoundsSettings | None = None,
        network: NetworkSettings | None = None,
        training_s: Callable[[int, int], float] = lambda peer, round: 1.0,
        training_min_s: float = 1.0,
        faults: bool = False,
        detected_s: float = 10.0,
        seed: int = 0,
        liars: Mapping[int, Callable[[Message], Message | None]] | None = None,
        rule: StopRule | None = None,
        scores: Callable[[int, int], float] = lambda peer, round: 0.0,
    ) -> None:
        peers = topology.peers
        self.liars = liars or {}
        """Peer -> what it sends instead of a message; None: nothing."""
        settings = protocol or RoundsSettings()
        learning = CheckedLearning(lambda: self.checkers, parts=settings.parts)
        self.calm = False
        """No crash any more, whatever churn says."""
        self.completed: list[list[tuple[float, RoundCompleted]]] = [[] for _ in range(peers)]
        self.finished_s: dict[int, float] = {}

        def make_protocol(model: Model, state: Mapping[str, int | float | str]) -> Protocol:
            inner = Rounds.resume(settings, rounds=rounds, model=model, state=state)
            if rule is not None:
                inner.stop_early(rule, state)
            return WatchedProtocol(inner, lambda: self.checkers)

        super().__init__(
            names=[f"p{index:02d}" for index in range(peers)],
            topology=topology,
            make_protocol=make_protocol,
            learning=learning,
            make_network=lambda schedule: Network(
                network or NetworkSettings(), peers=peers, seed=seed, schedule=schedule
            ),
            training_s=training_s,
            frame_bytes=lambda peer, message: (
                (MODEL_BYTES, MODEL_BYTES - 200) if message.carries_model else (SMALL_BYTES, 0)
            ),
            measure=Unmeasured(),
            seed=seed,
        )
        self.connections.detected_s = detected_s
        self._scores = scores
        if rule is not None:
            self.on_round = self._completed
        learning.peers = self.peers
        self.checkers = Checkers(
            self,
            Limits(
                rounds=rounds,
                gossip_steps=settings.gossip_steps,
                deadline_cap_s=settings.deadline_cap_s,
                catch_up_rounds=settings.catch_up_rounds,
                turn_rounds=Parts(settings, FinalSteps(settings.gossip_steps)).turn_rounds,
                training_min_s=training_min_s,
                detected_s=detected_s,
                faults=faults,
            ),
        )

    def run_checked(self, *, until_s: float = float("inf"), events_max: int = 3_000_000) -> None:
        """Run with a look at every event; fail where there are too many."""
        for _ in range(events_max):
            if not self.run(until_s=until_s, events_max=1):
                return
            self.checkers.tell("after_event")
        raise AssertionError(f"no end after {events_max} events, at {self.now:.3f} s")

    def transmit(self, sender: VirtualPeer, name: PeerId, message: Message, connection: int) -> None:
        lie = self.liars.get(sender.index)
        if lie is not None:
            said = lie(message)
            if said is None:
                return
            message = said
        self.checkers.tell("sent", sender, self.by_name[name], message)
        super().transmit(sender, name, message, connection)

    def round_completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        self.checkers.tell("completed", peer, event)
        self.completed[peer.index].append((self.now, event))
        super().round_completed(peer, event)

    def _completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        self.schedule(self.now, self._score, peer, peer.life, event.round)

    def _score(self, peer: VirtualPeer, life: int, round: int) -> None:
        if peer.life != life:
            return
        if peer.paused:
            peer.resume_queue.append((self._score, peer, life, round))
        else:
            peer.protocol.on_score(peer, round, self._scores(peer.index, round))

    def finished(self, peer: VirtualPeer, model: Model) -> None:
        self.finished_s[peer.index] = self.now
        super().finished(peer, model)

    def note(self, event: str, peer: VirtualPeer | None, **details: Any) -> None:
        if event == "adopted":
            self.checkers.tell("adopted", peer)
        super().note(event, peer, **details)

    def crash(self, peer: VirtualPeer, *, leaving: bool = False) -> None:
        if not self.calm:
            self.checkers.tell("crashed", peer)
            super().crash(peer, leaving=leaving)

    def restart(self, peer: VirtualPeer) -> None:
        if not peer.alive:
            self.finished_s.pop(peer.index, None)
            self.checkers.tell("restarted", peer)
        super().restart(peer)

    def pause(self, peer: VirtualPeer) -> None:
        self.checkers.tell("paused", peer)
        super().pause(peer)

    def resume(self, peer: VirtualPeer) -> None:
        self.checkers.tell("resumed", peer)
        super().resume(peer)

    def values(self) -> NDArray[np.float64]:
        """Return the peers' last models."""
        return np.array([done[-1][1].model.value for done in self.completed if done])

    def adopted(self) -> int:
        """Return how often a peer took over another's model."""
        return sum(peer.adopted for peer in self.peers)
