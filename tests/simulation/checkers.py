"""Invariants of a virtual run, one class each. Each is told what happens and fails at the event that breaks it.

`Checkers` calls those that define the hook of the event's name; hooks are told of a thing before the protocol is.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossip.protocols import Contribution, Message, RoundCompleted
from gossip.protocols.rounds import Phase, Rounds
from gossip.protocols.rounds.inbox import KEPT_PER_SENDER_MAX
from gossip.protocols.rounds.parts import MODELS
from scenarios.virtual.events.network import WAITING_MODELS_MAX
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation

TIME_TOLERANCE_S = 1e-5


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the drawn run allows."""

    rounds: int
    gossip_steps: int
    deadline_cap_s: float
    catch_up_rounds: int
    training_min_s: float
    detected_s: float
    faults: bool
    """Whether any fault may happen."""
    turn_rounds: int = 0
    """So many rounds more a part that came late may wait for its turn."""


class Checker:
    """Base of all; a hook that a checker does not define is not called."""

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        self.simulation = simulation
        self.limits = limits
        self._turn = 0

    def in_turn(self) -> Sequence[VirtualPeer]:
        """Return one peer, at every event another: what lasts is found soon enough, and seeds stay quick."""
        self._turn += 1
        return (self.simulation.peers[self._turn % len(self.simulation.peers)],)

    def demand(self, holds: bool, sentence: str) -> None:
        """Fail with the sentence and the time, unless it holds."""
        if not holds:
            raise Violation(f"{type(self).__name__} at {self.simulation.now:.6f} s: {sentence}")


def is_of(model: Any, contribution: Contribution) -> bool:
    """Return whether `model` is what was received, of which a part may have been put into the own model."""
    return model is contribution.model or model is contribution.model.came


class TimeNeverRunsBackwards(Checker):
    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        self._last_s = 0.0

    def after_event(self) -> None:
        now_s = self.simulation.now
        self.demand(math.isfinite(now_s) and now_s >= self._last_s, f"it was {self._last_s:.6f} s before")
        self._last_s = now_s


class OneTrainingAtATime(Checker):
    """Per process: a training begins when none runs, and its end comes once, to the process that began it."""

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        self._running: dict[int, int] = {}

    def train_began(self, peer: VirtualPeer, round: int) -> None:
        began_in = self._running.get(peer.index)
        self.demand(began_in != peer.life, f"{peer.peer} trains a second model")
        self.demand(0 <= round < self.limits.rounds, f"{peer.peer} trains round {round}")
        self._running[peer.index] = peer.life

    def train_ended(self, peer: VirtualPeer) -> None:
        began_in = self._running.pop(peer.index, None)
        self.demand(began_in == peer.life, f"{peer.peer} is told of a training that it did not begin")


class RoundsOnlyRise(Checker):
    """In one life completed rounds rise one by one unless a model is adopted, and none is beyond the last."""

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        self._done: dict[int, int] = defaultdict(int)
        self._adopted: dict[int, bool] = defaultdict(bool)

    def restarted(self, peer: VirtualPeer) -> None:
        self._done[peer.index] = peer.checkpoint[0] if peer.checkpoint else 0
        self._adopted[peer.index] = False

    def adopted(self, peer: VirtualPeer) -> None:
        self._adopted[peer.index] = True

    def completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        before = self._done[peer.index]
        if self._adopted[peer.index]:
            self.demand(event.round > before, f"{peer.peer} did round {event.round} after {before}")
        else:
            self.demand(event.round == before + 1, f"{peer.peer} did round {event.round} after {before}")
        self.demand(event.round <= self.limits.rounds, f"{peer.peer} did round {event.round}")
        self.demand(0 <= event.heard <= max(1, event.expected), f"heard {event.heard} of {event.expected}")
        self._done[peer.index] = event.round
        self._adopted[peer.index] = False


