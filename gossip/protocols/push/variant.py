"""What becomes of a peer's model and of those that it is sent: the paper's createModel, and its three ways.

In Ormándi, Hegedűs and Jelasity (2013, algorithms 1 and 2) a peer does, upon receiving a model m,

    currentModel ← createModel(m, lastModel);   lastModel ← m

and sends the freshest of what it has once in a period, where for two models m1 and m2, with the peer's own samples,

    random-walk     createModel(m1, m2) = update(m1)
    merge-update    createModel(m1, m2) = update(merge(m1, m2))
    update-merge    createModel(m1, m2) = merge(update(m1), update(m2))

Here an update takes time, so it is done once in a period, at the wake-up (`Variant.prepare`): of several models that
have come since the last one, the paper's peer would send what it made of the latest, and nothing of the others.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gossip.protocols.base import (
    Context,
    Contribution,
    GossipStep,
    MessageRejected,
    Model,
    ModelAdopted,
    Part,
    PeerId,
)
from gossip.protocols.push.ages import AGE_MAX, believed
from gossip.protocols.push.catching_up import Beginning, find_beginning, limit_updates
from gossip.protocols.push.inbox import Inbox, ReceivedModel
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.neighbourhood import Neighbourhood
from gossip.protocols.push.settings import PushSettings

News: TypeAlias = Sequence[tuple[int, bool]]
"""Of which parts something was used, and whether any of it was as old as the own model."""


@dataclass(slots=True)
class Counts:
    """How often a peer has done what."""

    updates: int
    """Own updates, of which `rounds` make a peer done."""
    wake_ups: int


class Variant(abc.ABC):
    """The model of one peer, and what has come of others'.

    Args:
        settings: of the run.
        around: whom the peer knows.
        counts: shared with the protocol, which counts wake-ups; updates are counted here.
        model: the handle to begin with.
        ages: of its parts.
    """

    def __init__(
        self,
        settings: PushSettings,
        around: Neighbourhood,
        counts: Counts,
        *,
        model: Model,
        ages: Sequence[int],
    ) -> None:
        self._settings = settings
        self._around = around
        self._counts = counts
        self.model = model
        self.ages = list(ages)
        self.inboxes = [Inbox() for _ in self.ages]
        self.merges = 0
        self._heard: set[PeerId] = set()

    # --- what the protocol asks for, in this order in each period ---

    def keep(self, ctx: Context, sender: PeerId, message: PushMessage) -> bool:
        """Keep a model until it is used; return whether it is kept."""
        kept = self.inboxes[message.part].put(
            ReceivedModel(message.age, sender, message.round, message.model)
        )
        if not kept:
            ctx.emit(MessageRejected(sender=sender, reason="stale"))
        return kept

    def arrived(self, ctx: Context) -> News:
        """Use what has just come, if it is time and no update runs."""
        return ()

    @abc.abstractmethod
    def prepare(self, ctx: Context) -> News:
        """Decide, at a wake-up, what to train."""

    @property
    def to_train(self) -> Model:
        """The model that is to be trained now."""
        return self.model

    def trained(self, ctx: Context, model: Model) -> bool:
        """Take in what was trained; return whether that was all, or `to_train` is to be trained as well."""
        self._counts.updates += 1
        self.model = model
        self.ages = [min(age + 1, AGE_MAX) for age in self.ages]
        return True

    @abc.abstractmethod
    def after_push(self, ctx: Context) -> News:
        """Do what is due when the model is on its way."""

    def take_heard(self) -> int:
        """Return how many neighbours' models were used since the last call."""
        heard = len(self._heard)
        self._heard.clear()
        return heard

    @property
    def buffered(self) -> int:
        """How many models wait to be used."""
        return sum(map(len, self.inboxes))

    @property
    def remembered(self) -> int:
        """How many models are kept that were used before."""
        return 0

    def clear(self) -> None:
        """Forget everything but the model."""
        for inbox in self.inboxes:
            inbox.clear()

    # --- far behind ---

    def catch_up(self, ctx: Context, part: int) -> None:
        """Begin anew from models far ahead, once enough have come (`catching_up.py`)."""
        inbox = self.inboxes[part]
        own_age = self.ages[part]
        beginning = find_beginning(
            inbox.ahead_of(own_age + self.limit()),
            self._settings,
            own_age=own_age,
            contacts=len(self._around.contacts),
        )
        if beginning is None:
            return
        self.begin_from(ctx, part, beginning)
        self.ages[part] = beginning.age
        for each in beginning.models:
            inbox.drop(each.sender)
        ctx.emit(ModelAdopted(sender=beginning.sender, round=beginning.age))

    def begin_from(self, ctx: Context, part: int, beginning: Beginning) -> None:
        """Make the model from what the run's rule makes of all of them."""
        inbox = self.inboxes[part]
        received = [
            Contribution(
                each.sender, self._whole(ctx, each.model, part), weight, again=each.sender not in inbox
            )
            for each, weight in zip(beginning.models, beginning.weights, strict=True)
        ]
        # Sums depend on the order.
        received.sort(key=lambda each: each.sender)
        self._merge(ctx, part, beginning.own_weight, received)

    def limit(self) -> int:
        """Return L in updates."""
        return limit_updates(self._settings, degree=len(self._around.neighbours))

    # --- what variants are made of ---

    def _merge(self, ctx: Context, part: int, own_weight: float, received: Sequence[Contribution]) -> None:
        """Merge whole models by the run's rule, and keep the part of what comes out."""
        piece = Part(part, len(self.ages))
        merged = ctx.merge(self.model, own_weight, received, at=GossipStep(self._counts.updates, part=piece))
        # A rule may change what was equal, too: of the other parts nothing is taken over.
        self.model = self._whole(ctx, merged, part)

    def _whole(self, ctx: Context, source: Model, part: int) -> Model:
        """Return the own model with a part of another; where models are not divided, that is the other."""
        parts = len(self.ages)
        return source if parts == 1 else ctx.graft(self.model, source, Part(part, parts))

    def _believed(self, own_age: int, kept: Sequence[ReceivedModel]) -> list[int]:
        """Return the models' ages as far as others vouch for them."""
        witnesses = max(1, min(self._settings.witnesses, len(self._around.contacts)))
        return believed(own_age, [each.age for each in kept], witnesses=witnesses)
