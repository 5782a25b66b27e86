"""A real node of MoDeST, with a key of its own in the peers file, that lies or keeps silent.

A program of the fork server with the arguments KIND PEERS HOME TASK. KIND is `idle` (answers pings and does no work),
`silent` (answers nothing), or what it tells everybody ten times a second: one of `LIES`, or `lies` for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trio

from gossip.node.context import NodeContext
from gossip.node.handles import Deferred
from gossip.node.node import Node
from gossip.node.options import NodeOptions
from gossip.node.running import run_node
from gossip.node.setup import find_membership, load_learning
from gossip.protocols.base import FinishedMessage, Message, PeerId
from gossip.protocols.modest.messages import (
    AckMessage,
    AggregateMessage,
    MemberMessage,
    NewestMessage,
    PingMessage,
    StatusMessage,
    TrainMessage,
)

HUGE = 2**53 - 1
IDLE = (AggregateMessage, TrainMessage, NewestMessage)

Lie = Callable[["LyingContext", int], Message]


def _bulk(kind: type[Any], context: LyingContext, round: int) -> Message:
    entries = tuple((name, HUGE, True, round) for name in context.peers if name != context.peer)
    message: Message = kind(round=round, expected=1, view=entries, version=HUGE, model=context.zeros)
    return message


LIES: dict[str, Lie] = {
    "aggregate": lambda context, rounds: _bulk(AggregateMessage, context, rounds + 1),
    "train": lambda context, rounds: _bulk(TrainMessage, context, rounds),
    "newest": lambda context, rounds: _bulk(NewestMessage, context, rounds),
    "finished": lambda context, rounds: FinishedMessage(round=rounds),
    "ping": lambda context, rounds: PingMessage(nonce=1, round=rounds + 1),
    "left": lambda context, rounds: MemberMessage(change="left", round=rounds, counter=HUGE),
    "status": lambda context, rounds: StatusMessage(round=rounds, newest=rounds, counter=2**52, left=True),
    "ack": lambda context, rounds: AckMessage(round=rounds + 1),
}


class LyingContext(NodeContext):
    """The world of a protocol that does not know what becomes of its messages."""

    kind: str
    zeros: Deferred

    def send(self, peer: PeerId, message: Message) -> None:
        """Send it, or not, or with another number and model."""
        if self.kind == "silent" or (self.kind == "idle" and isinstance(message, IDLE)):
            return
        if self.kind in ("lies", "expected") and isinstance(message, IDLE):
            message = dataclasses.replace(message, expected=1)
        if self.kind == "lies" and isinstance(message, NewestMessage):
            message = dataclasses.replace(message, model=self.zeros)
        super().send(peer, message)

    def send_unchanged(self, peer: PeerId, message: Message) -> None:
        """Send what is made up."""
        super().send(peer, message)


def lying_node(setup: Any, kind: str) -> Node:
    """Return a node that behaves as `kind` says."""
    rounds = setup.membership.settings.stop.rounds
    told = LIES if kind == "lies" else {kind: LIES[kind]} if kind in LIES else {}

    class Liar(Node):
        context_class = LyingContext

        def _make_context(self, nursery: trio.Nursery) -> NodeContext:
            context = super()._make_context(nursery)
            assert isinstance(context, LyingContext)
            context.kind = kind
            size = setup.task.space.learned_size
            context.zeros = Deferred(size, torch.zeros(setup.task.space.size))
            if told:
                nursery.start_soon(self._lie, context)
            return context

        async def _lie(self, context: LyingContext) -> None:
            while True:
                await trio.sleep(0.1)
                for peer in context.contacts:
                    for lie in told.values():
                        if context.is_up(peer):
                            context.send_unchanged(peer, lie(context, rounds))

    return Liar(setup)


def run(argv: list[str]) -> int:
    """Run it to its end."""
    kind, peers, home, task = argv
    options = NodeOptions(peers=Path(peers), home=Path(home), task=Path(task), as_json=True)
    setup = load_learning(options, find_membership(options))
    return int(run_node(setup, lambda setup: lying_node(setup, kind)))