class MergesAreRows(Checker):
    """A merge takes what neighbours sent for its (round, step), each once in a life, with the weights of W's row.

    For one that a neighbour does not send, its newest may stand in where it is far ahead, and one that came late where
    it is a little behind. A move merges models of those ahead alone, by weights in the proportions of the row.
    """

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        # A sender that begins again may say another model of the same tag.
        self._came: dict[tuple[int, int], dict[tuple[str, int, int], list[Any]]] = defaultdict(dict)
        self._merged: dict[tuple[int, int], set[tuple[str, int, int]]] = defaultdict(set)

    def delivered(self, receiver: VirtualPeer, sender: VirtualPeer, message: Message) -> None:
        if isinstance(message, MODELS):
            key = (sender.peer, message.round, message.step)
            self._came[receiver.index, receiver.life].setdefault(key, []).append(message.model)

    def merged(
        self, peer: VirtualPeer, own_weight: float, received: Sequence[Contribution], round: int, step: int
    ) -> None:
        life = (peer.index, peer.life)
        here = rounds_of(peer).tag
        row = self.simulation.topology.row(peer.index, here[0])
        names = self.simulation.index_of
        standing_in = {}
        for contribution in received:
            key = (contribution.sender, *here)
            if any(is_of(model, contribution) for model in self._came[life].get(key, ())):
                self.demand(key not in self._merged[life], f"{peer.peer} merges {key} twice")
                self._merged[life].add(key)
            else:
                # Where peers agree to stop early, that is where a neighbour's last model is of.
                last = rounds_of(peer)._inbox.last
                tag = standing_in[contribution.sender] = self._tag_of(life, contribution, here, last)
                self.demand(
                    tag is not None,
                    f"{peer.peer} merges in {here} what {contribution.sender} did not send for it, nor near it",
                )
            self.demand(contribution.weight >= 0, f"weight {contribution.weight}")
        ratios = [each.weight / row[names[each.sender]] for each in received]
        is_move = any(ratio != 1 for ratio in ratios)
        if is_move:
            self.demand(
                max(ratios) - min(ratios) < 1e-9 and min(ratios) > 1,
                f"{peer.peer} merges in round {round} by weights that are {ratios} times the row's",
            )
            self.demand(len(standing_in) == len(received), f"{peer.peer} is moved by those in step with it")
            for sender, tag in standing_in.items():
                self.demand(
                    tag is not None and tag >= (round, 0),
                    f"{peer.peer} is moved to ({round}, {step}) by {sender}, which said {tag}",
                )
        total = own_weight + sum(contribution.weight for contribution in received)
        self.demand(own_weight >= 0, f"own weight {own_weight}")
        self.demand(abs(total - 1) < 1e-9, f"{peer.peer}: weights sum to {total}")
        self.demand(0 <= step < self.limits.gossip_steps, f"step {step}")

    def _tag_of(
        self, life: tuple[int, int], each: Contribution, here: tuple[int, int], last: int
    ) -> tuple[int, int] | None:
        """Return the newest tag far ahead of `here`, or a little behind it, that the model came with, or None."""
        far = self.limits.catch_up_rounds
        late = far + self.limits.turn_rounds
        return max(
            (
                (round, step)
                for (sender, round, step), models in self._came[life].items()
                if sender == each.sender
                and (
                    round >= here[0] + far
                    or round in (last, self.limits.rounds)
                    or (round > here[0] - late and (round, step) < here)
                )
                and any(is_of(model, each) for model in models)
            ),
            default=None,
        )


class MessagesGoToContacts(Checker):
    def sent(self, sender: VirtualPeer, receiver: VirtualPeer, message: Message) -> None:
        self.demand(receiver.peer in sender.contacts, f"{sender.peer} sends to {receiver.peer}, no contact")
        self.demand(sender.alive and not sender.paused, f"{sender.peer} sends, but does not run")
        self.demand(sender.is_up(receiver.peer), f"{sender.peer} sends to {receiver.peer}, which is down")


class OnlyTheLivingAreTold(Checker):
    """Nothing is delivered to a dead or stopped process, nor over a link that is cut."""

    def delivered(self, receiver: VirtualPeer, sender: VirtualPeer, message: Message) -> None:
        self.runs(receiver)
        connections = self.simulation.connections
        self.demand(
            not connections.is_cut(sender, receiver), f"{sender.peer} and {receiver.peer} are cut apart"
        )
        self.demand(
            receiver.is_up(sender.peer), f"{receiver.peer} hears {sender.peer}, which it knows to be down"
        )

    def runs(self, peer: VirtualPeer) -> None:
        self.demand(peer.alive, f"{peer.peer} is dead, but handles an event")
        self.demand(not peer.paused, f"{peer.peer} is stopped, but handles an event")

    timer_rang = train_ended = told = started = runs


class LinksKeepOrder(Checker):
    """Per connection, messages come in the order in which they were sent, each once at most.

    Small ones that need not wait for models pass them, and each other.
    """

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        self._under_way: dict[tuple[int, int, int, bool], deque[Message]] = defaultdict(deque)

    def sent(self, sender: VirtualPeer, receiver: VirtualPeer, message: Message) -> None:
        connection = sender.links.get(receiver.peer, 0)
        passes = not (message.carries_model or message.in_order)
        self._under_way[sender.index, receiver.index, connection, passes].append(message)

    def delivered(self, receiver: VirtualPeer, sender: VirtualPeer, message: Message) -> None:
        connection = receiver.links.get(sender.peer, 0)
        passes = not (message.carries_model or message.in_order)
        waiting = self._under_way[sender.index, receiver.index, connection, passes]
        if passes and any(each is message for each in waiting):
            waiting.rotate(-next(place for place, each in enumerate(waiting) if each is message))
        while waiting and waiting[0] is not message:
            waiting.popleft()
        self.demand(
            bool(waiting),
            f"{receiver.peer} hears {sender.peer} say {message.kind} twice, out of order, or over a new connection",
        )
        waiting.popleft()


