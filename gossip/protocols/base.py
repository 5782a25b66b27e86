"""The seam between an algorithm and the world that runs it.

A protocol is a state machine with handlers, as the papers write it ("upon …"). It never waits, reads a
clock, draws from a global generator or touches a tensor: whatever it wants done goes through its
`Context`, and models are opaque handles. Fed the same events, it asks for the same actions, always. So one
protocol runs on real machines (`gossip.node`), and under virtual time with thousands of peers.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NewType, Self, TypeAlias
from typing import Protocol as StructuralType

import numpy as np

from gossip.protocols.part import WHOLE as WHOLE
from gossip.protocols.part import Part as Part
from gossip.protocols.stopping import ROUNDS, StopRule

PeerId: TypeAlias = str
"""A peer's name in the peers file."""

Model: TypeAlias = Any
"""An opaque model handle: a float in tests, a deferred vector in the engines. Protocols only pass it on."""

Ticket = NewType("Ticket", int)
"""Names one training request, so that its result is recognised."""

TimerKey: TypeAlias = str


class GossipStep(NamedTuple):
    """Which multiplication by the mixing matrix a merge belongs to, and how much of a model takes part in it."""

    round: int
    step: int = 0
    """Among the gossip steps of its round, from 0."""
    last: bool = True
    """No gossip step of this round follows: where a rule belongs that is due once a round."""
    part: Part = WHOLE
    """What was received of the others' models, and what is kept of the merged one; elsewhere, all are own."""
    whole: bool = False
    """Models of this step travel as they are, whatever `[codec]` says (`Message.whole`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What peers say to each other. Subclasses add plain fields: int, float, str, bytes, bool, or tuples of them.

    `kind` is the type's name on the wire. A message that carries a model says so with `carries_model` and a
    last field `model`.
    """

    kind: ClassVar[str]
    carries_model: ClassVar[bool] = False
    in_order: ClassVar[bool] = False
    """It must not arrive before a model that was sent earlier; all others pass models under way."""

    @property
    def piece(self) -> Part | None:
        """Which part of its model travels with it; None: all of it. What a stranger's message says may not exist."""
        return None

    @property
    def whole(self) -> bool:
        """Whether its model travels as it is, in float32, whatever `[codec]` says of the others."""
        return False

    @property
    def number(self) -> int:
        """Which of the sender's models it carries: what is drawn to code one is drawn for this number."""
        return int(getattr(self, "round", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMessage(Message):
    """A model as it stands before gossip step `step` of round `round` (both counted from 0)."""

    kind: ClassVar[str] = "model"
    carries_model: ClassVar[bool] = True
    round: int
    step: int
    model: Model

    @property
    def number(self) -> int:
        """Return another number for each gossip step, of which a round has 64 at most."""
        return 64 * self.round + self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedMessage(Message):
    """The sender has done all its `round` rounds; nobody needs to wait for it."""

    kind: ClassVar[str] = "finished"
    # Arriving before the sender's last model, it would let a slower peer go on without that model.
    in_order: ClassVar[bool] = True
    round: int


class Contribution(NamedTuple):
    """One received model and its weight in a merge (an entry W_ij of the mixing matrix).

    A tuple: there is one per neighbour and step, and a frozen dataclass takes three times as long to make.
    """

    sender: PeerId
    model: Model
    weight: float
    again: bool = False
    """An earlier merge had it: whatever is wrong with it was held against its sender then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCompleted:
    """Emitted when a round's last merge is done: the model to evaluate and to store."""

    round: int
    """How many rounds are done now (1 after the first)."""
    model: Model
    heard: int
    """Neighbours whose models entered every merge of the round."""
    expected: int
    """Neighbours in the mixing matrix' row."""
    before: Model | None = None
    """What the model was before the final steps of `[final]`, where there were any."""
    last: bool = False
    """The peers have agreed that no other follows, though there might be more by `[stop] rounds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRejected:
    """Emitted when a received message was not used; counted by reason."""

    sender: PeerId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAdopted:
    """Emitted when a peer far behind took over a neighbour's model, or merged it and goes on from its round."""

    sender: PeerId
    """Where several were merged, the first of them."""
    round: int
    """The peer's own from now on; the model's age, where peers have no rounds in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSaved:
    """Emitted when what a restart needs has changed, without a round having been completed here."""

    round: int
    """Rounds that `model` contains."""
    model: Model


class Waiting(NamedTuple):
    """For whom a peer waits, in seconds of `Context.now`."""

    peers: frozenset[PeerId]
    since_s: float
    until_s: float
    """At the latest, as far as is known now."""


Event: TypeAlias = RoundCompleted | MessageRejected | ModelAdopted | ModelSaved


class Context(StructuralType):
    """Everything a protocol may ask of the world."""

    @property
    def peer(self) -> PeerId:
        """This peer's name."""

    @property
    def peers(self) -> Sequence[PeerId]:
        """All peers of the run, sorted, this one included."""

    @property
    def contacts(self) -> Sequence[PeerId]:
        """The peers that may ever be this one's neighbours, sorted."""

    def now(self) -> float:
        """Return seconds since some fixed moment; never runs backwards."""

    def rng(self, purpose: str, round: int = 0) -> np.random.Generator:
        """Return the generator that belongs to this peer, this purpose and this round."""

    def neighbours(self, round: int) -> Mapping[PeerId, float]:
        """Return row i of the round's mixing matrix W without W_ii: neighbour -> weight. These are who is heard."""

    def final_neighbours(self, step: int) -> Mapping[PeerId, float]:
        """Return the row of a final step, from 0, as `neighbours` does; asked only after `merge_at_the_end`."""

    def audience(self, round: int) -> Sequence[PeerId]:
        """Return whom this peer sends to in the round, sorted: the neighbours, unless edges have directions."""

    def is_up(self, peer: PeerId) -> bool:
        """Return whether messages to `peer` can be sent now."""

    def send(self, peer: PeerId, message: Message) -> None:
        """Send as soon as the message's model has its value. To a peer that is down: dropped."""

    def send_all(self, peers: Sequence[PeerId], message: Message) -> Sequence[PeerId]:
        """Send the same to several, in this order; return those that are down."""

    def set_timer(self, key: TimerKey, delay_s: float) -> None:
        """Call `on_timer(key)` once after `delay_s`; a second call with the same key replaces the first."""

    def cancel_timer(self, key: TimerKey) -> None:
        """Forget the timer; nothing happens where there is none."""

    def train(self, model: Model, *, round: int) -> Ticket:
        """Start one local update of `model`; `on_trained` brings the result. One at a time per peer."""

    def merge(
        self,
        own: Model,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
    ) -> Model:
        """Return the handle of the merged model at once. Weights sum to one."""

    def adopt(self, own: Model, received: Sequence[Contribution]) -> Model:
        """Return the handle of a received model with the slots that never travel taken from `own`.

        It is the first of `received` that a merge would see; if every one is refused, it is `own`.
        """

    def agreed(self, own: Model, received: Sequence[Contribution]) -> Model:
        """Return the handle of what most of `received` agree on, with the slots that never travel taken from `own`.

        Coordinate-wise the median of those that a merge would see, `own` among them where their number is even; so
        as long as most are honest, every coordinate is between those of honest models. If all are refused, it is `own`.
        """

    def graft(self, base: Model, source: Model, part: Part) -> Model:
        """Return the handle of `base` with `part` taken from `source`, which is a model or only that part of one.

        A received part becomes a model that can be merged; and of a merged model only the part is kept.
        """

    def moved(self, base: Model, before: Model, after: Model) -> Model:
        """Return the handle of `base` moved as a local update has moved `before`: base + (after - before).

        That is what travels of it; the slots that never do are those of `after`.
        """

    def sign(self, statement: bytes) -> bytes:
        """Return this peer's signature; others can pass the statement on, and nobody else can make or change it."""

    def verify(self, peer: PeerId, statement: bytes, signature: bytes) -> bool:
        """Return whether `peer` of this run has signed the statement."""

    def emit(self, event: Event) -> None:
        """Tell the world what happened: metrics, checkpoints, counters."""

    def finish(self, model: Model) -> None:
        """All is done; `model` is the result. Handlers are still called, to answer slower peers."""


class Protocol(abc.ABC):
    """WHEN and WITH WHOM. One instance per peer; all state is its own."""

    __slots__ = ()

    messages: ClassVar[tuple[type[Message], ...]] = (ModelMessage, FinishedMessage)
    """What its peers say to each other; nothing else is let in from the wire."""
    everybody: ClassVar[bool] = False
    """Whether all other peers are contacts. Such a protocol chooses by itself whom it talks to, and needs no graph."""
    scenarios_only: ClassVar[bool] = False
    """Whether it is a baseline for experiments, that no real node runs."""

    directed: ClassVar[bool] = False
    """Whether whom it sends to may be others than those who send to it: whether it asks `Context.audience`."""

    merges_at_the_end: ClassVar[bool] = False
    """Whether its last round can have final steps: whether `merge_at_the_end` may be called."""

    agrees_to_stop: ClassVar[bool] = False
    """Whether its peers can agree to stop before all rounds are done: whether `stop_early` may be called."""

    @staticmethod
    def update_period_s(settings: Any) -> float | None:
        """Return the seconds between a peer's local updates, where peers have no rounds in common; else None."""
        return None

    @staticmethod
    def parts(settings: Any) -> int:
        """Return into how many parts a model is divided to travel; each has one number at least."""
        return 1

    @staticmethod
    def usual_messages(settings: Any, *, neighbours: int, peers: int) -> Mapping[Message, float] | None:
        """Return the model messages that a peer sends in a round where nothing fails, and how many of each on average.

        They carry no model; only their sizes are asked for. None: it cannot be told beforehand.

        Args:
            settings: of `[protocol]`.
            neighbours: in the peer's row of the mixing matrix.
            peers: of the run.
        """
        return None

    @classmethod
    def resume(
        cls, settings: Any, *, rounds: int, model: Model, state: Mapping[str, int | float | str]
    ) -> Self:
        """Make one peer's protocol; by default by its constructor, which then takes the same.

        Args:
            settings: of `[protocol]`.
            rounds: after which a peer is done.
            model: handle of the model at the start, or of the checkpoint's.
            state: what `snapshot` returned for the checkpoint, and ``"away_s"``, the seconds since it was saved, where
                that is known; empty for a fresh start.
        """
        make: Any = cls
        made: Self = make(settings, rounds=rounds, model=model, state=state)
        return made

    @abc.abstractmethod
    def on_start(self, ctx: Context) -> None:
        """Begin, or go on after a resume."""

    @abc.abstractmethod
    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Handle one well-formed message; what it says may still be nonsense."""

    def on_timer(self, ctx: Context, key: TimerKey) -> None:  # noqa: B027 - not all set timers
        """Handle a timer set before."""

    @abc.abstractmethod
    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """Handle the end of a local update."""

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:  # noqa: B027 - not all look
        """Note that `peer` can or can no longer be reached."""

    def stop_early(self, rule: StopRule, state: Mapping[str, int | float | str]) -> None:
        """Agree with the others to stop as the rule says; before anything else is called, with `resume`'s state."""
        raise NotImplementedError(f"{type(self).__name__} does not agree to stop early")

    def merge_at_the_end(self, steps: int, *, exact: bool) -> None:
        """Take so many gossip steps more in the last round, on the rows of `Context.final_neighbours`.

        Before anything else is called. `exact`: their messages are whole.
        """
        raise NotImplementedError(f"{type(self).__name__} has no final steps")

    def on_score(self, ctx: Context, round: int, score: float | None) -> None:  # noqa: B027 - most never stop early
        """Note what the own model of so many rounds scores, on own samples; told only after `stop_early`."""

    def why_stopped(self) -> str:
        """Return, once finished, why: "rounds", or "patience" or "target" where peers agreed to stop early."""
        return ROUNDS

    def needed(self) -> bool:
        """Return whether, once finished, slower peers may still need this one's answers."""
        return False

    def snapshot(self) -> Mapping[str, int | float | str]:
        """Return what a checkpoint must hold beside the model, as of the last `RoundCompleted` or `ModelSaved`.

        ``"round"``, how many rounds the model contains, is always among it; by default the attribute of that name.
        """
        return {"round": int(self.round)}  # type: ignore[attr-defined]

    def present_wait(self) -> Waiting | None:
        """Return for whom this peer waits now, and cannot go on before they have sent something; None: for nobody."""
        return None

    @property
    def waiting_for(self) -> frozenset[PeerId]:
        """The peers that it waits for."""
        waiting = self.present_wait()
        return frozenset() if waiting is None else waiting.peers

    def on_leave(self, ctx: Context) -> None:  # noqa: B027 - most protocols have nothing to say
        """Say farewell: the process is about to end although it has not finished."""

    def status(self) -> Mapping[str, int | str]:
        """Return what `gossip-node status` tells of this protocol."""
        return {}
