"""One protocol alone with a clock: what it does is written down, what it hears is made up by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gossip import seeding
from gossip.protocols import Contribution, GossipStep, Message, MessageRejected, Protocol, RoundCompleted
from gossip.wire.messages import type_of


class LonePeer:
    """The `Context` of one peer. Models are floats; a local update adds 1 and ends when the test says so."""

    def __init__(self, peer: str, peers: Sequence[str]) -> None:
        self.peer = peer
        self.peers = tuple(peers)
        self.contacts = tuple(name for name in peers if name != peer)
        self.time_s = 0.0
        self.down: set[str] = set()
        self.timers: dict[str, float] = {}
        self.sent: list[tuple[str, Message]] = []
        self.events: list[Any] = []
        self.training: list[tuple[int, float, int]] = []
        self.trained: list[int] = []
        self.merged: list[tuple[float, float, list[Contribution]]] = []
        self.moves: list[tuple[float, float, float]] = []
        self.tickets = 0
        self.finished: float | None = None

    def now(self) -> float:
        return self.time_s

    def rng(self, purpose: str, round: int = 0) -> np.random.Generator:
        return seeding.generator(7, purpose, peer=self.peer, round=round)

    def audience(self, round: int) -> Sequence[str]:
        return tuple(self.neighbours(round))

    def neighbours(self, round: int) -> Mapping[str, float]:
        raise AssertionError("there is no graph")

    def is_up(self, peer: str) -> bool:
        return peer not in self.down

    def send(self, peer: str, message: Message) -> None:
        assert peer != self.peer
        assert peer in self.peers
        registered = type_of(message.kind)
        assert registered is not None
        registered.plain_fields(message)  # it could travel
        if peer not in self.down:
            self.sent.append((peer, message))

    def send_all(self, peers: Sequence[str], message: Message) -> Sequence[str]:
        for peer in peers:
            self.send(peer, message)
        return [peer for peer in peers if not self.is_up(peer)]

    def set_timer(self, key: str, delay_s: float) -> None:
        assert delay_s >= 0
        self.timers[key] = self.time_s + delay_s

    def cancel_timer(self, key: str) -> None:
        self.timers.pop(key, None)

    def train(self, model: float, *, round: int) -> int:
        assert not self.training, "one at a time"
        self.tickets += 1
        self.training.append((self.tickets, model + 1, round))
        self.trained.append(round)
        return self.tickets

    def merge(
        self,
        own: float,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
    ) -> float:
        assert own_weight >= 0
        assert abs(own_weight + sum(each.weight for each in received) - 1) < 1e-9
        senders = [each.sender for each in received]
        assert len(set(senders)) == len(senders)
        assert self.peer not in senders
        self.merged.append((own, own_weight, list(received)))
        return own_weight * own + sum(each.weight * each.model for each in received)

    def moved(self, base: float, before: float, after: float) -> float:
        self.moves.append((base, before, after))
        return base + (after - before)

    def adopt(self, own: float, received: Sequence[Contribution]) -> float:
        return float(received[0].model)

    def agreed(self, own: float, received: Sequence[Contribution]) -> float:
        numbers = [each.model for each in received]
        return float(np.median(numbers if len(numbers) % 2 else [*numbers, own]))

    def emit(self, event: object) -> None:
        self.events.append(event)

    def finish(self, model: float) -> None:
        assert self.finished is None
        self.finished = model

    # --- what tests do with it ---

    def advance(self, protocol: Protocol, seconds: float) -> None:
        """Let time pass; timers ring in their order."""
        end_s = self.time_s + seconds
        for _ in range(100_000):
            due = [(time_s, key) for key, time_s in self.timers.items() if time_s <= end_s]
            if not due:
                self.time_s = end_s
                return
            self.time_s, key = min(due)
            del self.timers[key]
            protocol.on_timer(self, key)
        raise AssertionError("timers ring for ever")

    def end_training(self, protocol: Protocol) -> None:
        """Let the running local update end."""
        ticket, model, _ = self.training.pop()
        protocol.on_trained(self, ticket, model)  # type: ignore[arg-type]

    def take(self, kind: type[Message]) -> list[tuple[str, Any]]:
        """Return and forget the messages of a kind that were sent."""
        found = [(peer, message) for peer, message in self.sent if isinstance(message, kind)]
        self.sent = [(peer, message) for peer, message in self.sent if not isinstance(message, kind)]
        return found

    @property
    def completed(self) -> list[RoundCompleted]:
        return [event for event in self.events if isinstance(event, RoundCompleted)]

    @property
    def rejected(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, MessageRejected)]


def renumbered(message: Any, round: int) -> Any:
    """Return the message with another round."""
    return replace(message, round=round)
