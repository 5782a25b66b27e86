"""Models that walk: the random-walk and update-merge variants.

A pushed model goes on where it comes to: the peer updates the latest that has come and pushes that, and what it had
before walks on elsewhere. Where the papers leave something open, or do it otherwise (`variant.py`):

* If nothing has come, the paper's peer sends once more what it sent before. Here it updates its own model again, as if
  that had come: so a peer that hears nobody still learns, is done after so many updates, and pushes no model twice.
* m2, the paper's lastModel, is what came before m1; at the start and after a restart, the own model. Of each sender the
  newest model counts, here as everywhere.
* Ages. A walk is as old as the updates on its way, believed as far as elsewhere (`ages.py`); a merge is as old as the
  older of its two models. A walk far behind (`age_limit`) is left out; and so is the younger of m1 and m2, where they
  are so far apart.
* Whoever is far behind itself takes a walk over and, once 2 w - 1 of them have come, the age that w vouch for
  (`catching_up.py`): a random walk is never merged, not even then.
* One liar's model replaces the own one whenever it came last, and no rule is asked: of one model, or two, none can tell
  which one lies. Where not all can be trusted, this is no variant to use.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossip.protocols.base import Context, Contribution, MessageRejected, Model
from gossip.protocols.push.ages import AGE_MAX, merge_weights
from gossip.protocols.push.catching_up import Beginning
from gossip.protocols.push.inbox import ReceivedModel
from gossip.protocols.push.neighbourhood import Neighbourhood
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.variant import Counts, News, Variant


class _Walks(Variant):
    """What both have in common. Models are whole: there is one part."""

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
        self._news: News = ()

    def after_push(self, ctx: Context) -> News:
        """Tell of what was used: only now there is something new to answer it with."""
        news, self._news = self._news, ()
        return news

    def _latest(self, ctx: Context) -> list[tuple[ReceivedModel, int]]:
        """Take what has come and is not far behind, in the order in which it came, with believed ages."""
        inbox, own_age, limit = self.inboxes[0], self.ages[0], self.limit()
        arrived = inbox.in_order()
        inbox.take(remember_above=own_age + limit)
        usable = []
        for kept, age in zip(arrived, self._believed(own_age, arrived), strict=True):
            if own_age - age > limit:
                ctx.emit(MessageRejected(sender=kept.sender, reason="behind"))
            else:
                usable.append((kept, age))
        if usable:
            self._news = ((0, usable[-1][0].age >= own_age),)
        return usable

    def _taken_over(self, ctx: Context, kept: ReceivedModel) -> Model:
        """Return a received model as an own one; if it is refused, that is the own model."""
        self._heard.add(kept.sender)
        return ctx.adopt(self.model, [Contribution(kept.sender, kept.model, 1.0)])


class RandomWalk(_Walks):
    """update(received); see `Variant`."""

    def prepare(self, ctx: Context) -> News:
        """Let the latest model take the own one's place."""
        usable = self._latest(ctx)
        if usable:
            kept, self.ages[0] = usable[-1]
            self.model = self._taken_over(ctx, kept)
        return ()

    def begin_from(self, ctx: Context, part: int, beginning: Beginning) -> None:
        """Take over the model whose age is believed."""
        kept = next(each for each in beginning.models if each.sender == beginning.sender)
        self.model = self._taken_over(ctx, kept)


class UpdateMerge(_Walks):
    """merge(update(received), update(received before)); see `Variant`. It takes two local updates a period."""

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
        self._last: tuple[Model, int] = (model, self.ages[0])
        """The paper's lastModel, and its age."""
        self._pair: list[tuple[Model, int]] = []
        """m1 and m2, or the one of them that is used; those that are trained already are gone."""
        self._sender = ""
        """Who sent m1."""
        self._first: tuple[Model, int] | None = None
        """update(m1), if m2 is being trained."""

    def prepare(self, ctx: Context) -> News:
        """Choose the two that came last."""
        usable = self._latest(ctx)
        if not usable:
            self._pair = [(self.model, self.ages[0])]
            return ()
        kept, age = usable[-1]
        newest = (self._taken_over(ctx, kept), age)
        before = (self._taken_over(ctx, usable[-2][0]), usable[-2][1]) if len(usable) > 1 else self._last
        self._sender, self._last = kept.sender, newest
        apart = abs(newest[1] - before[1]) > self.limit()
        self._pair = [max(newest, before, key=lambda each: each[1])] if apart else [newest, before]
        return ()

    @property
    def to_train(self) -> Model:
        """m1, and then m2."""
        return self._pair[0][0]

    def trained(self, ctx: Context, model: Model) -> bool:
        """Merge once both are trained."""
        age = min(self._pair.pop(0)[1] + 1, AGE_MAX)
        if self._pair:
            self._first = (model, age)
            return False
        self.model, self.ages[0] = model, age
        self._counts.updates += 1
        if self._first is not None:
            (first, age_of_first), self._first = self._first, None
            weights = merge_weights(
                age, [age_of_first], by_age=self._settings.weighting == "age", limit=self.limit()
            )
            assert weights is not None, "both were trained, and are not far apart"
            received = [Contribution(self._sender, first, weights.received[0])]
            self._merge(ctx, 0, weights.own, received)
            self.ages[0] = weights.age
            self.merges += 1
        return True

    def begin_from(self, ctx: Context, part: int, beginning: Beginning) -> None:
        """Begin as at the start: what is begun from is the last model, too."""
        super().begin_from(ctx, part, beginning)
        self._last = (self.model, beginning.age)
