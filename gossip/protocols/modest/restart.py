"""H4: when no round begins for long, one of those who have the newest average begins one."""

from __future__ import annotations

from collections.abc import Callable

from gossip.protocols.base import Context, Model
from gossip.protocols.modest.core import Core
from gossip.protocols.modest.messages import TrainMessage
from gossip.protocols.modest.orders import restart_order
from gossip.protocols.modest.sampling import CLOCK_S

STALL = "stall"

JITTER = 0.25
"""The times of peers with equal places differ by up to so much, so that one begins before the others."""


class Restart:
    """Watches the rounds go by. Peers take turns in an order that all can compute (`restart_order`).

    Args:
        core: what the roles share.
        deliver: trains a round's average at this peer itself.
        final: ends the run.
        blame: whoever last said to have made an average, which never came, is to be passed over.
    """

    def __init__(
        self,
        core: Core,
        *,
        deliver: Callable[[Context, int, int, Model], None],
        final: Callable[[Context, Model], None],
        blame: Callable[[Context], None],
    ) -> None:
        self._core = core
        self._deliver = deliver
        self._final = final
        self._blame = blame
        self._round = 0
        self._stalls = 0
        self._watching = False
        self._again_s = 0.0
        self._jitter = 1.0

    def begin(self, ctx: Context) -> None:
        """Begin to watch."""
        core = self._core
        self._round, core.since_s = core.round, ctx.now()
        if core.has("H4"):
            self._watching = True
            self._draw_jitter(ctx)
            ctx.set_timer(STALL, self._patience_s())

    def note_progress(self, ctx: Context) -> bool:
        """Note what is known of the round after an event; return whether it is a newer one."""
        core = self._core
        round = core.round
        if round == self._round:
            return False
        core.patience.advanced(max(1, round - self._round), ctx.now() - core.since_s)
        self._round, core.since_s = round, ctx.now()
        self._stalls = 0
        if self._watching and not core.finished:
            ctx.set_timer(STALL, self._patience_s())
        return True

    def timer(self, ctx: Context) -> None:
        """Begin a round if it is our turn; else wait for it."""
        core = self._core
        if core.finished:
            return
        due_s = core.since_s + self._wait_s(ctx)
        if self._stalls:
            due_s = max(due_s, self._again_s)
        if ctx.now() + CLOCK_S < due_s:
            ctx.set_timer(STALL, due_s - ctx.now())
            return
        if not self._stalls:
            self._blame(ctx)
        self._stalls += 1
        self._draw_jitter(ctx)
        self._again_s = ctx.now() + self._patience_s()
        ctx.set_timer(STALL, self._again_s - ctx.now())
        round = core.round
        core.sample(
            ctx,
            "restart",
            min(round + 1, core.rounds),
            core.settings.sample_size,
            lambda ctx, sample: self._start(ctx, round, sample),
        )

    def stop(self, ctx: Context) -> None:
        """Nothing begins any more."""
        self._watching = False
        ctx.cancel_timer(STALL)

    def _draw_jitter(self, ctx: Context) -> None:
        self._jitter = 1 + JITTER * float(self._core.draw(ctx, "modest-stall").random())

    def _patience_s(self) -> float:
        return self._core.patience.stall_s() * self._jitter

    def _wait_s(self, ctx: Context) -> float:
        """Return how long after the last news this peer begins a round, if nobody else has."""
        core = self._core
        wait_s = self._patience_s()
        if ctx.now() - core.since_s < wait_s * (1 - CLOCK_S):
            return wait_s
        if core.cautious:
            place = restart_order(core, ctx, core.round + 1).index(core.me)
            wait_s += place * core.patience.turn_s()
        # Those with the newest average come first; when none of them is left, any average is better than none.
        if core.newest + 1 < core.round - 1:
            wait_s += core.patience.stall_s()
        return wait_s

    def _start(self, ctx: Context, round: int, sample: list[str]) -> None:
        core = self._core
        if core.round != round or core.finished:
            return  # somebody's answer told of a newer round
        if round + 1 > core.rounds:
            # The last round is lost with all who knew it; what the one before left is the result.
            self._final(ctx, core.model)
            return
        core.prove(round + 1)
        for peer in sample:
            if peer != core.me:
                core.send_model(
                    ctx, TrainMessage, peer, round=round + 1, expected=len(sample), model=core.model
                )
        if core.me in sample:
            self._deliver(ctx, round + 1, len(sample), core.model)
        else:
            core.view.touch(core.me, round + 1)
        core.show_pending()
