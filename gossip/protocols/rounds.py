"""Synchronous neighbourhood rounds: D-PSGD, DFedAvg(M), DFedSAM, DFedSAM-MGS.

In round t every peer i trains its model to z_i^(0), then takes Q gossip steps

    z_i^(q+1) = Σ_{j ∈ N(i) ∪ {i}} W_ij · z_j^(q),        x_i^{t+1} = z_i^(Q)

with one mixing matrix W for the whole round (DFedSAM, arXiv 2302.04083, Algorithm 1; Q > 1 is DFedSAM-MGS).
There is no global clock: a step ends when every neighbour that can answer has answered, or at its deadline.
Messages are tagged (t, q), because mixing models of different steps would silently change W.

What the paper leaves open, and what is done here:

* A neighbour's model that does not come: its weight goes to the own model. Rows of W still sum to one, and
  where both sides miss each other columns do too, so the mean of all models is kept. Renormalising the row
  would not keep it.
* A neighbour that misses a deadline is not waited for again until it is heard with a current tag: a peer
  that hangs costs one deadline, not one in every step.
* A peer far behind its neighbours adopts one neighbour's model and step. It needs at least half of its live
  neighbours to be that far ahead, so that a single liar cannot replace its model.
* A peer that has finished answers slower neighbours with its final model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from gossip.protocols.base import (
    Context,
    Contribution,
    FinishedMessage,
    Message,
    MessageRejected,
    Model,
    ModelAdopted,
    ModelMessage,
    PeerId,
    Protocol,
    RoundCompleted,
    Ticket,
    TimerKey,
)
from gossip.protocols.deadlines import ArrivalDeadline
from gossip.protocols.settings import RoundsSettings

Tag: TypeAlias = tuple[int, int]
"""(round, gossip step); compares in the order in which a peer passes through them."""

KEPT_PER_SENDER_MAX = 4
"""Models kept from one sender. In step with us it is at most one step ahead; more means that we are behind,
and then only its newest models matter."""

NOTHING: Tag = (-1, 0)
"""Before every tag."""

DEADLINE = "deadline"

CLOCK_S = 1e-6
"""A deadline that is nearer than this has come: sums of floats do not meet exactly."""


class Phase(Enum):
    """Where in a round a peer stands."""

    READY = "ready"
    TRAINING = "training"
    GOSSIPING = "gossiping"
    FINISHED = "finished"


class Rounds(Protocol):
    """One peer's rounds.

    Args:
        settings: Q, deadlines and catching up.
        rounds: T, after which the peer is done.
        model: the handle of x_i at the start.
        start_round: rounds done already, after a resume.
    """

    def __init__(self, settings: RoundsSettings, *, rounds: int, model: Model, start_round: int = 0) -> None:
        self._settings = settings
        self._rounds = rounds
        self._model = model
        self._round = start_round
        self._step = 0
        self._phase = Phase.READY
        self._ticket: Ticket | None = None
        self._row: Mapping[PeerId, float] = {}
        self._missing: set[PeerId] = set()
        self._heard: set[PeerId] = set()
        self._inbox: dict[PeerId, dict[Tag, Model]] = {}
        self._newest: dict[PeerId, Tag] = {}
        self._newest_round = -1
        self._served: dict[PeerId, Tag] = {}
        self._suspects: set[PeerId] = set()
        self._finished_peers: set[PeerId] = set()
        self._contacts: frozenset[PeerId] | None = None
        self._step_began_s: dict[Tag, float] = {}
        self._deadlines: dict[tuple[PeerId, bool], ArrivalDeadline] = {}

    # --- what the world may look at ---

    @property
    def tag(self) -> Tag:
        """The (round, step) this peer is in."""
        return (self._round, self._step)

    @property
    def phase(self) -> Phase:
        """What this peer is doing."""
        return self._phase

    @property
    def waiting_for(self) -> frozenset[PeerId]:
        """The neighbours whose models the present step still waits for."""
        return frozenset(self._missing)

    def snapshot(self) -> Mapping[str, int | float | str]:
        """Return the rounds done; every other state is rebuilt from the neighbours."""
        return {"round": self._round}

    def needed(self) -> bool:
        """Return whether some neighbour has not said that it is finished."""
        return self._contacts is None or not self._contacts <= self._finished_peers

    # --- upon … ---

    def on_start(self, ctx: Context) -> None:
        """Begin with the first round that is not done."""
        self._begin_round(ctx)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """z_i^(0) is there: gossip, unless the neighbourhood has gone far ahead meanwhile."""
        if self._phase is not Phase.TRAINING or ticket != self._ticket:
            return
        self._model = model
        self._ticket = None
        if not self._catch_up(ctx):
            self._enter_step(ctx, 0)

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Keep a model of this step or a later one; drop and count anything else."""
        if isinstance(message, ModelMessage):
            reason = self._reason_to_refuse(ctx, sender, message)
            if reason is not None:
                ctx.emit(MessageRejected(sender=sender, reason=reason))
            elif self._phase is Phase.FINISHED:
                self._answer(ctx, sender, (message.round, message.step))
            else:
                self._receive(ctx, sender, message)
        elif isinstance(message, FinishedMessage):
            self._finished_peers.add(sender)
        else:
            ctx.emit(MessageRejected(sender=sender, reason="unexpected"))

    def on_timer(self, ctx: Context, key: TimerKey) -> None:
        """End the step without those who did not answer."""
        if key != DEADLINE or self._phase is not Phase.GOSSIPING:
            return
        tag = self.tag
        patience_s = max((self._patience_s(peer, tag) for peer in self._missing), default=0.0)
        left_s = patience_s - (ctx.now() - self._step_began_s[tag])
        if left_s > CLOCK_S:
            ctx.set_timer(DEADLINE, left_s)
            return
        self._suspects |= self._missing
        self._close_step(ctx)

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        """Wait for nobody who is gone; tell somebody who came (back) where we are."""
        if peer not in self._contacts_of(ctx):
            return
        if not up:
            self._no_longer_missing(ctx, peer)
            return
        self._served.pop(peer, None)
        self._suspects.discard(peer)
        if self._phase is Phase.FINISHED:
            ctx.send(peer, FinishedMessage(round=self._rounds))
        elif self._phase is Phase.GOSSIPING and peer in self._row:
            self._send_model(ctx, [peer], self.tag)
            if self._newest.get(peer, NOTHING) < self.tag:
                self._missing.add(peer)

    # --- a round ---

    def _begin_round(self, ctx: Context) -> None:
        self._step = 0
        self._heard = set()
        if self._round >= self._rounds:
            self._finish(ctx)
            return
        self._row = ctx.neighbours(self._round) if self._settings.gossip_steps else {}
        self._phase = Phase.TRAINING
        self._ticket = ctx.train(self._model, round=self._round)

    def _enter_step(self, ctx: Context, step: int) -> None:
        self._step = step
        if step >= self._settings.gossip_steps:
            self._complete_round(ctx)
            return
        if step == 0:
            self._heard = set(self._row)
        self._phase = Phase.GOSSIPING
        tag = self.tag
        up = [peer for peer in self._row if ctx.is_up(peer)]
        self._send_model(ctx, up, tag)
        self._note_step_began(tag, ctx.now())
        for peer in self._row:
            if tag in self._inbox.get(peer, ()):
                self._deadline(peer, tag).observe(0.0)
        # Whoever has sent a later model will not send this one any more.
        self._missing = {
            peer for peer in up if peer not in self._suspects and self._newest.get(peer, NOTHING) < tag
        }
        if self._missing:
            # No deadline is shorter than the floor, and most steps end before it: the rest is worked out then.
            ctx.set_timer(DEADLINE, self._settings.deadline_floor_s)
        else:
            self._close_step(ctx)

    def _no_longer_missing(self, ctx: Context, peer: PeerId) -> None:
        if peer in self._missing:
            self._missing.discard(peer)
            if not self._missing:
                self._close_step(ctx)

    def _close_step(self, ctx: Context) -> None:
        """z_i^(q+1) = Σ_j W_ij z_j^(q) over those that came; the weight of the others goes to z_i^(q)."""
        ctx.cancel_timer(DEADLINE)
        self._missing = set()
        tag = self.tag
        received = [
            Contribution(peer, self._inbox[peer][tag], weight)
            for peer, weight in sorted(self._row.items())
            if tag in self._inbox.get(peer, ())
        ]
        self._heard &= {contribution.sender for contribution in received}
        if received:
            own_weight = 1.0 - sum(contribution.weight for contribution in received)
            last = self._step + 1 == self._settings.gossip_steps
            self._model = ctx.merge(
                self._model, own_weight, received, round=self._round, step=self._step, last=last
            )
        self._forget_up_to(tag)
        self._enter_step(ctx, self._step + 1)

    def _complete_round(self, ctx: Context) -> None:
        self._round += 1
        ctx.emit(
            RoundCompleted(
                round=self._round, model=self._model, heard=len(self._heard), expected=len(self._row)
            )
        )
        self._begin_round(ctx)

    def _finish(self, ctx: Context) -> None:
        self._phase = Phase.FINISHED
        self._missing = set()
        self._inbox.clear()
        message = FinishedMessage(round=self._rounds)
        for peer in sorted(self._contacts_of(ctx)):
            if ctx.is_up(peer):
                ctx.send(peer, message)
        ctx.finish(self._model)

    # --- messages ---

    def _reason_to_refuse(self, ctx: Context, sender: PeerId, message: ModelMessage) -> str | None:
        """Return why a model cannot be used, or None. Tags come from the peer and may be nonsense."""
        if (
            message.round == self._round
            and sender in self._row
            and 0 <= message.step < self._settings.gossip_steps
        ):
            return None  # by far the most frequent case
        final = (message.round, message.step) == (self._rounds, 0)
        if not final and not (
            0 <= message.round < self._rounds and 0 <= message.step < self._settings.gossip_steps
        ):
            return "invalid-tag"
        if sender not in self._contacts_of(ctx):
            return "not-a-neighbour"
        if final or sender in ctx.neighbours(message.round):
            return None
        return "not-a-neighbour"

    def _receive(self, ctx: Context, sender: PeerId, message: ModelMessage) -> None:
        tag, here = (message.round, message.step), self.tag
        if tag < here:
            began_s = self._step_began_s.get(tag)
            if began_s is not None:
                # A model that just missed its deadline is what teaches the deadline to be longer.
                self._deadline(sender, tag).observe(ctx.now() - began_s)
            ctx.emit(MessageRejected(sender=sender, reason="stale"))
            return
        kept = self._inbox.get(sender)
        if kept is None:
            kept = self._inbox[sender] = {}
        elif tag in kept:
            ctx.emit(MessageRejected(sender=sender, reason="duplicate"))
            return
        kept[tag] = message.model
        if tag > self._newest.get(sender, NOTHING):
            self._newest[sender] = tag
            self._newest_round = max(message.round, self._newest_round)
        self._suspects.discard(sender)
        if len(kept) > KEPT_PER_SENDER_MAX:
            # The model of the present step is the one about to be merged; among the others old ones go first.
            del kept[min(other for other in kept if other != here)]
        if self._phase is not Phase.GOSSIPING:
            return
        if tag == here and sender in self._row:
            self._deadline(sender, tag).observe(ctx.now() - self._step_began_s[tag])
        if not self._catch_up(ctx):
            self._no_longer_missing(ctx, sender)

    def _catch_up(self, ctx: Context) -> bool:
        """Adopt the newest model when half of the live neighbours are far ahead; return whether that was done."""
        far = self._round + self._settings.catch_up_rounds
        if self._newest_round < far:
            return False
        ahead = sorted(
            (max(kept), sender) for sender, kept in self._inbox.items() if kept and max(kept)[0] >= far
        )
        live = sum(ctx.is_up(peer) for peer in self._row)
        if not ahead or 2 * len(ahead) < live:
            return False
        ctx.cancel_timer(DEADLINE)
        self._missing = set()
        tag, sender = ahead[-1]
        self._model = ctx.adopt(self._model, Contribution(sender, self._inbox[sender][tag], 1.0))
        ctx.emit(ModelAdopted(sender=sender, round=tag[0]))
        self._round = tag[0]
        for kept in self._inbox.values():
            for old in [other for other in kept if other < tag]:
                del kept[old]
        if self._round >= self._rounds:
            ctx.emit(RoundCompleted(round=self._round, model=self._model, heard=1, expected=len(self._row)))
            self._finish(ctx)
        else:
            self._row = ctx.neighbours(self._round)
            self._heard = set(self._row)
            self._enter_step(ctx, tag[1])
        return True

    def _answer(self, ctx: Context, sender: PeerId, tag: Tag) -> None:
        """Give a slower neighbour the final model, unless it has had ours for this step already."""
        if tag[0] >= self._rounds or self._served.get(sender, NOTHING) >= tag:
            return
        if self._rounds - tag[0] >= self._settings.catch_up_rounds:
            tag = (self._rounds, 0)
        self._send_model(ctx, [sender], tag)

    def _send_model(self, ctx: Context, peers: Sequence[PeerId], tag: Tag) -> None:
        message = ModelMessage(round=tag[0], step=tag[1], model=self._model)
        for peer in peers:
            self._served[peer] = tag
            ctx.send(peer, message)

    # --- bookkeeping ---

    def _contacts_of(self, ctx: Context) -> frozenset[PeerId]:
        # A faster neighbour's models come before our own start, hence not in on_start.
        if self._contacts is None:
            self._contacts = frozenset(ctx.contacts)
        return self._contacts

    def _deadline(self, peer: PeerId, tag: Tag) -> ArrivalDeadline:
        # Waiting for step 0 is waiting for a neighbour's training; later steps wait for the network alone.
        key = (peer, tag[1] == 0)
        deadline = self._deadlines.get(key)
        if deadline is None:
            deadline = self._deadlines[key] = ArrivalDeadline()
        return deadline

    def _patience_s(self, peer: PeerId, tag: Tag) -> float:
        return self._deadline(peer, tag).delay_s(
            k=self._settings.deadline_k,
            floor_s=self._settings.deadline_floor_s,
            cap_s=self._settings.deadline_cap_s,
        )

    def _note_step_began(self, tag: Tag, now_s: float) -> None:
        self._step_began_s[tag] = now_s
        while len(self._step_began_s) > 2 * self._settings.gossip_steps:
            del self._step_began_s[min(self._step_began_s)]

    def _forget_up_to(self, tag: Tag) -> None:
        for kept in self._inbox.values():
            kept.pop(tag, None)
