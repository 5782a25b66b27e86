"""A small world that runs protocols directly: models are floats, time is a heap, links are as bad as asked.

Links are first-in first-out per pair, as TCP is, unless `reorder` is set.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gossip import seeding
from gossip.merging.sanitise import Refusal, without
from gossip.protocols import Contribution, GossipStep, Message, ModelMessage, Protocol, RoundCompleted
from gossip.protocols.base import Part

Row = Mapping[str, float]


@dataclass
class Links:
    """How messages travel: seconds drawn by `delay_s`, dropped with probability `loss`."""

    delay_s: Callable[[np.random.Generator], float] = lambda rng: 0.01
    loss: float = 0.0
    duplication: float = 0.0
    reorder: bool = False


@dataclass
class Peer:
    protocol: Protocol
    alive: bool = True
    life: int = 0
    timers: dict[str, int] = field(default_factory=dict)
    training: int = 0
    tickets: int = 0
    finished: float | None = None
    completed: list[RoundCompleted] = field(default_factory=list)
    completed_at: list[float] = field(default_factory=list)


class World:
    """All peers of a run. `train(name, model, round)` is the local update on floats."""

    def __init__(
        self,
        rows: Callable[[int], Sequence[Row]],
        make: Callable[[str, int], Protocol],
        peers: int,
        *,
        links: Links | None = None,
        train: Callable[[str, float, int], float] = lambda name, model, round: model,
        train_s: Callable[[str, int], float] = lambda name, round: 1.0,
        seed: int = 0,
        contacts: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self.names = [f"p{i:03d}" for i in range(peers)]
        self.rows, self.links, self.train, self.train_s, self.seed = (
            rows,
            links or Links(),
            train,
            train_s,
            seed,
        )
        self.contacts = contacts or [sorted(row) for row in rows(0)]
        self.final_rows: Callable[[int], Sequence[Row]] = lambda step: []
        self.make = make
        self.peers = {name: Peer(make(name, 0)) for name in self.names}
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.sequence = itertools.count()
        self.rng = np.random.default_rng(seed)
        self.rejected: Counter[str] = Counter()
        self.adopted = 0
        self.sent: Counter[str] = Counter()
        self.merges: list[tuple[str, int, float, list[Contribution]]] = []
        self.steps: list[tuple[str, GossipStep]] = []
        self.last_arrival: dict[tuple[str, str], float] = {}
        self.says: dict[str, Callable[[str, Message], Sequence[Message]]] = {}
        """Liar -> what it sends to a receiver instead of a message."""
        self.late_s: dict[str, float] = {}
        """Sender -> how much later than others' its messages come."""

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time_s, next(self.sequence), action))

    def start(self, times: Mapping[str, float] | None = None) -> None:
        for name in self.names:
            self.at((times or {}).get(name, 0.0), lambda name=name: self._start(name))  # type: ignore[misc]

    def _start(self, name: str) -> None:
        self.peers[name].protocol.on_start(Ctx(self, name))

    def run(self, *, events_max: int = 200_000, until: float = float("inf")) -> None:
        for _ in range(events_max):
            if not self.events or self.events[0][0] > until:
                return
            self.now, _, action = heapq.heappop(self.events)
            action()
        raise AssertionError("the run does not come to an end")

    def crash(self, name: str) -> None:
        peer = self.peers[name]
        peer.alive = False
        peer.life += 1
        peer.training = 0
        peer.timers.clear()
        for other in self.names:
            if self.peers[other].alive:
                self.at(self.now + 0.05, lambda other=other: self._tell(other, name, False))  # type: ignore[misc]

    def restart(self, name: str, round: int) -> None:
        peer = self.peers[name]
        peer.alive = True
        peer.protocol = self.make(name, round)
        for other in self.names:
            if other != name and self.peers[other].alive:
                self._tell(other, name, True)
        self.at(self.now, lambda: self._start(name))

    def reconnect(self, name: str, *, after_s: float) -> None:
        """Cut all connections of a peer that goes on running, and bring them back."""
        peer = self.peers[name]
        for up, delay_s in ((False, 0.0), (True, after_s)):

            def change(up: bool = up) -> None:
                peer.alive = up
                for other in self.names:
                    if other != name:
                        self._tell(other, name, up)

            self.at(self.now + delay_s, change)

    def _tell(self, other: str, name: str, up: bool) -> None:
        if self.peers[other].alive and self.peers[name].alive == up:
            self.peers[other].protocol.on_peer(Ctx(self, other), name, up)

    def transmit(self, sender: str, receiver: str, message: Message) -> None:
        lie = self.says.get(sender)
        for said in (message,) if lie is None else lie(receiver, message):
            self._transmit(sender, receiver, said)

    def _transmit(self, sender: str, receiver: str, message: Message) -> None:
        self.sent[message.kind] += 1
        if self.links.loss and self.rng.random() < self.links.loss:
            return
        copies = 1 + (self.rng.random() < self.links.duplication)
        life = self.peers[receiver].life
        for _ in range(copies):
            arrival = self.now + self.links.delay_s(self.rng) + self.late_s.get(sender, 0.0)
            if not self.links.reorder:
                arrival = max(arrival, self.last_arrival.get((sender, receiver), 0.0))
                self.last_arrival[sender, receiver] = arrival
            self.at(arrival, lambda: self._deliver(sender, receiver, life, message))

    def _deliver(self, sender: str, receiver: str, life: int, message: Message) -> None:
        peer = self.peers[receiver]
        if peer.alive and peer.life == life:
            peer.protocol.on_message(Ctx(self, receiver), sender, message)

    def final(self) -> np.ndarray:
        return np.array([peer.completed[-1].model for peer in self.peers.values() if peer.completed])