class QueuesAreBounded(Checker):
    """Models kept per sender, models that wait for a link, timers, and what is kept for a stopped process."""

    def delivered(self, receiver: VirtualPeer, sender: VirtualPeer, message: Message) -> None:
        protocol = rounds_of(receiver)
        most = max((len(known.kept) for known in protocol._near.senders.values()), default=0)
        self.demand(most <= KEPT_PER_SENDER_MAX, f"{receiver.peer} keeps {most} models of one sender")
        self.demand(len(receiver.timers) <= 1, f"{receiver.peer} has {len(receiver.timers)} timers")

    def sent(self, sender: VirtualPeer, receiver: VirtualPeer, message: Message) -> None:
        queue = self.simulation.network._queues.get((sender.index, receiver.index))
        if queue is not None:
            models = sum(waiting.message.carries_model for waiting in queue.waiting)
            self.demand(models <= WAITING_MODELS_MAX + 1, f"{models} models wait for {receiver.peer}")

    def after_event(self) -> None:
        limits = self.limits
        # Who does not wait for the stopped one still trains in every round; it gives up after detected_s.
        rounds = 2 + limits.detected_s / limits.training_min_s
        for peer in self.in_turn():
            if peer.paused:
                most = 4 + len(peer.contacts) * (3 + rounds * limits.gossip_steps)
                waiting = len(peer.resume_queue)
                self.demand(waiting <= most, f"{waiting} events wait for {peer.peer}, which is stopped")


class WaitsEnd(Checker):
    """No step waits longer than for its most patient deadline, none longer than the cap, and none gives up before."""

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        # peer -> (life and tag, when that began, how long it may last)
        self._waits: dict[int, tuple[Any, float, float]] = {}
        # The wait whose timer is ringing, when it began, and how long it had to last.
        self._ringing: tuple[Any, float, float] | None = None
        # Before then, no wait is too long.
        self._look_s = math.inf
        self.longest_s = 0.0

    def crashed(self, peer: VirtualPeer) -> None:
        self._waits.pop(peer.index, None)

    paused = crashed

    def adopted(self, peer: VirtualPeer) -> None:
        # It did not give up, but goes on elsewhere.
        self._ringing = None

    def delivered(self, receiver: VirtualPeer, sender: VirtualPeer, message: Message) -> None:
        # A late model teaches the deadline to be longer, that of the present step too.
        if sender.peer in rounds_of(receiver).waiting_for:
            self._more_patient(receiver)

    def timer_rang(self, peer: VirtualPeer) -> None:
        self._more_patient(peer)
        known = self._waits.get(peer.index)
        if known is not None and rounds_of(peer).waiting_for:
            # What the step waited before its process was stopped counts here.
            self._ringing = (known[0], rounds_of(peer)._patience.began_s, patience_s(peer))

    def told(self, peer: VirtualPeer) -> None:
        self._more_patient(peer)

    def handled(self, peer: VirtualPeer) -> None:
        protocol = rounds_of(peer)
        where = (peer.life, protocol.tag)
        ringing, self._ringing = self._ringing, None
        if ringing is not None and where != ringing[0]:
            waited_s = self.simulation.now - ringing[1]
            self.demand(
                waited_s >= ringing[2] - TIME_TOLERANCE_S,
                f"{peer.peer} gave up after {waited_s:.3f} s, its deadline is {ringing[2]:.3f} s",
            )
        if protocol.phase is not Phase.GOSSIPING:
            self._waits.pop(peer.index, None)
            return
        known = self._waits.get(peer.index)
        if known is not None and known[0] == where:
            # When most have come, more is known of how long the others may take.
            self._more_patient(peer)
        else:
            self._waits[peer.index] = (where, self.simulation.now, patience_s(peer))
            self._look_s = min(self._look_s, self.simulation.now + self._waits[peer.index][2])
        self._check(peer)

    def after_event(self) -> None:
        if self.simulation.now <= self._look_s:
            return
        for index in self._waits:
            self._check(self.simulation.peers[index])
        self._look_s = min(
            (began_s + longest_s for _, began_s, longest_s in self._waits.values()), default=math.inf
        )

    def _more_patient(self, peer: VirtualPeer) -> None:
        known = self._waits.get(peer.index)
        if known is not None:
            self._waits[peer.index] = (known[0], known[1], max(known[2], patience_s(peer)))

    def _check(self, peer: VirtualPeer) -> None:
        _, began_s, longest_s = self._waits[peer.index]
        waited_s = self.simulation.now - began_s
        self.longest_s = max(self.longest_s, waited_s)
        self.demand(
            waited_s <= min(longest_s, self.limits.deadline_cap_s) + TIME_TOLERANCE_S,
            f"{peer.peer} waits for {waited_s:.3f} s in step {rounds_of(peer).tag}, its deadline is {longest_s:.3f} s",
        )


