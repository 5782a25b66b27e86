"""A real node that attacks, over TLS, with a key of its own in the peers file.

``python -m scenarios.attacks.node JSON``, as `scenarios.processes.homes.attacker_arguments` says.

It is a `gossip-node` in every respect but what it learns from and what it sends. Only scenarios start it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from gossip import seeding
from gossip.errors import GossipError, UserError
from gossip.learner import Learner
from gossip.node.context import NodeContext
from gossip.node.handles import Deferred
from gossip.node.home import HomeLock
from gossip.node.node import Node
from gossip.node.options import NodeOptions
from gossip.node.running import run_node
from gossip.node.setup import Setup, find_membership, load_learning
from gossip.protocols.base import Contribution, Message, PeerId, Ticket
from gossip.telemetry.logs import set_up_logging
from gossip.telemetry.standard_error import queue_standard_error, run_and_leave
from scenarios.attacks.base import Attack, Knowledge, Scene, attack_of, crafted, poisoned_shard
from scenarios.attacks.old_messages import OldMessages
from scenarios.attacks.settings import ATTACKS, AttackSettings


class AttackingContext(NodeContext):
    """The world of a protocol that does not know that it serves an attacker."""

    attack: Attack[Any]
    position: int

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._base: Deferred | None = None
        self._crafted: tuple[Message, Message] | None = None
        self._old = OldMessages()

    def train(self, model: Deferred, *, round: int) -> Ticket:
        """Remember what is trained."""
        self._base = model
        return super().train(model, round=round)

    def merge(
        self, own: Deferred, own_weight: float, received: Sequence[Contribution], **said: Any
    ) -> Deferred:
        """Merge as everybody, or keep the own model."""
        if not self.attack.settings.merges:
            return own
        return super().merge(own, own_weight, received, **said)

    def send(self, peer: PeerId, message: Message) -> None:
        """Send something else than the protocol wanted, from the round on in which the attack begins."""
        round = int(getattr(message, "round", 0))
        if message.carries_model and self.attack.replays:
            self._old.note(message)
        if message.carries_model and round >= self.attack.settings.from_round:
            message = (
                self._old.again(message, self.attack) if self.attack.replays else self._poisoned(message)
            )
        super().send(peer, message)

    def _poisoned(self, message: Message) -> Message:
        if self._crafted is not None and self._crafted[0] is message:
            return self._crafted[1]
        own: Deferred = message.model  # type: ignore[attr-defined]
        base, poisoned = self._base, Deferred(self._learned_size)
        self._thread.submit(lambda: self._craft(message, own, base), poisoned.set)
        changed: Message = dataclasses.replace(message, model=poisoned)  # type: ignore[call-arg]
        self._crafted = (message, changed)
        return changed

    def _craft(self, message: Message, own: Deferred, base: Deferred | None) -> Any:
        """In the learning thread, after everything that the model is made of."""
        round, step = int(getattr(message, "round", 0)), int(getattr(message, "step", 0))
        size = self._learned_size
        return crafted(
            self.attack,
            Knowledge(
                attacker=self.position,
                round=round,
                own=own.vector[:size],
                base=None if base is None else base.vector[:size],
                rng=seeding.generator(self._seed, f"attack {step}", peer=self.peer, round=round),
            ),
        )


def attacking_node(setup: Setup, attack: Attack[Any]) -> Node:
    """Return a node that does what `attack` says."""
    membership = setup.membership
    settings = membership.settings
    position = membership.position
    learner = Learner(
        setup.task,
        peer=membership.me.name,
        position=position,
        peers=len(membership.peers),
        merge=settings.merge.load()(settings.merge),
        sanitise=settings.sanitise,
        shard=poisoned_shard(attack, position, name=membership.me.name, seed=settings.seed),
    )

    class Attacker(Node):
        context_class = AttackingContext

        def _make_context(self, nursery: trio.Nursery) -> NodeContext:
            context = super()._make_context(nursery)
            assert isinstance(context, AttackingContext)
            context.attack, context.position = attack.of(position), position
            return context

    return Attacker(dataclasses.replace(setup, learner=learner))


def run(argv: list[str]) -> int:
    """Run an attacking node to its end; the one argument is what `attacker_arguments` gives."""
    try:
        return _run(json.loads(argv[0]))
    except GossipError as error:
        print(f"attacker: {error}", file=sys.stderr)
        return int(error.exit_code) if isinstance(error, UserError) else 1


def _run(said: Mapping[str, Any]) -> int:
    settings = ATTACKS.validate(said["attack"])
    assert isinstance(settings, AttackSettings)
    options = NodeOptions(
        peers=Path(said["peers"]),
        home=Path(said["home"]),
        task=Path(said["task"]),
        fresh=said["fresh"],
        overrides=tuple(said["own"]),
        as_json=True,
    )
    lock = HomeLock(options.home)
    try:
        membership = find_membership(options)
        set_up_logging(membership.me.name, insecure=options.insecure)
        setup = load_learning(options, membership)
        scene = Scene(task=setup.task, peers=len(membership.peers), attackers=tuple(said["attackers"]))
        attack = attack_of(settings, scene)
        return int(run_node(setup, lambda setup: attacking_node(setup, attack)))
    finally:
        lock.release()


if __name__ == "__main__":
    queue_standard_error()
    run_and_leave(lambda: run(sys.argv[1:]))