class Ctx:
    """What a protocol sees of the world."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.peer = world, name
        self.index = world.names.index(name)
        self.state = world.peers[name]

    @property
    def peers(self) -> list[str]:
        return self.world.names

    @property
    def contacts(self) -> Sequence[str]:
        return self.world.contacts[self.index]

    def now(self) -> float:
        return self.world.now

    def rng(self, purpose: str, round: int = 0) -> np.random.Generator:
        return seeding.generator(self.world.seed, purpose, peer=self.peer, round=round)

    def final_neighbours(self, step: int) -> Row:
        return self.world.final_rows(step)[self.index]

    def audience(self, round: int) -> Sequence[str]:
        return tuple(self.neighbours(round))

    def neighbours(self, round: int) -> Row:
        return self.world.rows(round)[self.index]

    def is_up(self, peer: str) -> bool:
        return self.world.peers[peer].alive

    def send(self, peer: str, message: Message) -> None:
        assert peer != self.peer
        if message.piece is not None:
            # Whoever takes anything else of it than the part will show it.
            alone = np.full_like(message.model, 1e9)  # type: ignore[attr-defined]
            alone[message.piece.place] = message.model[message.piece.place]  # type: ignore[attr-defined]
            message = replace(message, model=alone)  # type: ignore[call-arg]
        if self.is_up(peer):
            self.world.transmit(self.peer, peer, message)

    def send_all(self, peers: Sequence[str], message: Message) -> Sequence[str]:
        for peer in peers:
            self.send(peer, message)
        return [peer for peer in peers if not self.is_up(peer)]

    def set_timer(self, key: str, delay_s: float) -> None:
        number = next(self.world.sequence)
        self.state.timers[key] = number
        protocol, state, world, peer = self.state.protocol, self.state, self.world, self.peer

        def fire() -> None:
            if state.timers.get(key) == number:
                del state.timers[key]
                protocol.on_timer(Ctx(world, peer), key)

        world.at(world.now + delay_s, fire)

    def cancel_timer(self, key: str) -> None:
        self.state.timers.pop(key, None)

    def train(self, model: float, *, round: int) -> int:
        state, world, name, life = self.state, self.world, self.peer, self.state.life
        assert state.training == 0, "a peer trains one model at a time"
        state.training += 1
        state.tickets += 1
        ticket = state.tickets
        value = world.train(name, model, round)

        def done() -> None:
            if state.life == life:
                state.training -= 1
                state.protocol.on_trained(Ctx(world, name), ticket, value)  # type: ignore[arg-type]

        world.at(world.now + world.train_s(name, round), done)
        return ticket

    def merge(
        self,
        own: float,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
    ) -> float:
        senders = [contribution.sender for contribution in received]
        assert len(set(senders)) == len(senders), "nothing is merged twice"
        assert abs(own_weight + sum(c.weight for c in received) - 1) < 1e-9, "weights sum to one"
        assert own_weight >= -1e-12
        self.world.steps.append((self.peer, at))
        self.world.merges.append((self.peer, at.round, own_weight, list(received)))
        refusals = [None if np.isfinite(c.model).all() else Refusal(c.sender, "not-finite") for c in received]
        own_weight, received = without(own_weight, received, refusals)
        return own_weight * own + sum(c.weight * c.model for c in received)

    def graft(self, base: Any, source: Any, part: Part) -> Any:
        """Models in parts are arrays, one number for each part."""
        grafted = base.copy()
        grafted[part.place] = source[part.place]
        return grafted

    def moved(self, base: float, before: float, after: float) -> float:
        return base + (after - before)

    def adopt(self, own: float, received: Sequence[Contribution]) -> float:
        """Numbers that are not finite are refused."""
        usable = [each.model for each in received if np.isfinite(each.model).all()]
        model = usable[0] if usable else own
        return model if isinstance(model, np.ndarray) else float(model)

    def emit(self, event: object) -> None:
        match event:
            case RoundCompleted():
                rounds = [done.round for done in self.state.completed]
                assert not rounds or event.round > rounds[-1], "rounds only go up"
                self.state.completed.append(event)
                self.state.completed_at.append(self.world.now)
            case _ if type(event).__name__ == "MessageRejected":
                self.world.rejected[event.reason] += 1  # type: ignore[attr-defined]
            case _:
                self.world.adopted += 1

    def finish(self, model: float) -> None:
        assert self.state.finished is None or self.state.life, "a peer finishes once"
        self.state.finished = self.world.now


def model_messages(world: World) -> int:
    """Count the models that were sent."""
    return world.sent[ModelMessage.kind]
