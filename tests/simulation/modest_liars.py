"""Peers of a simulated MoDeST that lie or keep silent, and what must hold of the honest ones nevertheless.

A villain runs the protocol as everybody does. What is different is what leaves it: some of its messages never do, and
others, made up, do several times a second, to everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gossip.protocols import FinishedMessage, Message
from gossip.protocols.modest.messages import (
    AckMessage,
    AggregateMessage,
    MemberMessage,
    NewestMessage,
    PingMessage,
    PongMessage,
    StatusMessage,
    TrainMessage,
)
from gossip.protocols.modest.sampling import order
from gossip.protocols.modest.view import Entry

if TYPE_CHECKING:
    from tests.simulation.modest_swarm import ModestWorld

POISON = 1e6
"""A final model that is far from all honest ones, which lie between 0 and 1."""

HUGE = 2**53 - 1
"""The greatest number that the wire admits."""

LIE_EVERY_S = 0.5

Lie = Callable[["ModestWorld", str], Message]


def _slander(world: ModestWorld, liar: str) -> tuple[Entry, ...]:
    """All others have left, with a counter that cannot be outdone; and were active when nobody has been yet."""
    names = [peer.peer for peer in world.peers if peer.peer != liar]
    return tuple((name, HUGE, True, world.rounds) for name in names)


def _trained(world: ModestWorld, liar: str) -> Message:
    return AggregateMessage(
        round=world.rounds + 1, expected=1, view=_slander(world, liar), version=HUGE, model=0.5
    )


def _order(world: ModestWorld, liar: str) -> Message:
    # One far ahead; and now and then the very next one.
    tick = round(world.now / LIE_EVERY_S)
    next_one = min(world.rounds, max(1, world.fastest + 1))
    number = next_one if tick % 3 == 0 else world.rounds - tick % 2
    return TrainMessage(round=number, expected=1, view=_slander(world, liar), version=HUGE, model=0.5)


LIES: dict[str, Lie] = {
    "aggregate": _trained,
    "train": _order,
    "finished": lambda world, liar: FinishedMessage(round=world.rounds),
    "ping": lambda world, liar: PingMessage(nonce=1, round=world.rounds + 1),
    "pong": lambda world, liar: PongMessage(nonce=1, round=world.rounds, version=HUGE),
    "left": lambda world, liar: MemberMessage(change="left", round=world.rounds, counter=HUGE),
    "status": lambda world, liar: StatusMessage(
        round=world.rounds, newest=world.rounds - 1, counter=2**52, left=True
    ),
    "ack": lambda world, liar: AckMessage(round=world.rounds + 1),
}

IDLE = (AggregateMessage, TrainMessage, NewestMessage)
"""What somebody who answers and never works does not send."""

EARLY = "early"
"""Orders every round before it can have been averaged, with a false model."""

KINDS = ("idle", "silent", "lies", *LIES)
"""`lies`: all of them."""

WORTHLESS = ("again", "late-order", "elsewhere", "unasked")
"""Work that is of no use to anybody, and is to pass for work: `again` sends old models and no new ones, `late-order`
averages nothing, and tells all to begin the round that others have begun, `elsewhere` gives its model to all but who
averages, and `unasked` answers no ping, and says that it answers."""

WITHHELD: dict[str, type[Message]] = {
    "again": AggregateMessage,
    "late-order": TrainMessage,
    "elsewhere": AggregateMessage,
    "unasked": PongMessage,
}
WORTHLESS_EVERY_S = 0.1

POISONER = "false"
"""Begins the rounds that are its turn with a false model; there have to be several aggregators against it."""


class Villain:
    """One peer's misbehaviour."""

    def __init__(self, world: ModestWorld, name: str, kind: str) -> None:
        self._world = world
        self._name = name
        self._kind = kind
        self._lies = tuple(LIES) if kind == "lies" else (kind,) if kind in LIES else ()

    def leaves(self, message: Message) -> Message | None:
        """Return what leaves the peer in place of a message of its protocol, or None."""
        if self._kind == "silent" or (self._kind == "idle" and isinstance(message, IDLE)):
            return None
        if isinstance(message, WITHHELD.get(self._kind, ())):
            return None
        if self._kind == POISONER and isinstance(message, TrainMessage | NewestMessage):
            return replace(message, model=POISON)
        if self._lies and isinstance(message, NewestMessage):
            return replace(message, model=POISON)
        if self._lies and isinstance(message, AggregateMessage | TrainMessage):
            return replace(message, expected=1, view=_slander(self._world, self._name))
        return message

    def lie(self) -> None:
        """Tell everybody, and again after a while."""
        world = self._world
        peer = world.by_name[self._name]
        if peer.alive and peer.started and not peer.paused:
            for kind in self._lies:
                self._tell(LIES[kind](world, self._name))
            if self._kind == EARLY and world.fastest < world.rounds:
                round, count = world.fastest + 1, len(world.peers)
                self._tell(TrainMessage(round=round, expected=count, view=(), version=0, model=POISON))
            self._pretend()
        if world.now < world.lie_until_s:
            every_s = WORTHLESS_EVERY_S if self._kind in WORTHLESS else LIE_EVERY_S
            world.schedule(world.now + every_s, self.lie)

    def _tell(self, message: Message, *, but: str = "") -> None:
        world, peer = self._world, self._world.by_name[self._name]
        for other in world.peers:
            connection = peer.links.get(other.peer, 0)
            if other is not peer and other.peer != but and connection >= 0:
                world.send_unchanged(peer, other.peer, message, connection)

    def _pretend(self) -> None:
        """Send what is of no use; models of the round after the one that is being trained, and of the last."""
        world, here = self._world, self._world.fastest
        count = len(world.peers)
        match self._kind:
            case "unasked":
                self._tell(PongMessage(nonce=0, round=0, version=0))
            case "late-order" if here >= 1:
                self._tell(TrainMessage(round=here, expected=count, view=(), version=0, model=0.5))
            case "again" if 3 <= here < world.rounds:
                self._tell(AggregateMessage(round=here - 1, expected=count, view=(), version=0, model=0.5))
            case "elsewhere" if 1 <= here < world.rounds:
                names = [each.peer for each in world.peers]
                message = AggregateMessage(round=here + 1, expected=count, view=(), version=0, model=0.5)
                self._tell(message, but=order(here + 1, names)[0])


