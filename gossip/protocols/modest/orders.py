"""Upon TRAIN: which orders to begin a round are followed, when, and which never.

An order for round k is followed when

* round k - 1 is believed to have begun (`claims`): nobody is led into a round that no honest peer is next to; and
* its sender may average for k: among the first a living peers of the round's order it may at once, and so may
  whoever this peer has itself found to be the aggregator, and given its model. Whoever else stands
  m places behind them may when round k - 1 has been known of for m + 1 times as long as a round takes at most, or a
  little after f + 1 have said that they have begun k. So a peer that is next but one waits for the next, and
  whoever wants to begin a round out of turn waits longer than those whose turn it is. After a stall (H4) those that
  trained in round k - 1, and so hold the newest average, come right after the a.

Views differ a little, and a peer that has not been in a sample for long knows of an old round. So an order that is not
to be followed yet is held, and the peer asks: those who should have trained in round k - 1 whether they know of it,
others whether they have begun k, and those who stand before the sender whether they are there. All are pings. Few
orders are held, and not for long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gossip.protocols.base import Context, Model, PeerId
from gossip.protocols.modest.core import NONCE_MAX, Core
from gossip.protocols.modest.messages import PingMessage, TrainMessage
from gossip.protocols.modest.sampling import CLOCK_S
from gossip.protocols.modest.suspicion import AVERAGING
from gossip.protocols.modest.votes import Votes

HOLD = "hold"

HELD_MAX = 4
"""Orders that wait, each with its model: honest aggregators of one round are a, and of two rounds twice as many."""

ASKED_FIRST = 2
"""Witnesses asked at first beyond the f + 1 that are needed; where these do not do, the whole sample is asked."""


class _Held(NamedTuple):
    message: TrainMessage
    place: int
    since_s: float


class Orders:
    """What is told to train, and is not begun yet.

    Args:
        core: what the roles share.
        begin: trains; returns whether the order was new.
        train: trains (round, how many do, model).
    """

    def __init__(
        self,
        core: Core,
        *,
        begin: Callable[[Context, PeerId, TrainMessage], bool],
        train: Callable[[Context, int, int, Model], None],
    ) -> None:
        self._core = core
        self._begin = begin
        self._train = train
        self._held: dict[PeerId, _Held] = {}
        self._asked: dict[int, int] = {}
        # When they were asked, and with which nonce.
        self._probed: dict[PeerId, tuple[float, int]] = {}
        self._rings_s = float("inf")
        self._votes = Votes(core)

    def hear(self, ctx: Context, sender: PeerId, message: TrainMessage) -> None:
        """Begin a round, hold the order, or refuse it."""
        core = self._core
        if not core.cautious:
            core.merge_view(sender, message)
            self._follow(ctx, sender, message)
            return
        place = self._place(ctx, sender, message.round)
        if place is None:
            core.rejected(ctx, sender, "not-in-sample")
        elif message.round <= core.train_round:
            core.merge_view(sender, message)
            if message.round < core.train_round:
                core.rejected(ctx, sender, "stale")
            elif core.settings.aggregators > 1 and not place:
                core.suspicions.delivered(sender, AVERAGING)
            elif not place:
                # Others have begun the round: whoever waits for that each time averages nothing.
                core.suspicions.delivered_late(sender, AVERAGING, now_s=ctx.now())
        elif self._due_s(ctx, message.round, place) <= ctx.now() + CLOCK_S:
            self._follow(ctx, sender, message)
        elif sender in self._held and self._held[sender].message.round == message.round:
            core.rejected(ctx, sender, "duplicate")
        else:
            self._hold(ctx, sender, message, place)

    def vote(self, ctx: Context, sender: PeerId, *, round: int, expected: int, model: Model) -> None:
        """Compare an average with the others of its round, where several are made; else begin with it."""
        if not self._votes.matter:
            self._core.prove(round)
            self._train(ctx, round, expected, model)
            return
        self._votes.cast(ctx, sender, round=round, expected=expected, model=model)
        self._count_votes(ctx)

    def look(self, ctx: Context) -> None:
        """Follow what may be followed now. Called whenever more is known."""
        self._count_votes(ctx)
        if not self._held:
            return
        core, now_s = self._core, ctx.now()
        for sender, held in list(self._held.items()):
            outdated = held.message.round <= core.train_round
            if outdated or now_s - held.since_s > 2 * core.settings.stall_s:
                del self._held[sender]
        ripe: list[tuple[int, int, PeerId]] = []
        for sender, held in self._held.items():
            place = self._place(ctx, sender, held.message.round)
            place = held.place if place is None else min(place, held.place)
            if self._due_s(ctx, held.message.round, place) <= now_s + CLOCK_S:
                ripe.append((-held.message.round, place, sender))
        if ripe:
            sender = min(ripe)[2]
            self._follow(ctx, sender, self._held.pop(sender).message)
            self.look(ctx)

    def timer(self, ctx: Context) -> None:
        """Those who were asked and have not answered are not there; ask more, and look again."""
        core, now_s = self._core, ctx.now()
        self._rings_s = float("inf")
        for peer, (asked_s, _) in list(self._probed.items()):
            if now_s + CLOCK_S >= asked_s + core.patience.pong_s():
                del self._probed[peer]
                core.unanswered(peer, now_s - asked_s)
        self.look(ctx)
        for held in list(self._held.values()):
            self.ask(ctx, held.message.round - 1)
            if held.place:
                self.ask(ctx, held.message.round)
        self._set_timer(ctx)

    def answered(self, peer: PeerId, nonce: int) -> bool:
        """Note a pong; return whether it answers what was asked here."""
        asked = self._probed.get(peer)
        if asked is None or asked[1] != nonce:
            return False
        del self._probed[peer]
        return True

    def connection_lost(self, peer: PeerId) -> None:
        """Who cannot be asked owes no answer."""
        self._probed.pop(peer, None)

    def ask(self, ctx: Context, round: int) -> None:
        """Ask those who should have trained in a round whether they know of it; at first a few."""
        core = self._core
        if round <= core.round:
            return
        times = self._asked[round] = self._asked.get(round, 0) + 1
        while len(self._asked) > HELD_MAX:
            del self._asked[min(self._asked)]
        if times > 2:
            return
        sample = [peer for peer in core.addressed(ctx, round) if peer != core.me]
        few = core.liars + 1 + ASKED_FIRST
        for peer in sample[:few] if times == 1 else sample:
            if core.claims.of(peer) < round:
                self._ping(ctx, peer)

    def stop(self, ctx: Context) -> None:
        """Nothing begins any more."""
        self._held.clear()
        self._votes.clear()
        self._probed.clear()
        self._rings_s = float("inf")
        ctx.cancel_timer(HOLD)

    # --- ---

    def _count_votes(self, ctx: Context) -> None:
        decided = self._votes.decided(ctx)
        if decided is not None:
            self._core.prove(decided[0])
            self._train(ctx, *decided)
        due_s = self._votes.due_s()
        if due_s < self._rings_s:
            self._rings_s = due_s
            ctx.set_timer(HOLD, max(0.0, due_s - ctx.now()))

    def _follow(self, ctx: Context, sender: PeerId, message: TrainMessage) -> None:
        core = self._core
        if core.cautious:
            if not self._votes.matter:
                core.prove(message.round)
            core.merge_view(sender, message)
            core.suspicions.delivered(sender, AVERAGING)
            if self._votes.matter:
                expected = min(message.expected, core.settings.sample_size)
                self.vote(ctx, sender, round=message.round, expected=expected, model=message.model)
                return
        if not self._begin(ctx, sender, message) and message.round < core.train_round:
            core.rejected(ctx, sender, "stale")

    def _place(self, ctx: Context, sender: PeerId, round: int) -> int | None:
        """Return by how many places a sender comes too early, 0 where it is its turn; None: it may not at all."""
        core = self._core
        if round == core.given_round and sender in core.given_to:
            return 0
        place = core.place(ctx, sender, round)
        if place is None:
            return None
        behind = max(0, place - core.settings.aggregators + 1)
        if not behind:
            return 0
        stalled = ctx.now() - core.since_s >= core.patience.stall_s() / 2
        if stalled:
            restarter = restart_order(core, ctx, round, also=sender)
            return min(behind, 1 + restarter.index(sender))
        return behind if behind <= core.slack(len(core.view)) else None

    def _due_s(self, ctx: Context, round: int, place: int) -> float:
        """Return when an order may be followed: infinite where its round is not believed.

        That another has begun the round says that its aggregator has done its part, not that this order is that one's:
        the rightful one, which is sent to all at once, is given the time to come first.
        """
        core = self._core
        if round > core.round + 1:
            return float("inf")
        if not place:
            return ctx.now()
        if round <= core.round:
            return core.since_s + core.patience.pong_s()
        return core.since_s + (1 + place) * core.patience.round_s()

    def _hold(self, ctx: Context, sender: PeerId, message: TrainMessage, place: int) -> None:
        core = self._core
        self._held[sender] = _Held(message, place, ctx.now())
        while len(self._held) > HELD_MAX:
            worst = max(self._held, key=lambda peer: (self._held[peer].place, self._held[peer].since_s))
            del self._held[worst]
        self.ask(ctx, message.round - 1)
        if place and sender in self._held:
            self.ask(ctx, message.round)
            living = core.living(ctx, message.round, also=sender)
            for peer in living[: living.index(sender)]:
                if peer != core.me and peer not in self._probed:
                    self._probed[peer] = (ctx.now(), self._ping(ctx, peer))
        self._set_timer(ctx)

    def _set_timer(self, ctx: Context) -> None:
        core, now_s = self._core, ctx.now()
        due = [asked_s + core.patience.pong_s() for asked_s, _ in self._probed.values()]
        for held in self._held.values():
            due_s = self._due_s(ctx, held.message.round, held.place)
            if due_s < float("inf"):
                due.append(due_s)
            elif self._asked.get(held.message.round - 1, 0) < 2:
                due.append(now_s + core.patience.pong_s())
            else:
                due.append(core.since_s + core.patience.stall_s())
        due = [due_s for due_s in due if due_s > now_s + CLOCK_S]
        # Never later than it was: whoever says the same again and again must not put it off.
        if due and min(due) < self._rings_s:
            self._rings_s = min(due)
            ctx.set_timer(HOLD, self._rings_s - now_s)

    def _ping(self, ctx: Context, peer: PeerId) -> int:
        nonce = int(self._core.draw(ctx, "modest-nonce").integers(NONCE_MAX))
        ctx.send(peer, PingMessage(nonce=nonce, round=self._core.round))
        return nonce


def restart_order(core: Core, ctx: Context, round: int, *, also: PeerId | None = None) -> list[PeerId]:
    """Return who may begin a round after a stall, in turn: those that trained in the round before come first."""
    trained = frozenset(core.addressed(ctx, round - 1) if round > 1 else ())
    return core.living(ctx, round, also=also, first=trained)
