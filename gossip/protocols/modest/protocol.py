"""MoDeST: mostly-consistent decentralized sampling (de Vos et al., arXiv 2302.13837, version 1), and its hardening.

In round k a sample of s peers trains the same model. Each of them finds the a aggregators of round k + 1 on its own –
the first living peers in an order that is a hash of peer and round – and sends them what it has trained. An aggregator
averages the first sf·s models, finds the sample of round k + 1 in the same way, and sends it the average.

Views, who is there and was active when, travel with the models. Nobody agrees on anything: peers with the same view
draw the same sample, and a few more or fewer participants do no harm. The bare protocol stops for good when a sample
loses too many peers or a round all its aggregators, and believes whatever it is told; the rules H1 to H7 of
`ModestSettings` are what keeps it going.

With them, what may advance a round follows from what a peer can check: who is in the round's sample (`core`), how many
of them say so (`claims`), and what time has passed (`orders`, `patience`). A peer's coming and going is told by itself
alone (`membership`), counts are never taken from a message (`aggregator`), and the end is believed when more than f
say so (`ending`). So f peers that lie about rounds, numbers, others or the end, or keep silent, cost some time and
change no model. What they still can do: a liar that is in a sample sends a false model, which is one of s in an
average, as under any protocol (`[merge]` is for that); and with a ≤ 2·f a liar that is a round's aggregator, as it is
in one round of n/f with a = 1, is trusted with what that round begins from – if it is one of the last rounds, so is the
result. With a > 2·f participants train what most aggregators agree on (`votes`), and that is not so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from gossip.protocols.base import (
    Context,
    FinishedMessage,
    Message,
    MessageRejected,
    Model,
    PeerId,
    Protocol,
    Ticket,
    TimerKey,
)
from gossip.protocols.modest.aggregator import AGGREGATE, Aggregator
from gossip.protocols.modest.core import Core
from gossip.protocols.modest.ending import FINAL, Ending
from gossip.protocols.modest.membership import FETCH, REFRESH, Membership
from gossip.protocols.modest.messages import (
    MESSAGES,
    AckMessage,
    AggregateMessage,
    BulkMessage,
    FetchMessage,
    MemberMessage,
    NewestMessage,
    PingMessage,
    PongMessage,
    StatusMessage,
    TrainMessage,
)
from gossip.protocols.modest.orders import HOLD, Orders
from gossip.protocols.modest.restart import STALL, Restart
from gossip.protocols.modest.search import SAMPLE_TIMER
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.modest.trainer import SEND_AGAIN, Trainer


class Modest(Protocol):
    """One peer: trainer, aggregator and member at once.

    Args:
        settings: s, a, sf, Δt, Δk and the hardening.
        rounds: R, rounds of training after which all is done.
        model: the handle of the model at the start; the same for all peers.
        state: what `snapshot` returned before a restart.
    """

    messages: ClassVar[tuple[type[Message], ...]] = (*MESSAGES, FinishedMessage)
    everybody: ClassVar[bool] = True
    server: ClassVar[int | None] = None
    """The place of a fixed aggregator among the peers, or None: aggregators are drawn."""

    def __init__(
        self,
        settings: ModestSettings,
        *,
        rounds: int,
        model: Model,
        state: Mapping[str, int | float | str] | None = None,
    ) -> None:
        self._core = core = Core(settings, rounds=rounds, model=model, state=state or {}, server=self.server)
        self._fresh = not state
        self._aggregator = Aggregator(core)
        self._trainer = Trainer(core, self._aggregator)
        self._membership = Membership(core)
        self._ending = Ending(core)
        self._orders = Orders(core, begin=self._begin, train=self._train)
        self._restart = Restart(core, deliver=self._deliver, final=self._final, blame=self._trainer.blame)
        self._aggregator.ask = self._trainer.ask = self._orders.ask
        self._aggregator.deliver = self._deliver
        self._aggregator.acknowledge = self._trainer.acknowledged
        self._aggregator.final = self._final
        core.rejected = self._reject
        self._left = False

    @staticmethod
    def usual_messages(settings: ModestSettings, *, neighbours: int, peers: int) -> Mapping[Message, float]:
        """Return what s participants send to a aggregators and these to the next sample, shared by all peers."""
        models = min(settings.sample_size, peers) * min(settings.aggregators, peers) / peers
        return {
            kind(round=1, expected=1, view=(), version=0, model=None): models
            for kind in (AggregateMessage, TrainMessage)
        }

    @classmethod
    def resume(
        cls, settings: ModestSettings, *, rounds: int, model: Model, state: Mapping[str, int | float | str]
    ) -> Self:
        """Begin, or come back with the counters of the state."""
        return cls(settings, rounds=rounds, model=model, state=state)

    # --- what the world may look at ---

    @property
    def round(self) -> int:
        """The newest round that this peer knows of, counted from 1."""
        return self._core.round

    @property
    def participations(self) -> int:
        """Rounds that this process has trained in, and sent what came of it."""
        return self._trainer.participations

    @property
    def first_participation(self) -> int:
        """The first of them, 0 where there is none."""
        return self._trainer.first_round

    @property
    def last_participation(self) -> int:
        """The last of them."""
        return self._trainer.last_round

    def snapshot(self) -> Mapping[str, int | float | str]:
        """Return rounds, counters and the view."""
        return self._core.saved

    def needed(self) -> bool:
        """Return whether a peer that gets the final model from us has not got it yet."""
        return self._ending.needed

    def status(self) -> Mapping[str, int | str]:
        """Return the view's size, the candidates, the role and the round."""
        core = self._core
        role = "training" if self._trainer.busy else "aggregating" if self._aggregator.waiting else "idle"
        return {
            "role": "finished" if core.finished else role,
            "sampled_round": core.round,
            "view": len(core.view),
            "registered": sum(1 for _ in core.view.registered()),
            "candidates": len(
                core.view.candidates(core.round, window=core.settings.activity_window, me=core.me)
            ),
            "participations": self.participations,
            "averaged": self._aggregator.averaged,
        }

    # --- upon … ---

    def on_start(self, ctx: Context) -> None:
        """Come online; the sample of round 1 begins on its own, since all have the same model."""
        core = self._core
        core.meet(ctx)
        self._restart.begin(ctx)
        self._membership.join(ctx)
        if core.newest >= core.rounds:
            self._ending.finish(ctx, core.model)
            return
        if self._fresh and core.round == 0:
            first = core.order(1)[: core.settings.sample_size]
            if core.me in first:
                core.prove(1)
                self._train(ctx, 1, len(first), core.model)

    def on_leave(self, ctx: Context) -> None:
        """Say so, and do nothing any more: whoever still writes to us must not bring us back."""
        self._core.meet(ctx)
        self._membership.leave(ctx)
        self._left = True

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Pass a message to the role that it is for."""
        if self._left:
            return
        self._core.meet(ctx)
        match message:
            case PingMessage():
                self._ping(ctx, sender, message)
            case PongMessage():
                self._pong(ctx, sender, message)
            case TrainMessage() | AggregateMessage() | NewestMessage():
                self._bulk(ctx, sender, message)
            case AckMessage():
                self._trainer.acknowledged(ctx, sender, message.round)
            case MemberMessage():
                self._member(ctx, sender, message)
            case StatusMessage():
                self._membership.status(ctx, sender, message)
            case FetchMessage():
                if self._core.finished or message.round >= self._core.rounds - 1:
                    self._ending.serve(ctx, sender)
                else:
                    self._membership.fetch(ctx, sender, message)
            case FinishedMessage():
                self._ending.told(ctx, sender)
            case _:
                self._reject(ctx, sender, "unexpected")
        self._note_progress(ctx)

    def on_timer(self, ctx: Context, key: TimerKey) -> None:
        """Pass a timer to its owner."""
        if self._left:
            return
        self._core.meet(ctx)
        if key.startswith(SAMPLE_TIMER):
            self._core.searches.timer(ctx, key.removeprefix(SAMPLE_TIMER), self._core.round)
        elif key == AGGREGATE:
            self._aggregator.look(ctx)
        elif key == SEND_AGAIN:
            self._trainer.timer(ctx)
        elif key == REFRESH:
            self._membership.timer(ctx)
        elif key == FETCH:
            self._membership.fetch_timer(ctx)
        elif key == FINAL:
            self._ending.timer(ctx)
        elif key == HOLD:
            self._orders.timer(ctx)
        elif key == STALL:
            self._restart.timer(ctx)
        self._note_progress(ctx)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """A local update is done."""
        if self._left:
            return
        self._core.meet(ctx)
        self._trainer.trained(ctx, ticket, model)
        self._note_progress(ctx)

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        """What was agreed over a connection ends with it."""
        if self._left:
            return
        self._core.meet(ctx)
        if up:
            self._core.connection_made(peer)
            self._membership.met(ctx, peer)
        else:
            self._trainer.connection_lost(peer)
            self._orders.connection_lost(peer)
            self._ending.connection_lost(peer)
            self._membership.connection_lost(peer)
            self._core.connection_lost(ctx, peer)
        self._note_progress(ctx, more_is_known=True)

    # --- messages ---

    def _ping(self, ctx: Context, sender: PeerId, message: PingMessage) -> None:
        core = self._core
        core.heard(sender, message.round)
        self._membership.contacted(ctx, sender)
        ctx.send(
            sender, PongMessage(nonce=message.nonce, round=core.round, version=core.news.merged_of(sender))
        )
        if core.finished:
            self._ending.say(ctx, sender)

    def _pong(self, ctx: Context, sender: PeerId, message: PongMessage) -> None:
        core = self._core
        core.heard(sender, message.round)
        core.news.note_known(sender, message.version)
        # One that nobody asked for says nothing of whether the peer answers.
        asked = self._orders.answered(sender, message.nonce)
        if core.searches.pong(ctx, sender, message.nonce, core.round) or asked:
            core.suspicions.answered(sender)

    def _bulk(self, ctx: Context, sender: PeerId, message: BulkMessage) -> None:
        core = self._core
        newest = isinstance(message, NewestMessage)
        # What was trained in round k travels as round k + 1.
        later = int(isinstance(message, AggregateMessage))
        if not (1 + later <= message.round <= core.rounds + later) or not (newest or message.expected >= 1):
            self._reject(ctx, sender, "invalid-round")
            return
        self._membership.contacted(ctx, sender)
        if core.finished and not newest:
            self._ending.say(ctx, sender)
        elif isinstance(message, AggregateMessage):
            self._trained_elsewhere(ctx, sender, message)
        elif isinstance(message, NewestMessage):
            self._newest(ctx, sender, message)
        elif isinstance(message, TrainMessage):
            core.claimed(sender, message.round)
            self._orders.hear(ctx, sender, message)
        if not core.cautious:
            self._membership.refute(ctx)

    def _trained_elsewhere(self, ctx: Context, sender: PeerId, message: AggregateMessage) -> None:
        """Upon AGGREGATE. After a stall anybody may have trained (H4); what he has is one model of several."""
        core = self._core
        trained = message.round - 1
        if core.cautious:
            core.claimed(sender, trained)
            stalled = ctx.now() - core.since_s >= core.patience.stall_s() / 2
            if not stalled and not core.may_train(ctx, sender, trained):
                self._reject(ctx, sender, "not-in-sample")
                return
        core.merge_view(sender, message)
        self._aggregator.take(
            ctx, sender, round=message.round, expected=message.expected, model=message.model
        )

    def _newest(self, ctx: Context, sender: PeerId, message: NewestMessage) -> None:
        core = self._core
        if sender not in core.asked:
            self._reject(ctx, sender, "not-asked-for")
            return
        core.asked.discard(sender)
        core.claimed(sender, message.round)
        core.merge_view(sender, message)
        if core.finished:
            return
        if message.round < core.rounds:
            self._membership.newest(ctx, sender, message)
        elif self._ending.received(ctx, sender, message.model):
            self._stop(ctx)

    def _member(self, ctx: Context, sender: PeerId, message: MemberMessage) -> None:
        self._membership.heard(ctx, sender, message)
        if self._core.finished:
            self._ending.say(ctx, sender)

    def _reject(self, ctx: Context, sender: PeerId, reason: str) -> None:
        ctx.emit(MessageRejected(sender=sender, reason=reason))

    def _begin(self, ctx: Context, sender: PeerId, message: TrainMessage) -> bool:
        """Train what an order says."""
        expected = min(message.expected, self._core.settings.sample_size)
        begun = self._trainer.begin(ctx, sender, round=message.round, expected=expected, model=message.model)
        if begun:
            self._membership.sampled(ctx)
        return begun

    def _deliver(self, ctx: Context, round: int, expected: int, model: Model) -> None:
        """What we send to ourselves."""
        self._orders.vote(ctx, self._core.me, round=round, expected=expected, model=model)

    def _train(self, ctx: Context, round: int, expected: int, model: Model) -> None:
        """Train what has been decided."""
        self._membership.sampled(ctx)
        self._trainer.begin(ctx, self._core.me, round=round, expected=expected, model=model)

    # --- the end ---

    def _final(self, ctx: Context, model: Model) -> None:
        if self._core.finished:
            return
        self._ending.announce(ctx)
        self._ending.finish(ctx, model)
        self._stop(ctx)

    def _stop(self, ctx: Context) -> None:
        self._core.searches.stop(ctx)
        self._trainer.stop(ctx)
        self._aggregator.stop(ctx)
        self._membership.stop(ctx)
        self._orders.stop(ctx)
        self._restart.stop(ctx)

    def _note_progress(self, ctx: Context, *, more_is_known: bool = False) -> None:
        if self._core.finished:
            return
        # A round that is known of at last lets others begin.
        if self._restart.note_progress(ctx) or more_is_known:
            self._aggregator.look(ctx)
        self._orders.look(ctx)
        self._restart.note_progress(ctx)
