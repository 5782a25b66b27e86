"""Coming, leaving and staying known: adverts, the newest model for whoever comes late, signs of life."""

from __future__ import annotations

import heapq
import math

from gossip.protocols.base import Context, Contribution, Model, ModelAdopted, PeerId
from gossip.protocols.modest.core import COUNTER_MAX, Core
from gossip.protocols.modest.messages import (
    FetchMessage,
    MemberMessage,
    NewestMessage,
    StatusMessage,
)
from gossip.protocols.modest.view import NEVER

REFRESH = "refresh"
FETCH = "fetch"

JOINING_S = 10.0
"""Answers to an advert come within this time."""
GATHER_S = 1.0
"""Whoever comes late hears so long who has the newest model before it asks for it."""
FETCH_AGAIN_S = 10.0
OUTDONE_MAX = COUNTER_MAX // 2
"""Of what others make of our events. No peer has so many; and whoever is outdone there can still leave and come back as
often as it likes before others refuse its counter."""
CLAIMS_MAX = 64
GREETERS = 8
"""How many of a large network, about, tell a newcomer that they have begun."""
REFRESH_MIN_S = 1.0

JOINED, LEFT, HELLO = "joined", "left", "hello"
FIRST_COUNTER = 1
"""Of a peer that was never there before: everybody takes it for joined anyway, so that a few need to be told."""


