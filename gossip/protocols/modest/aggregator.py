"""An aggregator: gather the models of a round, average them, and start the next round with its sample."""

from __future__ import annotations

from collections.abc import Callable

from gossip.protocols.base import Context, Contribution, Model, PeerId, RoundCompleted
from gossip.protocols.modest.core import Core, round_up
from gossip.protocols.modest.messages import AckMessage, TrainMessage

AGGREGATE = "aggregate"


class Aggregator:
    """Upon AGGREGATE. The newest round wins; an unfinished older one is given up.

    `deliver` trains a round's average at this peer itself, `acknowledge` tells its own participant that its model
    is no longer needed, `final` ends the run.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._inbox: dict[PeerId, Model] = {}
        self._expected = 1
        self._done = False
        self.deliver: Callable[[Context, int, int, Model], None]
        self.acknowledge: Callable[[Context, int], None]
        self.final: Callable[[Context, Model], None]
        self.averaged = 0
        """Rounds averaged so far in this life."""

    @property
    def waiting(self) -> int:
        """How many models have come for a round that is not complete."""
        return len(self._inbox)

    def take(self, ctx: Context, sender: PeerId, *, round: int, expected: int, model: Model) -> None:
        """Count a model once; with enough of them, average."""
        core = self._core
        if round > core.aggregate_round:
            core.aggregate_round = round
            self._inbox.clear()
            self._expected, self._done = 1, False
            ctx.cancel_timer(AGGREGATE)
        if round < core.aggregate_round or self._done:
            self._answer(ctx, sender, round)
            return
        if sender in self._inbox:
            return
        self._inbox[sender] = model
        self._expected = max(self._expected, min(expected, core.settings.sample_size))
        if len(self._inbox) >= self._needed():
            self._average(ctx)
        elif core.has("H2") and len(self._inbox) == 1:
            ctx.set_timer(AGGREGATE, core.settings.aggregate_timeout_s)

    def timer(self, ctx: Context) -> None:
        """Go on with what has arrived; with too few, wait once more."""
        if self._done or not self._inbox:
            return
        if len(self._inbox) >= self._core.settings.models_min:
            self._average(ctx)
        else:
            ctx.set_timer(AGGREGATE, self._core.settings.aggregate_timeout_s)

    def stop(self, ctx: Context) -> None:
        """No more averages."""
        self._inbox.clear()
        self._done = True
        ctx.cancel_timer(AGGREGATE)

    def _needed(self) -> int:
        settings = self._core.settings
        addressed = self._expected if self._core.has("H1") else settings.sample_size
        return round_up(settings.success_fraction * addressed)

    def _average(self, ctx: Context) -> None:
        core = self._core
        self._done = True
        ctx.cancel_timer(AGGREGATE)
        inbox, self._inbox = self._inbox, {}
        weight = 1 / len(inbox)
        own = inbox.get(core.me)
        # Sums depend on their order, which must be the same in every world.
        received = [Contribution(peer, inbox[peer], weight) for peer in sorted(inbox) if peer != core.me]
        round = core.aggregate_round
        trained = round - 1
        model = ctx.merge(
            core.model if own is None else own,
            max(0.0, 1 - weight * len(received)) if own is not None else 0.0,
            received,
            round=trained - 1,
        )
        self.averaged += 1
        senders = sorted(inbox)
        if trained > core.newest:
            core.take_model(model, newest=trained)
            core.note_saved()
            ctx.emit(RoundCompleted(round=trained, model=model, heard=len(inbox), expected=self._expected))
        if trained >= core.rounds:
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
        for peer in sample:
            if peer != core.me:
                core.send_model(ctx, TrainMessage, peer, round=round, expected=len(sample), model=model)
        if core.me in sample:
            self.deliver(ctx, round, len(sample), model)
        core.show_pending()
        self._acknowledge(ctx, senders, round)

    def _acknowledge(self, ctx: Context, senders: list[PeerId], round: int) -> None:
        if self._core.has("H3"):
            for peer in senders:
                self._answer(ctx, peer, round)

    def _answer(self, ctx: Context, peer: PeerId, round: int) -> None:
        if not self._core.has("H3"):
            return
        if peer == self._core.me:
            self.acknowledge(ctx, round)
        else:
            ctx.send(peer, AckMessage(round=round))
