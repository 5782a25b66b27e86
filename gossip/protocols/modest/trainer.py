"""A participant: train the average that starts a round, and give the result to the next round's aggregators."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gossip.protocols.base import Context, Contribution, Model, PeerId, Ticket
from gossip.protocols.modest.aggregator import Aggregator
from gossip.protocols.modest.core import Core
from gossip.protocols.modest.messages import AggregateMessage
from gossip.protocols.modest.suspicion import AVERAGING

SEND_AGAIN = "send-again"
ATTEMPTS_MAX = 20
"""A model that could not be brought to anybody so often is given up; by then others have gone on or nobody is left."""


class Job(NamedTuple):
    """A model of one round: to be trained, or trained and kept."""

    round: int
    model: Model
    expected: int


class Trainer:
    """Upon TRAIN. The first average of a round wins; a newer round makes older work worthless."""

    def __init__(self, core: Core, aggregator: Aggregator) -> None:
        self._core = core
        self._aggregator = aggregator
        self._ticket: Ticket | None = None
        self._job: Job | None = None
        self._next: Job | None = None
        self._kept: Job | None = None
        self._sent_to: set[PeerId] = set()
        self._sent_s = 0.0
        self._attempts = 0
        self._began_s = 0.0
        self._confirmed: tuple[PeerId, int] | None = None
        self._asked = False
        self.ask: Callable[[Context, int], None]
        self.participations = 0
        """Rounds whose trained model was sent, so far in this life."""
        self.first_round = 0
        self.last_round = 0

    @property
    def busy(self) -> bool:
        """Whether a local update is running."""
        return self._ticket is not None

    def begin(self, ctx: Context, sender: PeerId, *, round: int, expected: int, model: Model) -> bool:
        """Train unless the round is known already; return whether it was new."""
        core = self._core
        if round <= core.train_round:
            return False
        core.train_round = round
        if sender != core.me:
            model = ctx.adopt(core.model, [Contribution(sender, model, 1.0)])
        if round - 1 > core.newest:
            core.take_model(model, newest=round - 1)
        self._outrun(ctx, sender, round)
        self._forget(ctx)
        job = Job(round, model, expected)
        # A local update cannot be interrupted everywhere; its result is dropped, and the newer one follows it.
        if self._ticket is not None:
            self._next = job
        else:
            self._start(ctx, job)
        core.save(ctx)
        return True

    def trained(self, ctx: Context, ticket: Ticket, model: Model) -> None:
        """Look for the aggregators, unless there is newer work."""
        if ticket != self._ticket or self._job is None:
            return
        job, self._job, self._ticket = self._job, None, None
        self._core.patience.updated(ctx.now() - self._began_s)
        if self._next is not None:
            newer, self._next = self._next, None
            if not self._core.finished:
                self._start(ctx, newer)
            return
        if self._core.finished:
            return
        self._kept = job._replace(model=model)
        self._core.given_round, self._core.given_to = job.round + 1, set()
        self._sent_to.clear()
        self._attempts = 0
        self._core.find_aggregators(ctx, "aggregators", job.round + 1, self._send)

    def acknowledged(self, ctx: Context, sender: PeerId, round: int) -> None:
        """The average that our model was for is made, says an aggregator that has our model."""
        if self._kept is None or round != self._kept.round + 1:
            return
        if sender not in self._sent_to or self._confirmed == (sender, round):
            return  # whoever does not have it cannot know; and nobody gains time by saying so again
        if sender != self._core.me:
            self._core.patience.confirmed(ctx.now() - self._sent_s)
        self._confirmed = (sender, round)
        self._asked = False
        if self._watches(ctx, round):
            ctx.set_timer(SEND_AGAIN, self._core.patience.ack_s())
        else:
            self._forget(ctx)

    def _watches(self, ctx: Context, round: int) -> bool:
        """Whether we keep our model until a round has begun, though its aggregator says that it has our model.

        Whoever is in that round's sample sees whether it begins; of the others 2·f + 1 ask, so that f + 1 models are
        there for the next aggregator where the first one lies.
        """
        core = self._core
        if not core.cautious or round > core.rounds:
            return False
        if core.me in core.addressed(ctx, round):
            return True
        return core.liars > 0 and core.me in core.addressed(ctx, round - 1)[: 2 * core.liars + 1]

    def blame(self, ctx: Context) -> None:
        """No round has begun for long: whoever confirmed an average that never came does not deliver."""
        if self._confirmed is None or not self._core.has("H6"):
            return
        peer, round = self._confirmed
        if round > self._core.round and peer != self._core.me:
            waited_s = ctx.now() - self._core.since_s
            self._core.suspicions.undelivered(
                peer, AVERAGING, waited_s, now_s=ctx.now(), round=self._core.round
            )

    def _outrun(self, ctx: Context, sender: PeerId, round: int) -> None:
        """A round begins: if not by whom we have given our model for it, that one has not done its part."""
        kept, core = self._kept, self._core
        if kept is None or kept.round + 1 != round or self._attempts or not core.has("H6"):
            return
        if core.settings.aggregators == 1 and core.cautious and sender not in self._sent_to:
            waited_s = ctx.now() - self._sent_s
            for peer in sorted(self._sent_to - {core.me}):
                core.suspicions.undelivered(peer, AVERAGING, waited_s, now_s=ctx.now(), round=round)

    def timer(self, ctx: Context) -> None:
        """Nobody has confirmed: look for the aggregators again, and pass over those that have our model."""
        kept, core = self._kept, self._core
        if kept is None:
            return
        if self._confirmed is not None and self._confirmed[1] == kept.round + 1:
            if core.round > kept.round:
                self._forget(ctx)
                return
            if not self._asked and core.me not in core.addressed(ctx, kept.round + 1):
                self._asked = True
                self.ask(ctx, kept.round + 1)
                ctx.set_timer(SEND_AGAIN, core.patience.pong_s())
                return
        self._attempts += 1
        if core.round >= kept.round + 2 or self._attempts > ATTEMPTS_MAX:
            self._forget(ctx)
            return
        if core.has("H6"):
            waited_s = ctx.now() - self._sent_s
            for peer in sorted(self._sent_to - {core.me}):
                core.suspicions.undelivered(peer, AVERAGING, waited_s, now_s=ctx.now(), round=core.round)
        if self._attempts % 2 == 0:
            self._sent_to.clear()  # it was sent, but perhaps lost on the way
        core.find_aggregators(ctx, "aggregators", kept.round + 1, self._send)

    def connection_lost(self, peer: PeerId) -> None:
        """Whatever we sent there may not have arrived."""
        self._sent_to.discard(peer)

    def stop(self, ctx: Context) -> None:
        """No more work."""
        self._next = None
        self._forget(ctx)

    def _start(self, ctx: Context, job: Job) -> None:
        self._job = job
        self._began_s = ctx.now()
        # Rounds count from 0 wherever draws and learning rates are derived from them.
        self._ticket = ctx.train(job.model, round=job.round - 1)

    def _send(self, ctx: Context, aggregators: list[PeerId]) -> None:
        kept, core = self._kept, self._core
        if kept is None or kept.round != core.train_round:
            return
        if core.has("H3") and core.round >= kept.round + 2:
            self._forget(ctx)  # who began at round 1 while the others were far ahead has trained in vain
            return
        if core.has("H3"):
            # Each time is longer than the one before: whoever is slow, and not dead, is to be given the time.
            wait_s = core.patience.ack_s() * 2.0**self._attempts
            ctx.set_timer(SEND_AGAIN, min(wait_s, core.settings.send_again_s))
        if kept.round != self.last_round:
            self.participations += 1
            self.last_round = kept.round
            self.first_round = self.first_round or kept.round
        # Only those that lack it. Ours comes last, because it may end the round and with it `kept`.
        missing = [peer for peer in aggregators if peer not in self._sent_to]
        self._sent_to.update(missing)
        core.given_to.update(missing)
        self._sent_s = ctx.now()
        for peer in missing:
            if peer != core.me:
                core.send_model(
                    ctx,
                    AggregateMessage,
                    peer,
                    round=kept.round + 1,
                    expected=kept.expected,
                    model=kept.model,
                )
        if core.me in missing:
            self._aggregator.take(
                ctx, core.me, round=kept.round + 1, expected=kept.expected, model=kept.model
            )
        core.show_pending()
        if not core.has("H3"):
            self._forget(ctx)

    def _forget(self, ctx: Context) -> None:
        if self._kept is not None:
            self._kept = None
            ctx.cancel_timer(SEND_AGAIN)