class SilenceIsNoticed(Checker):
    """Who is stopped for longer than heartbeats may be missed is known to be down, and its memory does not grow."""

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        super().__init__(simulation, limits)
        self._stopped_ever: set[int] = set()

    def paused(self, peer: VirtualPeer) -> None:
        self._stopped_ever.add(peer.index)

    def resumed(self, peer: VirtualPeer) -> None:
        stopped_s = self.simulation.now - peer.paused_s
        if not peer.paused or stopped_s <= self.limits.detected_s + TIME_TOLERANCE_S:
            return
        for name in peer.contacts:
            other = self.simulation.by_name[name]
            if other.alive and other.index not in self._stopped_ever:
                self.demand(
                    not other.is_up(peer.peer),
                    f"{name} has not noticed {stopped_s:.3f} s without {peer.peer}",
                )

    def after_event(self) -> None:
        for peer in self.in_turn():
            if not peer.alive:
                self.demand(
                    not (peer.timers or peer.resume_queue or peer.training),
                    f"{peer.peer} is dead, but timers or events wait for it",
                )


class BothEndsAgree(Checker):
    """In the end every two contacts are connected, by one and the same connection."""

    def ended(self) -> None:
        for peer in self.simulation.peers:
            for name in peer.contacts:
                other = self.simulation.by_name[name]
                here, there = peer.links.get(name, 0), other.links.get(peer.peer, 0)
                self.demand(
                    here == there >= 0, f"{peer.peer} has connection {here} to {name}, it has {there}"
                )


class NobodyIsHurried(Checker):
    """No honest peer has done more rounds than the quickest one has had time for, whatever liars claim."""

    def completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        if peer.index in getattr(self.simulation, "liars", ()):
            return
        could = self.simulation.now / self.limits.training_min_s
        self.demand(
            event.round <= could + 1e-6,
            f"{peer.peer} has done {event.round} rounds in the time of {could:.2f} updates",
        )


class ModelsStayInTheHull(Checker):
    """Averages of numbers lie between the numbers that there were at the beginning."""

    def completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        last = len(self.simulation.peers) - 1
        self.demand(
            bool(np.all((event.model.value >= -1e-9) & (event.model.value <= last + 1e-9))),
            f"{peer.peer} has {event.model.value}",
        )


CHECKERS: tuple[type[Checker], ...] = (
    TimeNeverRunsBackwards,
    OneTrainingAtATime,
    RoundsOnlyRise,
    MergesAreRows,
    MessagesGoToContacts,
    OnlyTheLivingAreTold,
    LinksKeepOrder,
    QueuesAreBounded,
    WaitsEnd,
    SilenceIsNoticed,
    BothEndsAgree,
    NobodyIsHurried,
    ModelsStayInTheHull,
)

HOOKS = (
    "after_event",
    "adopted",
    "completed",
    "crashed",
    "delivered",
    "ended",
    "handled",
    "merged",
    "paused",
    "restarted",
    "resumed",
    "sent",
    "started",
    "timer_rang",
    "told",
    "train_began",
    "train_ended",
)


class Checkers:
    """All of them; ``checkers.tell("sent", …)`` calls whoever has that hook."""

    def __init__(self, simulation: Simulation, limits: Limits) -> None:
        self.all = [make(simulation, limits) for make in CHECKERS]
        self._hooks = {
            hook: [getattr(checker, hook) for checker in self.all if hasattr(checker, hook)] for hook in HOOKS
        }

    def tell(self, hook: str, *arguments: Any) -> None:
        """Pass an event on."""
        for function in self._hooks[hook]:
            function(*arguments)

    @property
    def longest_wait_s(self) -> float:
        """The longest wait of any step."""
        return next(checker.longest_s for checker in self.all if isinstance(checker, WaitsEnd))


def rounds_of(peer: VirtualPeer) -> Rounds:
    """Return the protocol inside the watched one."""
    protocol = getattr(peer.protocol, "inner", peer.protocol)
    assert isinstance(protocol, Rounds)
    return protocol


def patience_s(peer: VirtualPeer) -> float:
    """Return how long the present step may last, as far as is known now."""
    protocol = rounds_of(peer)
    return protocol._wait.deadline_s() if protocol.waiting_for else protocol._wait._settings.deadline_floor_s
