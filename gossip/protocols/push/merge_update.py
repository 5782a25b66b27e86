"""Merge-update, the usual variant: the own model is merged with those that have come, and then trained.

The paper's peer merges the two models that it received last. Here, as in the later papers (Hegedűs, Danner and Jelasity
2021), one of them is the own model, and the others are all that have come since the last merge, each with the weight of
its age. Robust rules and a memory belong here: only here is there more than one of a kind to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossip.protocols.base import Context, Contribution, MessageRejected, Model, PeerId
from gossip.protocols.push.ages import merge_weights
from gossip.protocols.push.arrivals import Arrivals
from gossip.protocols.push.inbox import ReceivedModel
from gossip.protocols.push.memory import Memory
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.neighbourhood import Neighbourhood
from gossip.protocols.push.rates import Rates, staleness
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.variant import Counts, News, Variant


class MergeUpdate(Variant):
    """update(merge(own, received …)); see `Variant`."""

    def __init__(
        self,
        settings: PushSettings,
        around: Neighbourhood,
        counts: Counts,
        *,
        model: Model,
        ages: Sequence[int],
    ) -> None:
        super().__init__(settings, around, counts, model=model, ages=ages)
        self._memories = [Memory(settings.memory) for _ in self.ages]
        self._arrivals = Arrivals(settings)
        self._by_wake_ups = settings.merge_when == "wake-up"
        self._rates = Rates(interval_max=settings.interval_max) if settings.weighting == "rate" else None

    @property
    def remembered(self) -> int:
        """How many models the memories hold."""
        return sum(map(len, self._memories))

    def clear(self) -> None:
        """Forget everything but the model."""
        super().clear()
        for memory in self._memories:
            memory.clear()

    def keep(self, ctx: Context, sender: PeerId, message: PushMessage) -> bool:
        """Keep a model until it is merged."""
        # What is merged with all others' arrivals must not come back for each of them: a place is taken once a period.
        if (
            not self._by_wake_ups
            and not self._arrivals.came(sender, self._counts.wake_ups)
            and sender not in self.inboxes[message.part]
        ):
            ctx.emit(MessageRejected(sender=sender, reason="too-often"))
            return False
        if self._rates is not None:
            self._rates.came(sender, ctx.now())
        return super().keep(ctx, sender, message)

    def arrived(self, ctx: Context) -> News:
        """Merge if enough has come."""
        return self._merge_all(ctx) if not self._by_wake_ups and self._full() else ()

    def prepare(self, ctx: Context) -> News:
        """Merge what has come, where that comes first; the own model is trained."""
        first = self._by_wake_ups and self._settings.order == "merge-then-update"
        return self._merge_all(ctx) if first else ()

    def after_push(self, ctx: Context) -> News:
        """Merge what came meanwhile, if it is time."""
        due = self._settings.order == "update-then-merge" if self._by_wake_ups else self._full()
        return self._merge_all(ctx) if due else ()

    def _full(self) -> bool:
        if self._settings.merge_when == "received":
            return self._arrivals.count > 0
        # Messages count, not senders: a dead neighbour's place is filled by the others' next ones.
        return self._arrivals.count >= max(1, self._settings.buffer_rounds * len(self._around.neighbours))

    def _merge_all(self, ctx: Context) -> News:
        self._arrivals.begin_anew()
        return [
            (part, self._merge_part(ctx, part, inbox.take(remember_above=self.ages[part] + self.limit())))
            for part, inbox in enumerate(self.inboxes)
            if inbox
        ]

    def _factors(self, part: int, kept: Sequence[ReceivedModel], ages: Sequence[int]) -> list[float]:
        """Return what the shares of received models are multiplied by; [] where ages are all that counts."""
        settings, own_age, memory = self._settings, self.ages[part], self._memories[part]
        if self._rates is not None:
            share = settings.share(len(self._around.neighbours))
            window_s = settings.period_s * len(self.ages) / share
            return [self._rates.factor(each.sender, window_s=window_s) for each in kept]
        if settings.weighting != "staleness":
            return []
        wake_ups = self._counts.wake_ups
        return [
            staleness(max(own_age - age, memory.periods_of(each.sender, wake_ups=wake_ups)))
            for each, age in zip(kept, ages, strict=True)
        ]

    def _merge_part(self, ctx: Context, part: int, fresh: Sequence[ReceivedModel]) -> bool:
        """Merge what has come of a part, and what is remembered; return whether there was news in it."""
        settings, own_age = self._settings, self.ages[part]
        recalled = self._memories[part].recall(
            fresh,
            wake_ups=self._counts.wake_ups,
            age_min=own_age - self.limit(),
            contacts=self._around.contacts,
        )
        # Sums depend on the order.
        kept = sorted([*fresh, *recalled], key=lambda each: each.sender) if recalled else fresh
        again = {each.sender for each in recalled}
        ages = self._believed(own_age, kept)
        weights = merge_weights(
            own_age,
            ages,
            by_age=settings.weighting == "age",
            self_weight=settings.self_weight,
            limit=self.limit(),
            factors=self._factors(part, kept, ages),
        )
        received = []
        for each, weight in zip(kept, weights.received if weights else [0.0] * len(kept), strict=True):
            if weight:
                model = self._whole(ctx, each.model, part)
                received.append(Contribution(each.sender, model, weight, again=each.sender in again))
            else:
                ctx.emit(MessageRejected(sender=each.sender, reason="behind"))
        if weights is None or not received:
            return False
        self._merge(ctx, part, weights.own, received)
        self.ages[part] = weights.age
        self.merges += 1
        self._heard.update(each.sender for each in received if not each.again)
        return any(each.age >= own_age for each in fresh)
