"""The wait of one gossip step: for whom it goes on, and when it is over."""

from __future__ import annotations

from gossip.protocols.base import Context, Model, Waiting
from gossip.protocols.rounds.neighbourhood import Neighbourhood
from gossip.protocols.rounds.patience import Patience
from gossip.protocols.rounds.sender import NOTHING, Sender, Tag
from gossip.protocols.settings import RoundsSettings

DEADLINE = "deadline"

CLOCK_S = 1e-6
"""A deadline that is nearer than this has come: sums of floats do not meet exactly."""


class Wait:
    """One peer's, step after step. What may end it returns whether it is over; whoever asked then closes the step.

    Args:
        settings: of the deadlines.
        near: whose models are waited for.
    """

    __slots__ = ("_near", "_rings_s", "_settings", "patience", "tag")

    def __init__(self, settings: RoundsSettings, near: Neighbourhood) -> None:
        self._settings = settings
        self._near = near
        self._rings_s = 0.0
        """When the deadline's timer rings, from the beginning of the step."""
        self.patience = Patience(settings)
        self.tag: Tag = NOTHING
        """The step that is, or was, waited in."""

    def begin(self, ctx: Context, tag: Tag, *, now_s: float, come: int) -> bool:
        """Wait in a step for those that `near` has noted as missing; `come` more need not be waited for."""
        self.tag = tag
        self.patience.begin(now_s, counted=self._near.missing + come, come=come, after_update=tag[1] == 0)
        if not self._near.missing:
            return True
        # Hardly any deadline is shorter than the floor, and most steps end before it: the rest is worked out then.
        self._ring_in(ctx, self._settings.deadline_floor_s)
        return self.patience.most_have_come and self.spare(ctx)

    def come(self, ctx: Context, known: Sender, model: Model) -> bool:
        """Take a model that the step waits for."""
        near, patience = self._near, self.patience
        known.missing = False
        known.awaited = model
        known.newest = here = self.tag
        now_s = ctx.now()
        arrivals = known.between_steps if here[1] else known.after_training
        (arrivals or known.arrivals(here)).observe(now_s - patience.began_s)
        near.missing -= 1
        patience.short -= 1
        if patience.short:
            return not near.missing
        patience.most_came(now_s)
        return not near.missing or self.spare(ctx)

    def spare(self, ctx: Context) -> bool:
        """Most have come: wait no more for whom the account cannot pay, and for the others no longer than it can."""
        for known in self._near.in_row:
            if known.missing and not self.patience.can_afford(known.arrivals(self.tag)):
                known.missing = False
                self._near.missing -= 1
        if not self._near.missing:
            return True
        waited_s = ctx.now() - self.patience.began_s
        if self.patience.may_end_before(self._rings_s):
            self._ring_in(ctx, max(0.0, self.deadline_s() - waited_s))
        return False

    def go_on_without(self, ctx: Context, known: Sender) -> bool:
        """Wait no more for one that will not send this step's model."""
        if self._near.waits_no_more(known):
            return True
        return bool(self._near.missing) and self.patience.lost(ctx.now()) and self.spare(ctx)

    def gone(self, ctx: Context, known: Sender) -> bool:
        """One has gone: it is a suspect, if the step waits for it."""
        if not known.missing:
            return False
        known.suspect = True
        return self.go_on_without(ctx, known)

    def rang(self, ctx: Context) -> bool:
        """The timer has rung: wait on, if the deadline is later by now, or suspect those who did not answer."""
        left_s = self.deadline_s() - (ctx.now() - self.patience.began_s)
        if left_s > CLOCK_S:
            self._ring_in(ctx, left_s)
            return False
        for known in self._near.in_row:
            if known.missing:
                known.suspect = True
        return True

    def end(self, ctx: Context) -> None:
        """Wait for nobody any more."""
        ctx.cancel_timer(DEADLINE)
        self.patience.end(ctx.now())
        if self._near.missing:
            self._near.wait_for_nobody()

    def told(self) -> Waiting | None:
        """Return for whom the step goes on; None where it is over."""
        peers = frozenset(known.peer for known in self._near.in_row if known.missing)
        began_s = self.patience.began_s
        return Waiting(peers, began_s, began_s + self.deadline_s()) if peers else None

    def deadline_s(self) -> float:
        """Return how long this step may last, as far as is known now."""
        counted = [known for known in self._near.in_row if not known.suspect]
        return self.patience.deadline_s(
            [known.arrivals(self.tag) for known in counted if known.missing],
            [known.arrivals(self.tag) for known in counted],
        )

    def _ring_in(self, ctx: Context, left_s: float) -> None:
        self._rings_s = ctx.now() - self.patience.began_s + left_s
        ctx.set_timer(DEADLINE, left_s)