class Honesty:
    """Checks the honest peers of a world; told of every local update that begins.

    A round begins when the first honest peer trains in it. Nobody may be able to make that sooner than the round before
    could have been trained, but its own aggregators: they are trusted with their round.

    Args:
        world: what is watched.
        shortest_s: of all local updates; 0 where there are other faults, and rounds are not watched.
    """

    def __init__(self, world: ModestWorld, *, shortest_s: float) -> None:
        self._world = world
        self._shortest_s = shortest_s
        self.began_s: dict[int, float] = {}

    def train_began(self, index: int, round: int) -> None:
        """A local update begins; rounds count from 1 here."""
        world = self._world
        if index in world.villains or round in self.began_s:
            return
        if not self._shortest_s:  # there are other faults, after which rounds may begin in other ways
            self.began_s[round] = world.now
            return
        self.began_s[round] = world.now
        before_s = self.began_s.get(round - 1)
        assert round == 1 or before_s is not None, f"round {round} began and round {round - 1} never did"
        if before_s is None or self._trusted(round):
            return
        took_s = world.now - before_s
        assert took_s >= self._shortest_s - 1e-9, f"round {round} began {took_s:.3f} s after the one before"

    def finished(self, index: int) -> None:
        """A peer has finished."""
        world = self._world
        if index in world.villains:
            return
        if not self._shortest_s:
            return
        last_s = self.began_s.get(world.rounds)
        assert last_s is not None, f"p{index:03d} has finished and the last round never began"
        assert world.now >= last_s + self._shortest_s - 1e-9

    def check_end(self) -> None:
        """Nobody honest has been lost from an honest peer's view, nor has a false model come out."""
        world = self._world
        honest = [peer for peer in world.peers if peer.index not in world.villains and peer.alive]
        for peer in honest:
            view = world.protocol(peer.index)._core.view
            here = {other.peer for other in honest} - world.have_left
            lost = sorted(name for name in here if view[name][2])
            assert not lost, f"{peer.peer} believes that {lost} have left"
            assert peer.checkpoint is not None
            assert 0 <= peer.checkpoint[1] <= 1, f"{peer.peer} has the model {peer.checkpoint[1]}"

    def _trusted(self, round: int) -> bool:
        world = self._world
        names = [peer.peer for peer in world.peers]
        # Whoever comes next may, too, when the first ones are slow or taken for idle.
        first = order(round, names)[: world.settings.aggregators + 2]
        return any(world.by_name[name].index in world.villains for name in first)
