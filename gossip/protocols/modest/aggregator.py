"""An aggregator: gather the models of a round, average them, and start the next round with its sample.

How many models make an average follows from what this peer knows itself: sf of the sample's size, or of the candidates
of that round that it can reach where these are fewer (H1). Whoever began the round may have passed over some that this
peer knows nothing bad of, and then it would wait for models that nobody makes; so less is enough where f + 1 of those
that were told to train say that they were fewer. What a single message says of numbers counts for nothing, and never
is one model enough where f peers may lie: of f + 1 one is honest.
"""

from __future__ import annotations

from collections.abc import Callable

from gossip.protocols.base import Context, Contribution, GossipStep, Model, PeerId, RoundCompleted
from gossip.protocols.modest.core import Core, round_up
from gossip.protocols.modest.messages import AckMessage, TrainMessage
from gossip.protocols.modest.sampling import CLOCK_S
from gossip.protocols.modest.suspicion import TRAINING

AGGREGATE = "aggregate"

KEPT_PER_SENDER = 2
"""Rounds of which a sender's model is kept: it may be needed for one while it has trained in the next."""

LONGER = 3.0
"""So many times as long models are waited for while fewer than half have come; and in the last round, which several
average: that all of them have the same models is worth some time, once."""

BEGINNINGS_MAX = 4
"""Rounds of which it is remembered when the first model came."""


class Inbox:
    """The models of one round that is not averaged yet."""

    __slots__ = ("again_s", "began_s", "expected", "last_s", "models")

    def __init__(self, now_s: float) -> None:
        self.models: dict[PeerId, Model] = {}
        self.expected: dict[PeerId, int] = {}
        """How many were told to train, as each sender says."""
        self.began_s = self.last_s = now_s
        self.again_s = now_s
        """After a deadline with too few models: when to look again."""


