"""Asynchronous gossip learning (Ormándi, Hegedűs and Jelasity 2013; Hegedűs, Danner and Jelasity 2021).

A peer wakes up once in a period of its own, trains its model, pushes it to some neighbours, and merges what it was
sent. There are no rounds in common: nothing here waits for a message, so a neighbour that is slow, hangs or is dead
costs nobody anything.

What the papers leave open, and what is done here:

* Stopping. A peer is done after so many updates of its own. It then keeps its model, and pushes it on as long as a
  neighbour that is up is not done; nobody needs that to finish.
* A peer whose model is far behind takes over a neighbour's, which is also how a late joiner starts; whoever sees it
  come up pushes to it next. Far is L periods (`_limit` says how many updates that is). A peer so slow that one update
  takes it L periods always is far behind, and contributes nothing.
* Ages are what strangers say. A model is taken over only where a second neighbour (`witnesses`) is as far ahead, and it
  is the second one's that is taken, so a single liar with the age 10^18 cannot make others take its model. Without
  witnesses a model counts as no further ahead than L: it weighs more than it should, once per push, and raises the age
  by L at most. Asking for witnesses only, and never refusing, a peer with one neighbour ahead still catches up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from gossip.protocols.base import (
    Context,
    Contribution,
    FinishedMessage,
    Message,
    MessageRejected,
    Model,
    ModelAdopted,
    PeerId,
    Protocol,
    RoundCompleted,
    Ticket,
    TimerKey,
)
from gossip.protocols.push.ages import merge_weights
from gossip.protocols.push.inbox import Inbox
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.tokens import TokenAccount

WAKE_UP = "wake-up"


class _Saved(NamedTuple):
    """What a restart needs beside the model."""

    updates: int
    wake_ups: int
    age: int
    tokens: int


class Push(Protocol):
    """One peer of a gossip learning run.

    Args:
        settings: period, fan-out, when and how to merge, tokens.
        rounds: own updates after which the peer is done.
        model: the handle of the model at the start.
        state: what `snapshot` returned before a restart.
    """

    def __init__(
        self,
        settings: PushSettings,
        *,
        rounds: int,
        model: Model,
        state: Mapping[str, int | float | str] | None = None,
    ) -> None:
        state = state or {}
        self._settings = settings
        self._rounds = rounds
        self._model = model
        self._updates = int(state.get("round", 0))
        self._wake_ups = int(state.get("wake-ups", 0))
        self._age = int(state.get("age", 0))
        self._account = TokenAccount(settings, int(state.get("tokens", 0)))
        self._inbox = Inbox()
        self._ticket: Ticket | None = None
        self._started = False
        self._finished = False
        self._rng: np.random.Generator | None = None
        self._row: Mapping[PeerId, float] | None = None
        self._neighbours: list[PeerId] = []
        self._contacts: frozenset[PeerId] = frozenset()
        self._contacts_given: Sequence[PeerId] | None = None
        self._done: set[PeerId] = set()
        self._newcomers: list[PeerId] = []
        self._heard: set[PeerId] = set()
        self._missed = 0
        self._merges = 0
        self._pushes = 0
        self._saved = self._state()

    @staticmethod
    def update_period_s(settings: PushSettings) -> float:
        """Return Δ."""
        return settings.period_s

    @classmethod
    def resume(
        cls, settings: PushSettings, *, rounds: int, model: Model, state: Mapping[str, int | float | str]
    ) -> Self:
        """Begin, or go on with the updates, the age and the tokens of the state."""
        return cls(settings, rounds=rounds, model=model, state=state)

    # --- what the world may look at ---

    @property
    def age(self) -> int:
        """Of the own model."""
        return self._age

    @property
    def updates(self) -> int:
        """Own updates done."""
        return self._updates

    def snapshot(self) -> Mapping[str, int | float | str]:
        """Return own updates, wake-ups, the model's age and the tokens."""
        saved = self._saved
        return {
            "round": saved.updates,
            "wake-ups": saved.wake_ups,
            "age": saved.age,
            "tokens": saved.tokens,
        }

    def needed(self) -> bool:
        """Return whether some neighbour has not said that it is done."""
        return not self._contacts <= self._done

    def status(self) -> Mapping[str, int | str]:
        """Return the model's age, what waits to be merged, and counts of this process."""
        return {
            "role": "finished" if self._finished else "idle" if self._ticket is None else "training",
            "age": self._age,
            "buffered": len(self._inbox),
            "merges": self._merges,
            "pushes": self._pushes,
            "tokens": self._account.balance,
            "missed_wake_ups": self._missed,
        }

    # --- upon … ---

    def on_start(self, ctx: Context) -> None:
        """Wake up first at some moment of the first period, so that peers started together do not stay together."""
        self._started = True
        self._meet(ctx)
        if self._updates >= self._rounds:
            self._finish(ctx)
        ctx.set_timer(WAKE_UP, self._settings.period_s * self._draw(ctx))

    def on_timer(self, ctx: Context, key: TimerKey) -> None:
        """Wake up: train, unless the last update still runs."""
        if key != WAKE_UP:
            return
        self._meet(ctx)
        self._wake_ups += 1
        self._rng = None
        if self._finished:
            self._push_on(ctx)
            return
        self._set_alarm(ctx)
        if self._ticket is not None:
            self._missed += 1
            return
        settings = self._settings
        if settings.merge_when == "wake-up" and settings.order == "merge-then-update":
            self._merge(ctx)
        self._ticket = ctx.train(self._model, round=self._updates)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """Push what was trained, and merge what came meanwhile if it is time."""
        if ticket != self._ticket:
            return
        self._meet(ctx)
        self._ticket = None
        self._model = model
        self._updates += 1
        self._age += 1
        self._catch_up(ctx)
        if self._account.tick(lambda: self._draw(ctx)):
            self._push(ctx)
        settings = self._settings
        if settings.merge_when == "wake-up":
            if settings.order == "update-then-merge":
                self._merge(ctx)
        elif self._full():
            self._merge(ctx)
        self._complete(ctx)

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        """Keep a model until it is merged; a model that is being trained is not merged into."""
        self._meet(ctx)
        if isinstance(message, PushMessage):
            reason = self._reason_to_refuse(sender, message)
            if reason is not None:
                ctx.emit(MessageRejected(sender=sender, reason=reason))
            elif not self._finished:
                self._inbox.put(sender, message.age, message.model)
                if self._started and self._ticket is None:
                    self._catch_up(ctx)
                    if self._settings.merge_when != "wake-up" and self._full():
                        self._merge(ctx)
        elif isinstance(message, FinishedMessage) and sender in self._contacts:
            self._done.add(sender)
        else:
            ctx.emit(MessageRejected(sender=sender, reason="unexpected"))

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        """Whoever comes (back) may be far behind: the next push goes there."""
        self._meet(ctx)
        if peer not in self._contacts:
            return
        if not up:
            if peer in self._newcomers:
                self._newcomers.remove(peer)
            return
        # It says again that it is done, if it still is: a process begins with its last checkpoint.
        self._done.discard(peer)
        if peer not in self._newcomers:
            self._newcomers.append(peer)
        if self._finished:
            ctx.send(peer, FinishedMessage(round=self._rounds))
            self._set_alarm(ctx)

    # --- pushing ---

    def _push(self, ctx: Context) -> None:
        targets = self._targets(ctx)
        if not targets:
            return
        self._pushes += 1
        message = PushMessage(age=self._age, model=self._model)
        for peer in targets:
            ctx.send(peer, message)

    def _targets(self, ctx: Context) -> list[PeerId]:
        row = ctx.neighbours(self._updates)
        if row is not self._row:
            self._row = row
            self._neighbours = sorted(row)
        there = [peer for peer in self._neighbours if peer not in self._done and ctx.is_up(peer)]
        fanout = self._settings.fanout
        if not fanout or fanout >= len(there):
            self._newcomers.clear()
            return there
        first = [peer for peer in self._newcomers if peer in there][:fanout]
        if first:
            self._newcomers = [peer for peer in self._newcomers if peer not in first]
            there = [peer for peer in there if peer not in first]
        missing = fanout - len(first)
        if missing == 1:
            # Far cheaper than a choice without replacement.
            return [*first, there[int(self._draw(ctx) * len(there))]]
        drawn = self._generator(ctx).choice(len(there), size=missing, replace=False)
        return [*first, *(there[place] for place in sorted(drawn.tolist()))]

    def _push_on(self, ctx: Context) -> None:
        """Done ourselves: help those who are not, and sleep for good when there are none."""
        if any(ctx.is_up(peer) for peer in self._contacts - self._done):
            self._push(ctx)
            self._set_alarm(ctx)

    # --- merging ---

    def _full(self) -> bool:
        if self._settings.merge_when == "received":
            return self._inbox.arrivals > 0
        # Messages count, not senders: a dead neighbour's place is filled by the others' next ones.
        return self._inbox.arrivals >= max(1, self._settings.buffer_rounds * len(self._neighbours))

    def _merge(self, ctx: Context) -> None:
        kept = self._inbox.take()
        if not kept:
            return
        settings, own_age = self._settings, self._age
        weights = merge_weights(
            own_age,
            [each.age for each in kept],
            by_age=settings.weighting == "age",
            self_weight=settings.self_weight,
            limit=self._limit(),
        )
        received = []
        for each, weight in zip(kept, weights.received if weights else [0.0] * len(kept), strict=True):
            if weight:
                received.append(Contribution(each.sender, each.model, weight))
            else:
                ctx.emit(MessageRejected(sender=each.sender, reason="behind"))
        if weights is None or not received:
            return
        self._model = ctx.merge(self._model, weights.own, received, round=self._updates)
        self._age = weights.age
        self._merges += 1
        self._heard.update(each.sender for each in received)
        useful = any(each.age >= own_age for each in kept)
        for _ in range(self._account.react(useful=useful, draw=lambda: self._draw(ctx))):
            self._push(ctx)

    def _catch_up(self, ctx: Context) -> None:
        """Take over a model when enough neighbours are far ahead; of those, the last that so many vouch for."""
        ahead = self._inbox.ahead_of(self._age + self._limit())
        if not ahead:
            return
        live = sum(ctx.is_up(peer) for peer in self._neighbours)
        witnesses = max(1, min(self._settings.witnesses, live))
        if len(ahead) < witnesses:
            return
        age, sender, model = ahead[-witnesses]
        self._inbox.drop(sender)
        self._model = ctx.adopt(self._model, Contribution(sender, model, 1.0))
        self._age = age
        ctx.emit(ModelAdopted(sender=sender, round=age))

    def _limit(self) -> int:
        """L in updates: so many does a model's age rise by in L periods at most, as a rule.

        What is merged after an update goes out after the next one: ages rise by one a period. Where it goes out at
        once, whoever hears it may push it on in the same period, one older.
        """
        settings, degree = self._settings, len(self._neighbours)
        if settings.merge_when == "wake-up" and settings.order == "update-then-merge":
            return settings.age_limit
        return settings.age_limit * (1 + min(settings.fanout or degree, degree))

    # --- the end of an update, and of all ---

    def _complete(self, ctx: Context) -> None:
        heard = len(self._heard)
        self._heard.clear()
        self._saved = self._state()
        ctx.emit(
            RoundCompleted(
                round=self._updates, model=self._model, heard=heard, expected=len(self._neighbours)
            )
        )
        if self._updates >= self._rounds:
            self._finish(ctx)

    def _finish(self, ctx: Context) -> None:
        self._finished = True
        self._inbox.take()
        message = FinishedMessage(round=self._rounds)
        for peer in sorted(self._contacts):
            if ctx.is_up(peer):
                ctx.send(peer, message)
        ctx.finish(self._model)

    # --- bookkeeping ---

    def _meet(self, ctx: Context) -> None:
        # The peers file may be read again while we run; the world then gives another sequence.
        if ctx.contacts is not self._contacts_given:
            self._contacts_given = ctx.contacts
            self._contacts = frozenset(ctx.contacts)
            self._neighbours = sorted(ctx.neighbours(self._updates))

    def _reason_to_refuse(self, sender: PeerId, message: PushMessage) -> str | None:
        if sender not in self._contacts:
            return "not-a-neighbour"
        return None if message.age > 0 else "untrained"

    def _set_alarm(self, ctx: Context) -> None:
        settings = self._settings
        ctx.set_timer(WAKE_UP, settings.period_s * (1 + settings.jitter * (2 * self._draw(ctx) - 1)))

    def _generator(self, ctx: Context) -> np.random.Generator:
        """Return this wake-up's own generator."""
        if self._rng is None:
            self._rng = ctx.rng("push", self._wake_ups)
        return self._rng

    def _draw(self, ctx: Context) -> float:
        return float(self._generator(ctx).random())

    def _state(self) -> _Saved:
        return _Saved(self._updates, self._wake_ups, self._age, self._account.balance)
