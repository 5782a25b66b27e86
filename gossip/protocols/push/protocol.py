"""Asynchronous gossip learning (Ormándi, Hegedűs and Jelasity 2013; Hegedűs, Danner and Jelasity 2021).

A peer wakes up once in a period of its own, trains its model, pushes it to some neighbours, and merges what it was
sent, or does with it what another `variant` wants (`variant.py`). There are no rounds in common: nothing here waits for
a message, so a neighbour that is slow, hangs or is dead costs nobody anything.

What the papers leave open, and what is done here:

* Stopping. A peer is done after so many updates of its own. It then keeps its model, and pushes it on as long as a
  neighbour that is up is not done; nobody needs that to finish.
* A peer whose model is far behind begins anew from what neighbours far ahead have, which is also how a late joiner
  starts (`catching_up.py`); whoever sees it come up pushes to it next, unless it came less than L periods ago. Far is L
  periods. A peer so slow that one update takes it L periods always is far behind, and contributes nothing.
* Models in parts (`parts`): a push carries one of S contiguous parts, with its own age, and merging it leaves the
  others as they are. Rules see whole models, the own one with the part received in its place, and are told which
  part that is.
* Ages are what strangers say, and w - 1 neighbours of a peer may lie, w being `witnesses`. An age is believed as far as
  w claim it, and one update beyond (`ages.py`); a liar with the age 10^12 is heard like anybody else. It makes nobody
  begin from its model, nor leave out others'. An age that no run reaches (`AGE_MAX`) is refused.
* One model at a time is too few for any rule to tell which one lies. With a `memory` (`memory.py`) a merge sees the
  last model of every neighbour.
* What w - 1 liars among a peer's neighbours can do: raise ages, by one in each merge of theirs; be heard in each merge
  like every neighbour; be the newcomer that is pushed to first once in L periods; make a peer that is done push on to
  them as long as they say that they are not; and call for pushes in answer to what they call news, as far as saved
  tokens go. A liar's own numbers (`round`, parts, being done) decide only about what it sends and is sent itself.
* Nobody is heard more for pushing more often: of each sender the newest model counts, and towards a merge as many as an
  honest peer pushes (`arrivals.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from gossip.protocols.base import (
    Context,
    FinishedMessage,
    Message,
    MessageRejected,
    Model,
    PeerId,
    Protocol,
    RoundCompleted,
    Ticket,
    TimerKey,
)
from gossip.protocols.push.ages import AGE_MAX
from gossip.protocols.push.merge_update import MergeUpdate
from gossip.protocols.push.messages import MESSAGES, PushMessage
from gossip.protocols.push.neighbourhood import Neighbourhood
from gossip.protocols.push.saved import Fields, Saved
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.tokens import TokenAccount
from gossip.protocols.push.variant import Counts, News, Variant
from gossip.protocols.push.walks import RandomWalk, UpdateMerge

WAKE_UP = "wake-up"


class Push(Protocol):
    """One peer of a gossip learning run.

    Args:
        settings: period, fan-out, when and how to merge, tokens.
        rounds: own updates after which the peer is done.
        model: the handle of the model at the start.
        state: what `snapshot` returned before a restart.
    """

    variants: ClassVar[Mapping[str, type[Variant]]] = {
        "merge-update": MergeUpdate,
        "update-merge": UpdateMerge,
        "random-walk": RandomWalk,
    }
    messages: ClassVar[tuple[type[Message], ...]] = (*MESSAGES, FinishedMessage)

    def __init__(
        self,
        settings: PushSettings,
        *,
        rounds: int,
        model: Model,
        state: Fields | None = None,
    ) -> None:
        self._settings = settings
        self._rounds = rounds
        self._saved = Saved.read(state or {}, parts=settings.parts)
        self._counts = Counts(self._saved.updates, self._saved.wake_ups)
        self._around = Neighbourhood()
        make = self.variants[settings.variant]
        self.variant = make(settings, self._around, self._counts, model=model, ages=self._saved.ages)
        self._accounts = [TokenAccount(settings, saved) for saved in self._saved.tokens]
        self._parts_left: list[int] = []
        self._ticket: Ticket | None = None
        self._started = False
        self._finished = False
        self._rng: np.random.Generator | None = None
        self._missed = 0
        self._pushes = 0

    @staticmethod
    def update_period_s(settings: PushSettings) -> float:
        """Return Δ."""
        return settings.period_s

    @staticmethod
    def parts(settings: PushSettings) -> int:
        """Return S."""
        return settings.parts

    @staticmethod
    def usual_messages(settings: PushSettings, *, neighbours: int, peers: int) -> Mapping[Message, float]:
        """Return one push a period: in the long run, tokens allow no more."""
        pushed = PushMessage(round=0, age=0, part=0, parts=settings.parts, model=None)
        return {pushed: float(min(settings.fanout or neighbours, neighbours))}

    @classmethod
    def resume(cls, settings: PushSettings, *, rounds: int, model: Model, state: Fields) -> Self:
        """Begin, or go on with the updates, the ages and the tokens of the state."""
        return cls(settings, rounds=rounds, model=model, state=state)

    # --- what the world may look at ---

    @property
    def ages(self) -> tuple[int, ...]:
        """Of the parts of the own model."""
        return tuple(self.variant.ages)

    @property
    def model(self) -> Model:
        """The handle of the own model."""
        return self.variant.model

    @property
    def updates(self) -> int:
        """Own updates done."""
        return self._counts.updates

    def snapshot(self) -> Fields:
        """Return own updates, wake-ups, the ages and the tokens of all parts."""
        return self._saved.as_fields()

    def needed(self) -> bool:
        """Return whether some neighbour has not said that it is done; one that is down may come back for a model."""
        return not self._around.all_done

    def status(self) -> Mapping[str, int | str]:
        """Return the model's age, what waits to be merged, and counts of this process."""
        return {
            "role": "finished" if self._finished else "idle" if self._ticket is None else "training",
            "age": max(self.variant.ages),
            "buffered": self.variant.buffered,
            "remembered": self.variant.remembered,
            "merges": self.variant.merges,
            "pushes": self._pushes,
            "tokens": sum(account.balance for account in self._accounts),
            "wake_ups": self._counts.wake_ups,
            "missed_wake_ups": self._missed,
        }

    # --- upon … ---

    def on_start(self, ctx: Context) -> None:
        """Wake up first at some moment of the first period, so that peers started together are not in step."""
        self._started = True
        self._meet(ctx)
        if self._counts.updates >= self._rounds:
            self._finish(ctx)
        settings = self._settings
        ctx.set_timer(WAKE_UP, settings.period_s * settings.start_spread * self._draw(ctx))

    def on_timer(self, ctx: Context, key: TimerKey) -> None:
        """Wake up: train, unless the last update still runs."""
        if key != WAKE_UP:
            return
        self._meet(ctx)
        self._counts.wake_ups += 1
        self._rng = None
        if self._finished:
            self._push_on(ctx)
            return
        self._set_alarm(ctx)
        if self._ticket is not None:
            self._missed += 1
            return
        self._react(ctx, self.variant.prepare(ctx))
        self._train(ctx)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """Push what was trained, and merge what came meanwhile if it is time."""
        if ticket != self._ticket:
            return
        self._meet(ctx)
        self._ticket = None
        if not self.variant.trained(ctx, model):
            self._train(ctx)
            return
        for part in range(len(self._accounts)):
            self.variant.catch_up(ctx, part)
        part = self._next_part(ctx)
        if self._accounts[part].tick(lambda: self._draw(ctx)):
            self._push(ctx, part)
        self._react(ctx, self.variant.after_push(ctx))
        self._complete(ctx)

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Keep a model until it is merged; a model that is being trained is not merged into."""
        self._meet(ctx)
        if isinstance(message, PushMessage):
            reason = self._reason_to_refuse(sender, message)
            if reason is not None:
                ctx.emit(MessageRejected(sender=sender, reason=reason))
            elif not self._finished and self.variant.keep(ctx, sender, message) and self._idle:
                self.variant.catch_up(ctx, message.part)
                self._react(ctx, self.variant.arrived(ctx))
        elif isinstance(message, FinishedMessage) and sender in self._around.contacts:
            self._around.finished(sender)
        else:
            ctx.emit(MessageRejected(sender=sender, reason="unexpected"))

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        """Whoever comes (back) may be far behind: the next push goes there."""
        for inbox in self.variant.inboxes:
            inbox.begin_anew(peer)
        self._meet(ctx)
        if peer not in self._around.contacts:
            return
        if not up:
            self._around.went(peer)
            return
        self._around.came(peer, wake_ups=self._counts.wake_ups, again_after=max(1, self._settings.age_limit))
        if self._finished:
            ctx.send(peer, FinishedMessage(round=self._rounds))
            self._set_alarm(ctx)

    # --- training and pushing ---

    @property
    def _idle(self) -> bool:
        return self._started and self._ticket is None

    def _train(self, ctx: Context) -> None:
        self._ticket = ctx.train(self.variant.to_train, round=self._counts.updates)

    def _react(self, ctx: Context, news: News) -> None:
        """Push in answer to what was used, as far as tokens go."""
        for part, useful in news:
            for _ in range(self._accounts[part].react(useful=useful, draw=lambda: self._draw(ctx))):
                self._push(ctx, part)

    def _push(self, ctx: Context, part: int) -> None:
        targets = self._around.targets(ctx, self._settings.fanout, self._generator(ctx))
        if not targets:
            return
        self._pushes += 1
        message = PushMessage(
            round=self._counts.updates,
            age=self.variant.ages[part],
            part=part,
            parts=len(self._accounts),
            model=self.variant.model,
        )
        for peer in targets:
            ctx.send(peer, message)

    def _push_on(self, ctx: Context) -> None:
        """Done ourselves: help those who are not, and sleep for good when there are none."""
        if self._around.waits(ctx):
            self._push(ctx, self._next_part(ctx))
            self._set_alarm(ctx)

    def _next_part(self, ctx: Context) -> int:
        """Return every part once, in an order drawn anew each time."""
        parts = len(self._accounts)
        if parts == 1:
            return 0
        if not self._parts_left:
            self._parts_left = self._generator(ctx).permutation(parts).tolist()
        return self._parts_left.pop()

    # --- the end of an update, and of all ---

    def _complete(self, ctx: Context) -> None:
        counts, model = self._counts, self.variant.model
        self._saved = Saved(
            counts.updates,
            counts.wake_ups,
            self.ages,
            tuple(account.balance for account in self._accounts),
        )
        ctx.emit(
            RoundCompleted(
                round=counts.updates,
                model=model,
                heard=self.variant.take_heard(),
                expected=len(self._around.neighbours),
            )
        )
        if counts.updates >= self._rounds:
            self._finish(ctx)

    def _finish(self, ctx: Context) -> None:
        self._finished = True
        self.variant.clear()
        message = FinishedMessage(round=self._rounds)
        for peer in sorted(self._around.contacts):
            if ctx.is_up(peer):
                ctx.send(peer, message)
        ctx.finish(self.variant.model)

    # --- bookkeeping ---

    def _meet(self, ctx: Context) -> None:
        self._around.meet(ctx, self._counts.updates)

    def _reason_to_refuse(self, sender: PeerId, message: PushMessage) -> str | None:
        if sender not in self._around.contacts:
            return "not-a-neighbour"
        if message.parts != len(self._accounts) or not 0 <= message.part < message.parts:
            return "no-such-part"
        if message.age > AGE_MAX:
            return "impossible-age"
        return None if message.age > 0 else "untrained"

    def _set_alarm(self, ctx: Context) -> None:
        settings = self._settings
        ctx.set_timer(WAKE_UP, settings.period_s * (1 + settings.jitter * (2 * self._draw(ctx) - 1)))

    def _generator(self, ctx: Context) -> np.random.Generator:
        """Return this wake-up's own generator."""
        if self._rng is None:
            self._rng = ctx.rng("push", self._counts.wake_ups)
        return self._rng

    def _draw(self, ctx: Context) -> float:
        return float(self._generator(ctx).random())
