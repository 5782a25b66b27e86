"""The searches for samples that are under way: one for each purpose, and what their pings teach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from gossip.protocols.base import Context, PeerId
from gossip.protocols.modest.patience import Patience
from gossip.protocols.modest.sampling import Sampling
from gossip.protocols.modest.settings import ModestSettings

Then: TypeAlias = Callable[[Context, list[PeerId]], None]

SAMPLE_TIMER = "sample:"


class Searches:
    """One peer's.

    Args:
        settings: `[protocol]`.
        patience: learns from answers; says how long to wait for one, unless the protocol is bare.
        learns: whether it does.
        suspect: called with who did not answer, and how long that was waited for.
    """

    def __init__(
        self,
        settings: ModestSettings,
        patience: Patience,
        *,
        learns: bool,
        suspect: Callable[[PeerId, float], None],
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._learns = learns
        self._suspect = suspect
        self._under_way: dict[str, tuple[Sampling, Then]] = {}
        # What was given up, so that an answer that is late still teaches how long answers take.
        self._given_up: dict[PeerId, tuple[int, float]] = {}

    def begin(
        self,
        ctx: Context,
        purpose: str,
        ordered: Sequence[PeerId],
        *,
        wanted: int,
        width: int,
        nonce: int,
        round: int,
        then: Then,
    ) -> None:
        """Find the first `wanted` living peers of `ordered`, and call `then`; an older search for this ends."""
        settings = self._settings
        sampling = Sampling(
            ordered,
            me=ctx.peer,
            wanted=wanted,
            width=width,
            in_order=self._learns,
            nonce=nonce,
            timeout_s=settings.ping_timeout_s,
            again_s=settings.ping_again_s,
            failed=self._failed,
        )
        self._under_way[purpose] = (sampling, then)
        sampling.ask(ctx, round)
        self._go_on(ctx, purpose, round)

    def pong(self, ctx: Context, peer: PeerId, nonce: int, round: int) -> bool:
        """Pass an answer to the search that asked; return whether one did."""
        late = self._given_up.get(peer)
        known = late is not None and late[0] == nonce
        if late is not None and known:
            del self._given_up[peer]
            self._patience.answered(ctx.now() - late[1])
        for purpose, (sampling, _) in list(self._under_way.items()):
            began_s = sampling.asked_s(peer)
            if sampling.answered(ctx, peer, nonce, round):
                self._patience.answered(ctx.now() - began_s)
                self._go_on(ctx, purpose, round)
                return True
        return known

    def timer(self, ctx: Context, purpose: str, round: int) -> None:
        """Repeat pings, and give up peers."""
        if purpose in self._under_way:
            self._go_on(ctx, purpose, round)

    def lost(self, ctx: Context, peer: PeerId, round: int) -> None:
        """A connection is gone."""
        self._given_up.pop(peer, None)
        for purpose, (sampling, _) in list(self._under_way.items()):
            # A search that ends here may begin another, or end the run and all searches with it.
            if self._under_way.get(purpose, (None,))[0] is sampling:
                sampling.lost(ctx, peer, round)
                self._go_on(ctx, purpose, round)

    def stop(self, ctx: Context) -> None:
        """End all searches."""
        for purpose in self._under_way:
            ctx.cancel_timer(SAMPLE_TIMER + purpose)
        self._under_way.clear()

    def _failed(self, peer: PeerId, nonce: int, waited_s: float, now_s: float) -> None:
        if waited_s > 0:
            self._given_up[peer] = (nonce, now_s - waited_s)
        self._suspect(peer, waited_s)

    def _go_on(self, ctx: Context, purpose: str, round: int) -> None:
        sampling, then = self._under_way[purpose]
        if self._learns:
            sampling.hurry(self._patience.pong_s(), at_most_s=self._settings.ping_timeout_s)
        due_s = None if sampling.done else sampling.look(ctx, round)
        if sampling.done:
            del self._under_way[purpose]
            ctx.cancel_timer(SAMPLE_TIMER + purpose)
            then(ctx, sampling.sample)
        elif due_s is not None:
            ctx.set_timer(SAMPLE_TIMER + purpose, due_s)