class Aggregator:
    """Upon AGGREGATE. A claim of a newer round takes nothing away from an older one; its average does.

    `deliver` trains a round's average at this peer itself, `acknowledge` tells its own participant that its model
    is no longer needed, `final` ends the run.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._inboxes: dict[int, Inbox] = {}
        self._began_s: dict[int, float] = {}
        self._heard: dict[int, set[PeerId]] = {}
        self._averaged_round = 0
        self._stopped = False
        self.deliver: Callable[[Context, int, int, Model], None]
        self.acknowledge: Callable[[Context, PeerId, int], None]
        self.final: Callable[[Context, Model], None]
        self.ask: Callable[[Context, int], None]
        self.averaged = 0
        """Rounds averaged so far in this life."""

    @property
    def waiting(self) -> int:
        """How many models have come for rounds that are not complete."""
        return sum(len(inbox.models) for inbox in self._inboxes.values())

    def take(self, ctx: Context, sender: PeerId, *, round: int, expected: int, model: Model) -> None:
        """Count a model once; with enough of them, average."""
        core = self._core
        again = not self._learn(ctx, sender, round)
        if not core.cautious and round > core.aggregate_round:
            core.aggregate_round = round
            self._inboxes.clear()
        if self._stopped or self._is_over(round):
            self._answer(ctx, sender, round)  # even if it is sent again: our confirmation may have been lost
            if again:
                self._reject_again(ctx, sender)
            else:
                core.suspicions.delivered_late(sender, TRAINING, now_s=ctx.now())
            return
        inbox = self._inboxes.get(round)
        if inbox is None:
            inbox = self._inboxes[round] = Inbox(ctx.now())
        if sender in inbox.models:
            self._reject_again(ctx, sender)
            return
        inbox.models[sender] = model
        inbox.expected[sender] = expected
        inbox.last_s = ctx.now()
        self._keep_few(sender)
        self.look(ctx)

    def look(self, ctx: Context) -> None:
        """Average what is complete, or due; set the timer for what is not. Called whenever more is known."""
        core = self._core
        next_s: float | None = None
        for round in sorted(self._inboxes):
            inbox = self._inboxes.get(round)
            if inbox is None:
                continue
            if core.cautious and round < core.train_round:
                del self._inboxes[round]  # others have gone on
                continue
            due = core.has("H2") and ctx.now() + CLOCK_S >= inbox.began_s + self._patience_s(
                ctx, round, inbox
            )
            if len(inbox.models) >= self._needed(ctx, round, inbox, due=due) and self._believed(round):
                self._average(ctx, round)
                continue
            if due and ctx.now() + CLOCK_S >= inbox.again_s:
                self._wait_on(ctx, round, inbox)
            if core.has("H2") and round in self._inboxes:
                due_s = max(inbox.began_s + self._patience_s(ctx, round, inbox), inbox.again_s)
                next_s = due_s if next_s is None else min(next_s, due_s)
        if next_s is not None and not self._stopped:
            ctx.set_timer(AGGREGATE, max(0.0, next_s - ctx.now()))
        else:
            ctx.cancel_timer(AGGREGATE)

    def stop(self, ctx: Context) -> None:
        """No more averages."""
        self._inboxes.clear()
        self._stopped = True
        ctx.cancel_timer(AGGREGATE)

    # --- when there are enough ---

    def _is_over(self, round: int) -> bool:
        core = self._core
        if core.cautious:
            return round <= core.aggregate_round or round < core.train_round
        return round < core.aggregate_round or round == self._averaged_round

    def _addressed(self, ctx: Context, round: int, inbox: Inbox) -> int:
        """Return how many were told to train in the round before `round`, as far as this peer can know."""
        core = self._core
        if not core.has("H1"):
            return core.settings.sample_size
        here = len(core.addressed(ctx, round - 1))
        said = sorted(inbox.expected.values())  # of the f + 1 smallest one is honest
        return min(here, said[core.liars]) if len(said) > core.liars else here

    def _needed(self, ctx: Context, round: int, inbox: Inbox, *, due: bool) -> int:
        core, settings = self._core, self._core.settings
        addressed = self._addressed(ctx, round, inbox)
        least = min(core.liars + 1, len(core.addressed(ctx, round - 1)))
        if due and core.me in inbox.models and core.outnumbered(ctx):
            return settings.models_min  # it is its own, which it knows to be honest
        if due:
            return max(settings.models_min, least)
        return max(round_up(settings.success_fraction * addressed), least)

    def _believed(self, round: int) -> bool:
        """Whether the round before may have been trained, for all that this peer knows."""
        return not self._core.cautious or round <= self._core.round + 1

    def _patience_s(self, ctx: Context, round: int, inbox: Inbox) -> float:
        """Return how long after its first model a round is averaged without the missing ones.

        Where not even half have come, it may be the network that is slow, or this peer.
        """
        core = self._core
        wait_s = core.patience.delivery_s()
        if round > core.rounds or 2 * len(inbox.models) < self._addressed(ctx, round, inbox):
            wait_s *= LONGER
        return min(wait_s, core.settings.aggregate_timeout_s)

    def _wait_on(self, ctx: Context, round: int, inbox: Inbox) -> None:
        """The deadline has come, and what there is is not enough."""
        core, now_s = self._core, ctx.now()
        if core.cautious and round > core.round + 1:
            if now_s - inbox.last_s >= core.settings.stall_s:
                del self._inboxes[round]  # nobody else knows of such a round
                return
            self.ask(ctx, round - 1)
        inbox.again_s = now_s + max(self._patience_s(ctx, round, inbox), now_s - inbox.began_s)

    def _keep_few(self, sender: PeerId) -> None:
        kept = [round for round, inbox in self._inboxes.items() if sender in inbox.models]
        for round in sorted(kept)[:-KEPT_PER_SENDER]:
            del self._inboxes[round].models[sender], self._inboxes[round].expected[sender]
            if not self._inboxes[round].models:
                del self._inboxes[round]

    def _learn(self, ctx: Context, sender: PeerId, round: int) -> bool:
        """Note how late a model is, be it of use or not; return False if it is outdated, or came before.

        One of a made-up round teaches nothing, and a sender teaches once in a round: by sending again it would decide
        how long everybody is waited for.
        """
        core = self._core
        if not core.round - 1 <= round <= core.round + 1:
            return round > core.round
        heard = self._heard.setdefault(round, set())
        if sender in heard:
            return False
        heard.add(sender)
        began_s = self._began_s.setdefault(round, ctx.now())
        while len(self._began_s) > BEGINNINGS_MAX:
            oldest = min(self._began_s)
            del self._began_s[oldest], self._heard[oldest]
        core.patience.delivered(min(ctx.now() - began_s, core.settings.aggregate_timeout_s))
        return True

    def _reject_again(self, ctx: Context, sender: PeerId) -> None:
        if sender != self._core.me:
            self._core.rejected(ctx, sender, "duplicate")

    def _blame(self, ctx: Context, round: int, inbox: Inbox, addressed: int) -> None:
        """Pass over for a while who was waited for in vain, where that is certain."""
        core = self._core
        waited_s = ctx.now() - inbox.began_s
        lacking = addressed - len(inbox.models)
        enough = len(inbox.models) >= round_up(core.settings.success_fraction * addressed)
        missing = [peer for peer in core.addressed(ctx, round - 1) if peer not in inbox.models]
        if enough or not core.has("H6") or len(missing) > lacking:
            return
        for peer in missing:
            if peer != core.me:
                core.suspicions.undelivered(peer, TRAINING, waited_s, now_s=ctx.now(), round=core.round)

    # --- the average ---

    def _average(self, ctx: Context, round: int) -> None:
        core = self._core
        inbox = self._inboxes.pop(round)
        models = inbox.models
        addressed = self._addressed(ctx, round, inbox)
        self._blame(ctx, round, inbox, addressed)
        for older in [other for other in self._inboxes if other <= round]:
            del self._inboxes[older]
        core.aggregate_round = self._averaged_round = round
        weight = 1 / len(models)
        own = models.get(core.me)
        # Sums depend on their order, which must be the same in every world.
        received = [Contribution(peer, models[peer], weight) for peer in sorted(models) if peer != core.me]
        trained = round - 1
        model = ctx.merge(
            core.model if own is None else own,
            max(0.0, 1 - weight * len(received)) if own is not None else 0.0,
            received,
            at=GossipStep(trained - 1),
        )
        self.averaged += 1
        senders = sorted(models)
        for peer in senders:
            # Not before: whoever gives its model to all but those that wait for it does not deliver.
            core.suspicions.delivered(peer, TRAINING)
        if trained > core.newest:
            core.take_model(model, newest=trained)
            core.note_saved()
            expected = max(len(models), addressed)
            ctx.emit(RoundCompleted(round=trained, model=model, heard=len(models), expected=expected))
        if trained >= core.rounds:
            core.prove(round)
            self._acknowledge(ctx, senders, round)
            self.final(ctx, model)
            return

        def start(ctx: Context, sample: list[PeerId]) -> None:
            self._start(ctx, round, model, sample, senders)

        core.sample(ctx, "participants", round, core.settings.sample_size, start)

    def _start(
        self, ctx: Context, round: int, model: Model, sample: list[PeerId], senders: list[PeerId]
    ) -> None:
        core = self._core
        if core.aggregate_round > round or core.finished:
            return
        # Not before: whoever hears from us that the round has begun has our order then, and takes no false one for it.
        core.prove(round)
        for peer in sample:
            if peer != core.me:
                core.send_model(ctx, TrainMessage, peer, round=round, expected=len(sample), model=model)
        if core.me in sample:
            self.deliver(ctx, round, len(sample), model)
        core.show_pending()
        self._acknowledge(ctx, senders, round)

    def _acknowledge(self, ctx: Context, senders: list[PeerId], round: int) -> None:
        for peer in senders:
            self._answer(ctx, peer, round)

    def _answer(self, ctx: Context, peer: PeerId, round: int) -> None:
        if not self._core.has("H3"):
            return
        if peer == self._core.me:
            self.acknowledge(ctx, peer, round)
        else:
            ctx.send(peer, AckMessage(round=round))