class Membership:
    """JOINED, LEFT and HELLO. Only a peer itself, over its own connection, says that it has joined or left."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._joining_until_s = math.inf
        self._claims: dict[PeerId, int] = {}
        self._answers: dict[PeerId, tuple[int, Model]] = {}
        self._told: set[PeerId] = set()
        self._said: dict[PeerId, tuple[int, bool]] = {}
        self._began_s = 0.0
        self._began_round = 0
        self._contacted_s = 0.0
        self._contacts_s: dict[PeerId, float] = {}

    # --- what this peer says of itself ---

    def join(self, ctx: Context) -> None:
        """Come online: a new counter, and adverts to as many as a sample has."""
        self._began_s = self._contacted_s = ctx.now()
        self._joining_until_s = ctx.now() + JOINING_S
        self._began_round = self._core.round
        self._advertise(ctx)
        self._core.save(ctx)
        if self._claims:
            ctx.set_timer(FETCH, GATHER_S)
        if self._core.has("H5"):
            ctx.set_timer(REFRESH, self._patience_s(ctx))

    def leave(self, ctx: Context) -> None:
        """Say that nobody should count on us any more."""
        core = self._core
        core.counter += 1
        core.view.merge([(core.me, core.counter, True, core.round)])
        # Nobody else may tell of it, so all that can be reached are told.
        self._tell(ctx, LEFT, len(ctx.peers) if core.cautious else core.settings.sample_size)
        core.save(ctx)

    def contacted(self, ctx: Context, peer: PeerId) -> None:
        """Somebody counts on us: one of f + 1, so that liars that speak to us do not keep us from saying hello."""
        self._contacts_s[peer] = ctx.now()
        if len(self._contacts_s) > self._core.liars:
            latest_s = heapq.nlargest(self._core.liars + 1, self._contacts_s.values())[-1]
            self._contacted_s = max(self._contacted_s, latest_s)

    def sampled(self, ctx: Context) -> None:
        """We train in a round: whoever counts on us for that has found us."""
        self._contacted_s = ctx.now()

    def timer(self, ctx: Context) -> None:
        """Say hello when nobody has contacted us for long: others would take us for dead (H5)."""
        left_s = self._patience_s(ctx) - (ctx.now() - self._contacted_s)
        if left_s <= 0:
            self._tell(ctx, HELLO, self._core.settings.refresh_peers)
            self._contacted_s = ctx.now()
            left_s = self._patience_s(ctx)
        ctx.set_timer(REFRESH, max(left_s, REFRESH_MIN_S))

    def refute(self, ctx: Context) -> None:
        """Come back with a greater counter where the view says that we have left, or used a counter that we forgot."""
        core = self._core
        _, counter, left, _ = core.view[core.me]
        self._outdo(ctx, counter, left)

    def stop(self, ctx: Context) -> None:
        """Nothing more to say."""
        ctx.cancel_timer(REFRESH)
        ctx.cancel_timer(FETCH)

    def connection_lost(self, peer: PeerId) -> None:
        """What was said may not have arrived."""
        self._told.discard(peer)

    # --- what others say ---

    def met(self, ctx: Context, peer: PeerId) -> None:
        """Tell who has just connected and was not active lately how far we are: it may not know that we have begun.

        A few do, whoever they are, so that a newcomer in a large network is not told the same by everybody. And who
        was away when we came back has not heard of it.
        """
        core = self._core
        if core.cautious and core.counter > FIRST_COUNTER and peer not in self._told and not core.finished:
            self._told.add(peer)
            ctx.send(peer, MemberMessage(change=JOINED, round=core.round, counter=core.counter))
        _, counter, left, active = core.view[peer]
        known = active > NEVER and active >= core.round - core.settings.activity_window
        if core.newest < 1 or core.finished or known:
            return
        if self._core.draw(ctx, "modest-greet").random() * len(ctx.peers) < GREETERS:
            ctx.send(peer, StatusMessage(round=core.round, newest=core.newest, counter=counter, left=left))

    def heard(self, ctx: Context, sender: PeerId, message: MemberMessage) -> None:
        """Note a sender's event. A join is seen by samples only after our next models are sent."""
        core = self._core
        if not 0 <= message.counter <= COUNTER_MAX:
            core.rejected(ctx, sender, "invalid-counter")
            return
        core.claimed(sender, message.round)
        _, counter, left, _ = core.view[sender]
        active = core.round if core.cautious else max(message.round, core.round)
        match message.change:
            case "joined":
                core.pending[:] = [entry for entry in core.pending if entry[0] != sender]
                core.pending.append((sender, message.counter, False, active))
            case "left":
                core.view.merge([(sender, message.counter, True, active)])
            case "hello":
                core.view.touch(sender, active)
            case _:
                core.rejected(ctx, sender, "unknown-change")
                return
        outdated = counter > message.counter or (counter == message.counter and left)
        behind = core.round > message.round
        if message.change != LEFT and (outdated or behind):
            ctx.send(sender, StatusMessage(round=core.round, newest=core.newest, counter=counter, left=left))

    def status(self, ctx: Context, sender: PeerId, message: StatusMessage) -> None:
        """Note what we missed; whoever has just come fetches the newest model."""
        core = self._core
        core.heard(sender, message.round)
        self._said[sender] = (message.counter, message.left)
        if len(self._said) > core.liars:
            # One of f + 1 is honest: what the others make of our events never makes us say something for ever.
            counter, left = sorted(self._said.values(), reverse=True)[core.liars]
            self._outdo(ctx, counter, left)
        # Later on a model that is a little old does no harm, and the next sample brings a newer one.
        joining = ctx.now() < self._joining_until_s
        if joining and message.newest > core.newest and len(self._claims) < CLAIMS_MAX:
            if not self._claims and self._joining_until_s < math.inf:
                ctx.set_timer(FETCH, GATHER_S)
            self._claims[sender] = message.newest

    def fetch_timer(self, ctx: Context) -> None:
        """Ask those that say to have the newest model, then the next.

        Where f may lie, no single one gives a newcomer its model: 3·f + 1 are asked, and the medians of the first
        2·f + 1 are taken. Of two peers the other one is all there is.
        """
        core = self._core
        if len(self._answers) > core.liars:
            self._agree(ctx)
            return
        reachable = [
            (newest, peer)
            for peer, newest in self._claims.items()
            if newest > core.newest and ctx.is_up(peer)
        ]
        if len(reachable) + len(self._answers) <= core.liars:
            if ctx.now() < self._joining_until_s < math.inf:
                ctx.set_timer(FETCH, GATHER_S)  # others may answer yet
            else:
                self._claims.clear()
            return
        for _, peer in sorted(reachable, reverse=True)[: 3 * core.liars + 1]:
            del self._claims[peer]
            core.fetch(ctx, peer, round=core.newest)
        ctx.set_timer(FETCH, FETCH_AGAIN_S)

    def fetch(self, ctx: Context, sender: PeerId, message: FetchMessage) -> None:
        """Give our newest average to whoever has an older one."""
        core = self._core
        if core.newest > message.round:
            core.hand(ctx, sender)

    def newest(self, ctx: Context, sender: PeerId, message: NewestMessage) -> None:
        """Note a newer average that was asked for; with enough of them, take over what they agree on."""
        core = self._core
        if message.round <= core.newest:
            return
        self._answers[sender] = (message.round, message.model)
        if len(self._answers) >= 2 * core.liars + 1:
            self._agree(ctx)

    def _agree(self, ctx: Context) -> None:
        core = self._core
        answers, self._answers = self._answers, {}
        rounds = sorted((round for round, _ in answers.values()), reverse=True)
        round = rounds[core.liars]  # f + 1 say to be so far at least
        if round <= core.newest:
            return
        received = [Contribution(peer, answers[peer][1], 1.0) for peer in sorted(answers)]
        model = ctx.agreed(core.model, received) if core.liars else ctx.adopt(core.model, received)
        core.take_model(model, newest=round)
        self._joining_until_s = math.inf
        self._claims.clear()
        ctx.cancel_timer(FETCH)
        for peer in sorted(answers):
            ctx.emit(ModelAdopted(sender=peer, round=answers[peer][0]))
        core.save(ctx)

    # --- ---

    def _outdo(self, ctx: Context, counter: int, left: bool) -> None:
        core = self._core
        if counter < core.counter or (counter == core.counter and not left) or counter > OUTDONE_MAX:
            return
        core.counter = counter + 1
        self._said.clear()
        self._advertise(ctx)
        core.save(ctx)

    def _advertise(self, ctx: Context) -> None:
        core = self._core
        core.view.merge([(core.me, core.counter, False, core.round)])
        again = core.cautious and core.counter > FIRST_COUNTER
        self._told.clear()
        self._tell(ctx, JOINED, len(ctx.peers) if again else core.settings.sample_size)

    def _tell(self, ctx: Context, change: str, count: int) -> None:
        core = self._core
        message = MemberMessage(change=change, round=core.round, counter=core.counter)
        for peer in core.some_peers(ctx, count):
            self._told.add(peer)
            ctx.send(peer, message)

    def _patience_s(self, ctx: Context) -> float:
        """Half the window at the pace of the rounds so far, at most `refresh_s`."""
        rounds = self._core.round - self._began_round
        pace_s = (ctx.now() - self._began_s) / rounds if rounds > 0 else math.inf
        patience_s = min(self._core.settings.refresh_s, self._core.settings.activity_window / 2 * pace_s)
        return max(patience_s, REFRESH_MIN_S)
