"""Attackers in a virtual run: they follow the protocol, and what they send is changed where it leaves them.

An omniscient attacker speaks last: its model of a gossip step is held back until every honest peer that lives has sent
its own of that step, at most `RUSH_S`, and is then made of theirs. Its virtual time is later, and nothing else: who
waits for it waits no longer than for a slow neighbour.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gossip import seeding
from gossip.learner import Learner
from gossip.learning.task import Task
from gossip.protocols.base import Contribution, GossipStep, Message, Model, PeerId, Ticket
from gossip.protocols.rounds.parts import MODELS
from scenarios.attacks.base import Attack, Knowledge, Scene, crafted
from scenarios.attacks.old_messages import OldMessages
from scenarios.scenario import ScenarioSettings
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.arena import Handle
from scenarios.virtual.learning.batched import BatchedLearning
from topologies import Topology

RUSH_S = 1.0
"""Less than the shortest deadline of a step, so that holding back never makes a model late."""

TAGS_KEPT_MAX = 8
"""Steps whose honest models are remembered; a neighbourhood is never farther apart than a few."""

Tag = tuple[str, int, int]
"""(type of message, round, gossip step)."""


@dataclasses.dataclass(slots=True)
class _Step:
    """What has been sent with one tag."""

    honest: dict[int, Handle] = dataclasses.field(default_factory=dict)
    own: dict[int, Handle] = dataclasses.field(default_factory=dict)
    """What each attacker would have sent."""
    held: list[tuple[VirtualPeer, PeerId, Message, int]] = dataclasses.field(default_factory=list)
    released: bool = False
    missing: list[VirtualPeer] | None = None
    """Honest peers that may not have sent yet, the first last; those that have are taken off when they come up."""
    absent: list[VirtualPeer] = dataclasses.field(default_factory=list)
    """Honest peers that were dead, or done, when they came up."""
    crafted: dict[tuple[int, int], Handle] = dataclasses.field(default_factory=dict)
    """(attacker or -1, victim or -1) -> what was made."""


class AttackedSimulation(Simulation):
    """A simulation some of whose peers attack."""

    def __init__(
        self,
        *,
        attack: Attack[Any],
        learning: BatchedLearning,
        from_round: int,
        rounds: int,
        **arguments: Any,
    ) -> None:
        super().__init__(learning=learning, **arguments)
        self._attack = attack
        self._batched = learning
        self._from_round = from_round
        self._rounds = rounds
        self._attackers = frozenset(attack.scene.attackers)
        self._first_attacker = min(self._attackers)
        self._steps: dict[Tag, _Step] = {}
        self._latest: dict[int, Handle] = {}
        self._leader: Handle | None = None
        self._said: dict[int, OldMessages] = {peer: OldMessages() for peer in attack.scene.attackers}
        self._bases: dict[int, Handle] = {}
        self._attack_looks_back = any(attack.of(peer).looks_back for peer in attack.scene.attackers)

        if not attack.settings.merges:
            self.learning = _Deaf(learning, self._attackers)

    def train(self, peer: VirtualPeer, ticket: Ticket, model: Model, round: int) -> None:
        """Remember what attackers train from, and for attacks that look back what everybody does."""
        if peer.index in self._attackers or self._attack_looks_back:
            self._bases[peer.index] = model
        super().train(peer, ticket, model, round)

    def transmit(self, sender: VirtualPeer, name: PeerId, message: Message, connection: int) -> None:
        """Let honest messages pass, watched; change those of attackers."""
        if not message.carries_model:
            super().transmit(sender, name, message, connection)
            return
        tag = _tag(message)
        step = self._step(tag)
        if sender.index not in self._attackers:
            super().transmit(sender, name, message, connection)
            handle: Handle = message.model  # type: ignore[attr-defined]
            self._latest[sender.index] = handle
            if step.honest.get(sender.index) is not handle:
                step.honest[sender.index] = handle
                self._release_if_complete(step)
            return
        attack = self._attack.of(sender.index)
        step.own[sender.index] = message.model  # type: ignore[attr-defined]
        if sender.index == self._first_attacker:
            self._leader = step.own[sender.index]
        if attack.replays:
            self._said[sender.index].note(message)
        if tag[1] < self._from_round:
            super().transmit(sender, name, message, connection)
            return
        held = isinstance(message, MODELS) and attack.omniscient and tag[1] < self._rounds
        if not held or step.released:
            self._send(sender, name, message, connection)
            return
        if not step.held:
            self.schedule(self.now + RUSH_S, self._release, step)
        step.held.append((sender, name, message, connection))
        self._release_if_complete(step)

    def _release_if_complete(self, step: _Step) -> None:
        if not step.held:
            return
        if step.missing is None:
            step.missing = [peer for peer in reversed(self.peers) if peer.index not in self._attackers]
        # Asked for every model that is sent: a look at every peer each time would make a step quadratic.
        while step.missing:
            if _expected(step.missing[-1], step):
                return
            peer = step.missing.pop()
            if peer.index not in step.honest:
                step.absent.append(peer)
        if not any(_expected(peer, step) for peer in step.absent):
            self._release(step)

    def _release(self, step: _Step) -> None:
        step.released = True
        held, step.held = step.held, []
        for sender, name, message, connection in held:
            self._send(sender, name, message, connection)

    def _send(self, sender: VirtualPeer, name: PeerId, message: Message, connection: int) -> None:
        attack = self._attack.of(sender.index)
        if attack.replays:
            again = self._said[sender.index].again(message, attack)
            super().transmit(sender, name, again, connection)
            return
        model = self._crafted(sender, self.index_of[name], message)
        super().transmit(sender, name, dataclasses.replace(message, model=model), connection)  # type: ignore[call-arg]

    def _crafted(self, sender: VirtualPeer, victim: int, message: Message) -> Handle:
        attack, tag = self._attack.of(sender.index), _tag(message)
        made = self._step(tag).crafted
        alone = self._attack is not attack or not attack.together
        key = (sender.index if alone else -1, victim if attack.per_victim else -1)
        if key not in made:
            made[key] = self._craft(sender, victim, tag, message.model)  # type: ignore[attr-defined]
        return made[key]

    def _craft(self, sender: VirtualPeer, victim: int, tag: Tag, own: Handle) -> Handle:
        attack, step = self._attack.of(sender.index), self._step(tag)
        honest: dict[int, Handle] = {}
        if attack.omniscient:
            honest = step.honest if len(step.honest) > 1 else self._latest
        if attack.names_peers:
            # Where peers do not all send at once, as under MoDeST and gossip learning.
            honest = {**self._latest, **step.honest}
        places = tuple(sorted(honest))
        base = self._bases.get(sender.index, own)
        leader = step.own.get(self._first_attacker, self._leader or own)
        before = [self._bases[place] for place in places if place in self._bases] if attack.looks_back else []
        inputs = [own, base, leader, *(honest[place] for place in places), *before]
        end = 3 + len(places)

        def function(models: Tensor) -> Tensor:  # (3 + h + k, L)
            return crafted(
                attack,
                Knowledge(
                    attacker=sender.index,
                    round=tag[1],
                    own=models[0],
                    base=models[1],
                    leader=models[2],
                    honest=models[3:end] if places else None,
                    before=models[end:] if before else None,
                    places=places,
                    victim=victim if attack.per_victim else None,
                    rng=seeding.generator(self.seed, f"attack {tag[2]}", peer=sender.peer, round=tag[1]),
                ),
            )

        return self._batched.craft(own, inputs, function)

    def _step(self, tag: Tag) -> _Step:
        step = self._steps.get(tag)
        if step is None:
            step = self._steps[tag] = _Step()
            while len(self._steps) > TAGS_KEPT_MAX:
                self._release(self._steps.pop(next(iter(self._steps))))
        return step


class _Deaf:
    """The learning of a simulation in which some peers merge nothing: their own model stays as they trained it."""

    def __init__(self, learning: BatchedLearning, peers: Collection[int]) -> None:
        self._learning = learning
        self._peers = peers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learning, name)

    def merge(
        self, own: Handle, own_weight: float, received: Sequence[Contribution], *, peer: int, **said: Any
    ) -> Handle:
        """Return `own` for the deaf, and what it should be for all others."""
        if peer in self._peers:
            return own
        return self._learning.merge(own, own_weight, received, peer=peer, **said)


def scene_of(scenario: ScenarioSettings, task: Task, topology: Topology) -> Scene:
    """Return what the attackers of a virtual run know from the beginning."""
    names = scenario.peer_names
    device = scenario.virtual.device
    choice = scenario.merge

    def familiar(peer: int) -> frozenset[int]:
        return frozenset(task.familiar(peer, len(names)))

    @functools.cache
    def declared() -> Mapping[PeerId, frozenset[int]]:
        if not choice.load()(choice).declares_classes:
            return {}
        every, attackers = frozenset(range(task.dataset.classes)), frozenset(scenario.attackers)
        return {name: every if peer in attackers else familiar(peer) for peer, name in enumerate(names)}

    def row(peer: int, round: int) -> Mapping[int, float]:
        return topology.row(peer, round if topology.time_varying else 0)

    def rule(
        victim: int, own: Tensor, own_weight: float, received: Sequence[tuple[int, Tensor, float]], round: int
    ) -> Tensor:
        # A new instance each time: what is only tried must leave no trace in what a rule remembers.
        learner = Learner(
            task,
            peer=names[victim],
            position=victim,
            peers=len(names),
            merge=choice.load()(choice),
            sanitise=scenario.sanitise,
            device=device,
        )
        whole = torch.cat([own, task.initial().to(own.device)[len(own) :]])
        contributions = [Contribution(names[peer], model, weight) for peer, model, weight in received]
        merged = learner.merge(whole, own_weight, contributions, at=GossipStep(round), declared=declared())
        return merged[: len(own)]

    return Scene(
        task=task,
        peers=len(names),
        attackers=scenario.attackers,
        row=None if scenario.protocol.load().everybody else row,
        rule=rule,
        familiar=familiar,
    )


def _expected(peer: VirtualPeer, step: _Step) -> bool:
    return peer.index not in step.honest and peer.alive and not peer.finished


def _tag(message: Message) -> Tag:
    return message.kind, int(getattr(message, "round", 0)), int(getattr(message, "step", 0))
