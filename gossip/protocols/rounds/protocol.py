"""Synchronous neighbourhood rounds: D-PSGD, DFedAvg(M), DFedSAM, DFedSAM-MGS.

In round t every peer i trains its model x_i^t and takes Q gossip steps

    z_i^(q+1) = Σ_{j ∈ N(i) ∪ {i}} W_ij · z_j^(q)

from z_i^(0), what was trained, to x_i^{t+1} = z_i^(Q); or from x_i^t, and adds its own update to z_i^(Q) (`order`).
There is one mixing matrix W for the whole round (DFedSAM, arXiv 2302.04083, Algorithm 1; Q > 1 is DFedSAM-MGS), and no
global clock: a step ends when every neighbour that can answer has answered, or at its deadline. Messages are tagged
(t, q), because mixing models of different steps would silently change W. What the papers leave open: see the package.
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
    ModelMessage,
    PeerId,
    Protocol,
    RoundCompleted,
    Ticket,
    TimerKey,
    Waiting,
)
from gossip.protocols.rounds.catching_up import LostTime, Move
from gossip.protocols.rounds.ending import Ending
from gossip.protocols.rounds.exchange import Exchange
from gossip.protocols.rounds.final import FinalMessage, FinalSteps
from gossip.protocols.rounds.inbox import Inbox
from gossip.protocols.rounds.moves import Moves
from gossip.protocols.rounds.neighbourhood import Neighbourhood
from gossip.protocols.rounds.order import ORDERS
from gossip.protocols.rounds.parts import MODELS, Parts, PieceMessage
from gossip.protocols.rounds.phase import Phase
from gossip.protocols.rounds.saved import NOTHING_SAVED, Saved
from gossip.protocols.rounds.sender import NOTHING, Tag
from gossip.protocols.rounds.stopping import WantsMessage
from gossip.protocols.rounds.waiting import DEADLINE, Wait
from gossip.protocols.settings import RoundsSettings
from gossip.protocols.stopping import StopRule


class Rounds(Protocol):
    """One peer's rounds.

    Args:
        settings: Q, deadlines and catching up.
        rounds: T, after which the peer is done.
        model: the handle of x_i at the start.
        start_round: rounds done already, after a resume.
        saved: what is known from before.
    """

    __slots__ = (
        "_ending",
        "_exchange",
        "_final",
        "_gossip_steps",
        "_inbox",
        "_lost",
        "_merged",
        "_moves",
        "_near",
        "_own",
        "_parts",
        "_patience",
        "_phase",
        "_round",
        "_step",
        "_ticket",
        "_training_began_s",
        "_wait",
        "_whole",
    )
    messages: ClassVar[tuple[type[Message], ...]] = (
        ModelMessage,
        FinalMessage,
        FinishedMessage,
        WantsMessage,
        PieceMessage,
    )
    directed: ClassVar[bool] = True
    merges_at_the_end: ClassVar[bool] = True
    agrees_to_stop: ClassVar[bool] = True

    def __init__(
        self,
        settings: RoundsSettings,
        *,
        rounds: int,
        model: Model,
        start_round: int = 0,
        saved: Saved = NOTHING_SAVED,
    ) -> None:
        self._gossip_steps = settings.gossip_steps
        self._own = ORDERS[settings.order](model)
        self._round = start_round
        self._step = 0
        self._phase = Phase.READY
        self._ticket: Ticket | None = None
        self._near = Neighbourhood()
        self._final = FinalSteps(settings.gossip_steps)
        self._parts = Parts(settings, self._final)
        self._whole = settings.parts == 1
        self._inbox = Inbox(settings, rounds=rounds, near=self._near, parts=self._parts, final=self._final)
        self._inbox.remember(saved.participation)
        self._ending = Ending(settings, rounds=rounds, near=self._near, inbox=self._inbox)
        self._wait = Wait(settings, self._near)
        self._patience = self._wait.patience
        self._merged = 0
        """The parts of which something was merged in this round, as bits."""
        self._training_began_s = 0.0
        self._lost = LostTime(pace_s=saved.pace_s, away_s=saved.away_s)
        self._moves = Moves(
            settings, near=self._near, inbox=self._inbox, ending=self._ending, lost=self._lost
        )
        self._exchange = Exchange(self._own, self._near, self._parts)

    @staticmethod
    def usual_messages(settings: RoundsSettings, *, neighbours: int, peers: int) -> Mapping[Message, float]:
        """Return one model, or one part, for each neighbour in each of the Q gossip steps."""
        parts = Parts(settings, FinalSteps(settings.gossip_steps))
        return {parts.message(0, step, None): float(neighbours) for step in range(settings.gossip_steps)}

    @staticmethod
    def parts(settings: RoundsSettings) -> int:
        """Return S; a protocol of one's own that says nothing of parts has whole models."""
        return settings.parts if isinstance(settings, RoundsSettings) else 1

    @classmethod
    def resume(
        cls, settings: RoundsSettings, *, rounds: int, model: Model, state: Mapping[str, int | float | str]
    ) -> Self:
        """Begin after the rounds that the state says are done."""
        done, saved = int(state.get("round", 0)), Saved.of(state)
        return cls(settings, rounds=rounds, model=model, start_round=done, saved=saved)

    # --- what the world may look at ---

    @property
    def tag(self) -> Tag:
        """The (round, step) this peer is in."""
        return (self._round, self._step)

    @property
    def phase(self) -> Phase:
        """What this peer is doing."""
        return self._phase

    def present_wait(self) -> Waiting | None:
        """Return the neighbours whose models the present step still waits for."""
        return self._wait.told()

    def snapshot(self) -> Mapping[str, int | float | str]:
        """Return rounds done, own pace, who wants to stop, how often others come; the rest neighbours tell again."""
        pace_s = self._lost.pace_s
        pace = {} if pace_s is None else {"pace_s": pace_s}
        return {"round": self._round, **pace, **self._ending.saved(), **self._inbox.saved()}

    def needed(self) -> bool:
        """Return whether some neighbour has not said that it is finished."""
        return not self._near.all_finished()

    def why_stopped(self) -> str:
        """Return "rounds", or why enough peers wanted to stop early."""
        return self._ending.why

    def stop_early(self, rule: StopRule, state: Mapping[str, int | float | str]) -> None:
        """Stop when enough peers want to."""
        self._final.any_round = True
        self._ending.stop_early(rule, state, done=self._round)

    def merge_at_the_end(self, steps: int, *, exact: bool) -> None:
        """Give the last round so many gossip steps more."""
        self._final.count, self._final.exact = steps, exact

    def status(self) -> Mapping[str, int | str]:
        """Tell of final steps, while they are taken."""
        return self._final.told(self._step) if self._phase is Phase.GOSSIPING else {}

    # --- upon … ---

    def on_start(self, ctx: Context) -> None:
        """Begin with the first round that is not done."""
        self._lost.begin(ctx.now())
        self._ending.tell(ctx)
        self._begin_round(ctx)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """The local update is done: gossip, unless the neighbourhood has gone far ahead meanwhile."""
        if self._phase is not Phase.TRAINING or ticket != self._ticket:
            return
        self._own.trained(model)
        self._ticket = None
        update_s = ctx.now() - self._training_began_s
        self._lost.updated(update_s)
        if not self._catch_up(ctx):
            self._patience.begin_round(update_s)
            self._enter_step(ctx, 0)

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Keep a model of this step or a later one; drop and count anything else."""
        if isinstance(message, MODELS):
            round, step = message.round, message.step
            usual = self._whole and type(message) is ModelMessage and step < self._gossip_steps
            fits = usual or self._parts.fits(message)
            if round == self._round and step == self._step and fits:
                # By far the most frequent case: a model that this step waits for.
                known = self._near.senders.get(sender)
                if known is not None and known.missing:
                    if self._wait.come(ctx, known, message.model):
                        self._close_step(ctx)
                    return
            in_round = round == self._round and sender in self._near.row and 0 <= step < self._gossip_steps
            in_round = in_round and self._step < self._gossip_steps
            if not (in_round and fits):
                reason = self._inbox.reason_to_refuse(ctx, sender, message, round=self._round)
                if reason is not None:
                    ctx.emit(MessageRejected(sender=sender, reason=reason))
                    return
            if self._phase is Phase.FINISHED:
                known = self._near.sender(sender)
                tag = self._ending.answer_to((round, step), served=known.served)
                if tag is not None:
                    self._exchange.send(ctx, [known], tag, whole=tag != (round, step))
            else:
                self._receive(ctx, sender, (round, step), message)
        elif isinstance(message, FinishedMessage):
            if sender in self._near.contacts(ctx):
                self._near.sender(sender).finished = True
        else:
            self._ending.heard(ctx, sender, message, earliest=self._round + self._phase.in_round)

    def on_score(self, ctx: Context, round: int, score: float | None) -> None:
        """Want to stop, if the own score says so."""
        self._ending.scored(ctx, round, score, earliest=self._round + self._phase.in_round)

    def on_timer(self, ctx: Context, key: TimerKey) -> None:
        """End the step without those who did not answer."""
        if key != DEADLINE or self._phase is not Phase.GOSSIPING:
            return
        if not self._catch_up(ctx) and self._wait.rang(ctx):
            self._close_step(ctx)

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        """Wait for nobody who is gone; tell somebody who came (back) where we are."""
        if peer not in self._near.contacts(ctx):
            return
        known = self._near.sender(peer)
        if not up:
            if self._wait.gone(ctx, known):
                self._close_step(ctx)
            return
        # Nobody begins to be waited for in the middle of a step, so that coming and going costs no time; and a suspect
        # is one until it delivers something.
        known.served = NOTHING
        # It says again that it is finished, if it still is: a process begins with its last checkpoint.
        known.finished = False
        self._ending.tell(ctx, anew=peer)
        if self._phase is Phase.FINISHED:
            ctx.send(peer, FinishedMessage(round=self._ending.rounds))
        elif self._own.model is not None and known in self._near.audience:
            self._exchange.send(ctx, [known], self.tag)

    # --- a round ---

    def _begin_round(self, ctx: Context) -> None:
        self._step = 0
        if self._round >= self._ending.rounds:
            self._finish(ctx)
            return
        self._merged = 0
        if self._gossip_steps:
            self._near.begin_round(ctx, self._round)
        self._phase = Phase.TRAINING
        self._training_began_s = ctx.now()
        if self._own.sends_first:
            self._exchange.send(ctx, self._near.sent_to(ctx), self.tag)
        self._ticket = self._own.train(ctx, self._round)

    def _enter_step(self, ctx: Context, step: int) -> None:
        self._step = step
        if step >= self._gossip_steps and step >= self._steps:
            self._complete_round(ctx)
            return
        if step >= self._gossip_steps:
            if step == self._gossip_steps:
                # All that the round has made is in the model before the first final step.
                self._own.settle(ctx)
                self._final.before = self._own.model
            self._near.begin_final(ctx, step - self._gossip_steps)
        self._phase = Phase.GOSSIPING
        tag = (self._round, step)
        now_s = ctx.now()
        self._inbox.note_step_began(tag, now_s)
        come = self._exchange.begin(ctx, tag)
        if self._wait.begin(ctx, tag, now_s=now_s, come=come):
            self._close_step(ctx)

    def _close_step(self, ctx: Context) -> None:
        """z_i^(q+1) = Σ_j W_ij z_j^(q) over those that came; the weight of the others goes to z_i^(q)."""
        self._wait.end(ctx)
        at = self._parts.step(self._round, self._step, steps=self._steps)
        own_weight, received = self._inbox.collect(ctx, self._wait.tag, at.part)
        # What is due once a round is due after lonely last steps too, unless all of the round was lonely.
        if received or (at.last and self._merged >> at.part.place & 1):
            self._merged |= 1 << at.part.place
            self._own.model = self._parts.merge(ctx, self._own.model, own_weight, received, at=at)
        self._enter_step(ctx, self._step + 1)

    @property
    def _steps(self) -> int:
        """How many gossip steps the present round has."""
        final = self._final
        return final.steps(self._round, rounds=self._ending.rounds) if final.count else final.usual

    def _complete_round(self, ctx: Context) -> None:
        self._own.settle(ctx)
        self._round += 1
        near, ending = self._near, self._ending
        before, self._final.before = self._final.before, None
        self._lost.round_done(ctx.now(), in_step=near.in_step(ctx))
        ctx.emit(
            RoundCompleted(
                round=self._round,
                model=self._own.model,
                heard=near.heard,
                expected=near.expected,
                before=before,
                last=ending.early and self._round >= ending.rounds,
            )
        )
        self._begin_round(ctx)

    def _finish(self, ctx: Context) -> None:
        self._phase = Phase.FINISHED
        self._near.wait_for_nobody()
        self._inbox.clear()
        self._exchange.say_finished(ctx, self._ending.rounds)
        ctx.finish(self._own.model)

    # --- messages ---

    def _receive(self, ctx: Context, sender: PeerId, tag: Tag, message: ModelMessage | PieceMessage) -> None:
        model, whole = message.model, message.piece is None
        here = (self._round, self._step)
        known = self._near.sender(sender)
        if tag < here:
            # No offence where it stands in: an honest machine may be late in every step.
            if not self._inbox.take_late(known, tag, model, round=self._round, now_s=ctx.now()):
                ctx.emit(MessageRejected(sender=sender, reason="stale"))
            return
        if not self._inbox.take(known, tag, model, here=here, whole=whole):
            ctx.emit(MessageRejected(sender=sender, reason="duplicate"))
            return
        if self._phase is not Phase.GOSSIPING:
            return
        if tag == here:
            # It was not waited for, and comes in time all the same.
            known.observe(tag, ctx.now() - self._patience.began_s)
        elif not self._catch_up(ctx) and known.missing and self._wait.go_on_without(ctx, known):
            self._close_step(ctx)

    def _catch_up(self, ctx: Context) -> bool:
        """Go where most live neighbours have been, if that is far ahead; return whether that was done."""
        move = self._moves.due(ctx, (self._round, self._step))
        if move is None:
            return False
        self._go(ctx, move)
        return True

    def _go(self, ctx: Context, move: Move) -> None:
        """Merge the witnesses' newest models, as at the end of the step before the target, and enter the target."""
        if self._phase is Phase.GOSSIPING:
            self._wait.end(ctx)
        self._own.settle(ctx)
        round, step = move.target
        self._own.model = move.merge(ctx, self._own.model, self._near.in_row, self._parts)
        self._lost.moved(round - self._round)
        self._patience.begin_round(0.0)
        self._round = round
        self._inbox.forget_before(move.target)
        if round == self._ending.rounds - 1 or (step == 0 and self._own.sends_first):
            # In the latter case models of step 0 are those before training.
            self._begin_round(ctx)
        else:
            self._merged = 0
            self._near.begin_round(ctx, round)
            self._enter_step(ctx, step)
