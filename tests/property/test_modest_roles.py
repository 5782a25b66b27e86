"""What one peer of MoDeST does, whatever it is told: participant, aggregator, member."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gossip.protocols import FinishedMessage
from gossip.protocols.modest.messages import (
    AckMessage,
    AggregateMessage,
    FetchMessage,
    MemberMessage,
    NewestMessage,
    PingMessage,
    PongMessage,
    StatusMessage,
    TrainMessage,
)
from gossip.protocols.modest.protocol import Modest
from gossip.protocols.modest.sampling import order
from gossip.protocols.modest.settings import HARDENING, ModestSettings
from tests.laws import tried
from tests.simulation.lone_peer import LonePeer, renumbered

NAMES = [f"p{i:02d}" for i in range(10)]
ROUNDS = 40


def lone(
    name: str = "p00", *, state: dict[str, Any] | None = None, **options: Any
) -> tuple[LonePeer, Modest]:
    options = {"sample_size": 4, "hardening": "none", **options}
    ctx = LonePeer(name, NAMES)
    protocol = Modest(
        ModestSettings.model_validate({"kind": "modest", **options}), rounds=ROUNDS, model=0.0, state=state
    )
    protocol._core.meet(ctx)
    return ctx, protocol


def train(round: int, model: float, *, expected: int = 4, view: Any = ()) -> TrainMessage:
    return TrainMessage(round=round, expected=expected, view=view, version=0, model=model)


def trained(round: int, model: float, *, expected: int = 4, view: Any = ()) -> AggregateMessage:
    return AggregateMessage(round=round, expected=expected, view=view, version=0, model=model)


def answer_pings(ctx: LonePeer, protocol: Modest) -> None:
    """All that are asked answer, until nobody is asked any more."""
    for _ in range(100):
        pings = ctx.take(PingMessage)
        if not pings:
            return
        for peer, message in pings:
            protocol.on_message(ctx, peer, PongMessage(nonce=message.nonce, round=protocol.round, version=0))
    raise AssertionError("asks for ever")


def pass_time(ctx: LonePeer, protocol: Modest, seconds: float) -> None:
    """Let time pass; whoever is asked answers, unless there is no connection."""
    for _ in range(math.ceil(seconds / 0.25)):
        ctx.advance(protocol, 0.25)
        answer_pings(ctx, protocol)


def outsider(round: int) -> str:
    """Return a name that is not in the first places of a round, nor p00."""
    return next(peer for peer in reversed(order(round, NAMES)) if peer != "p00")


# --- participant -------------------------------------------------------------------------------------


class Participant(RuleBasedStateMachine):
    """TRAIN of any round, any number of times; local updates end at any time."""

    options: dict[str, Any] = {"hardening": "none"}  # noqa: RUF012

    @initialize()
    def begin(self) -> None:
        self.ctx, self.protocol = lone(**self.options)
        self.first: dict[int, float] = {}
        self.newest = 0
        self.ended = 0
        self.lost = 0

    @rule(round=st.integers(1, 12), sender=st.sampled_from(NAMES[1:]), value=st.integers(1, 50))
    def hear(self, round: int, sender: str, value: int) -> None:
        model = 100.0 * round + value
        self.protocol.on_message(self.ctx, sender, train(round, model, view=((sender, 1, False, round),)))
        if round > self.newest:
            self.first[round] = model
            self.newest = round
        # Whether it is used or not, what it says of others is.
        assert self.protocol.round >= round

    @rule()
    def end(self) -> None:
        if self.ctx.training:
            round = self.ctx.training[-1][2] + 1
            self.ctx.end_training(self.protocol)
            answer_pings(self.ctx, self.protocol)
            self.ended = max(self.ended, round)
            # A newer round that came meanwhile is begun at once, unless a crash has taken it away.
            assert self.newest == self.lost or self.newest - 1 in self.ctx.trained

    @rule(seconds=st.floats(0.1, 20))
    def wait(self, seconds: float) -> None:
        self.ctx.advance(self.protocol, seconds)
        answer_pings(self.ctx, self.protocol)

    @rule()
    def be_killed_and_come_back(self) -> None:
        self.lost = self.newest
        self.ctx.training.clear()
        self.ctx.timers.clear()
        _, self.protocol = lone(state=dict(self.protocol.snapshot()), **self.options)
        self.protocol._core.meet(self.ctx)
        # What it had promised to train is not begun again, and what it knew of others is not forgotten.
        assert self.protocol.round == self.newest

    @invariant()
    def trains_each_round_once_and_rounds_only_rise(self) -> None:
        rounds = self.ctx.trained
        assert rounds == sorted(set(rounds))

    @invariant()
    def sends_what_was_made_of_the_rounds_first_average_and_never_after_a_newer_one(self) -> None:
        for _, message in self.ctx.take(AggregateMessage):
            assert message.model == self.first[message.round - 1] + 1
            assert message.round - 1 == self.newest
            assert message.round - 1 <= self.ended

    @invariant()
    def counters_never_fall(self) -> None:
        state = self.protocol.snapshot()
        before = getattr(self, "before", state)
        assert all(state[key] >= before[key] for key in ("round", "train", "aggregate", "counter"))
        self.before = state


TestParticipant = Participant.TestCase
TestParticipant.settings = tried(0.6, stateful_step_count=25)


def participant(**options: Any) -> tuple[LonePeer, Modest, str]:
    """Return a peer that has trained a round whose aggregator is another, and that aggregator."""
    ctx, protocol = lone(send_again_s=10.0, stall_s=1000.0, refresh_s=1000.0, **options)
    round = next(round for round in range(2, 99) if order(round + 1, NAMES)[0] != "p00")
    protocol.on_message(ctx, "p01", train(round, 5.0))
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    return ctx, protocol, order(round + 1, NAMES)[0]


def test_a_participant_gives_its_model_to_the_first_of_the_next_rounds_order():
    ctx, _, first = participant(hardening="none")
    assert [(peer, message.model) for peer, message in ctx.take(AggregateMessage)] == [(first, 6.0)]


def test_an_unconfirmed_model_goes_to_the_next_aggregator_when_the_first_is_gone():
    ctx, protocol, first = participant(hardening=["H3", "H6"])
    ((peer, message),) = ctx.take(AggregateMessage)
    assert peer == first
    ctx.down.add(first)
    protocol.on_peer(ctx, first, False)
    pass_time(ctx, protocol, 2.0)
    ((peer, again),) = ctx.take(AggregateMessage)
    assert peer not in (first, "p00")
    assert again.model == message.model


def test_a_confirmed_model_is_not_sent_again():
    ctx, protocol, first = participant(hardening=["H3", "H6"])
    ((_, message),) = ctx.take(AggregateMessage)
    protocol.on_message(ctx, first, AckMessage(round=message.round))
    ctx.advance(protocol, 100.0)
    answer_pings(ctx, protocol)
    assert not ctx.take(AggregateMessage)


def test_the_bare_participant_sends_once():
    ctx, protocol, _ = participant(hardening="none")
    assert len(ctx.take(AggregateMessage)) == 1
    ctx.advance(protocol, 1000.0)
    assert not ctx.sent


def test_a_model_from_outside_the_sample_is_counted_only_after_a_stall():
    ctx, protocol = lone(hardening=["H7"], sample_slack=0, sample_size=2, stall_s=60.0)
    inside = next(peer for peer in order(4, NAMES) if peer != "p00")
    protocol.on_message(ctx, outsider(4), trained(5, 1.0))
    assert ctx.rejected == ["not-in-sample"]
    assert protocol._aggregator.waiting == 0
    protocol.on_message(ctx, inside, trained(5, 1.0))
    assert protocol._aggregator.waiting == 1
    ctx.advance(protocol, 31.0)
    protocol.on_message(ctx, outsider(4), trained(5, 3.0))
    assert ctx.completed[-1].model == 2.0


@pytest.mark.parametrize("round", [-3, 0, 1, ROUNDS + 2, 2**50])
def test_trained_rounds_that_cannot_be_are_refused(round):
    ctx, protocol = lone(hardening="none", sample_size=1)
    protocol.on_message(ctx, "p01", trained(round, 1.0))
    assert ctx.rejected == ["invalid-round"]
    assert not ctx.merged


@pytest.mark.parametrize("round", [-3, 0, ROUNDS + 1, 2**50])
def test_rounds_that_cannot_be_are_refused(round):
    ctx, protocol = lone(hardening="all")
    protocol.on_message(ctx, "p01", train(round, 1.0))
    assert ctx.rejected == ["invalid-round"]
    assert protocol.round == 0


def test_the_bare_protocol_believes_any_round():
    ctx, bare = lone(hardening="none")
    bare.on_message(ctx, "p01", PingMessage(nonce=1, round=20))
    assert bare.round == 20


# --- aggregator --------------------------------------------------------------------------------------


class Averaging(RuleBasedStateMachine):
    """Models of any round from anybody, any number of times, in any order."""

    options: dict[str, Any] = {"hardening": "none", "success_fraction": 0.75}  # noqa: RUF012
    needed = 3

    @initialize()
    def begin(self) -> None:
        self.ctx, self.protocol = lone(**self.options)
        self.newest = 0
        self.counted: dict[str, float] = {}
        self.sent: dict[int, set[float]] = {}
        self.done = False

    @rule(round=st.integers(2, 9), sender=st.sampled_from(NAMES[1:]), value=st.integers(1, 50))
    def hear(self, round: int, sender: str, value: int) -> None:
        before = len(self.ctx.merged)
        self.protocol.on_message(self.ctx, sender, trained(round, float(value)))
        if round > self.newest:
            self.newest, self.counted, self.done = round, {}, False
        if round == self.newest and not self.done:
            self.counted.setdefault(sender, float(value))
        if round == self.newest and not self.done and len(self.counted) == self.needed:
            self.done = True
            assert len(self.ctx.merged) == before + 1
            _own, own_weight, received = self.ctx.merged[-1]
            assert own_weight == 0
            assert {c.sender: c.model for c in received} == self.counted
            assert self.ctx.completed[-1].model == pytest.approx(
                sum(self.counted.values()) / len(self.counted), abs=1e-6
            )
        else:
            assert len(self.ctx.merged) == before
        answer_pings(self.ctx, self.protocol)

    @invariant()
    def one_average_per_round(self) -> None:
        for _, message in self.ctx.take(TrainMessage):
            self.sent.setdefault(message.round, set()).add(message.model)
        assert all(len(models) == 1 for models in self.sent.values())
        rounds = [event.round for event in self.ctx.completed]
        assert rounds == sorted(set(rounds))

    @invariant()
    def the_inbox_is_bounded(self) -> None:
        assert self.protocol._aggregator.waiting < self.needed


TestAveraging = Averaging.TestCase
TestAveraging.settings = tried(0.6, stateful_step_count=30)


class HardenedAveraging(RuleBasedStateMachine):
    """The same, with deadlines: models say how many were addressed, and time passes."""

    models_min = 2

    @initialize()
    def begin(self) -> None:
        self.ctx, self.protocol = lone(
            hardening=["H1", "H2", "H3"],
            success_fraction=0.5,
            models_min=self.models_min,
            aggregate_timeout_s=10.0,
        )
        self.newest, self.began_s, self.expected = 0, 0.0, 1
        self.counted: dict[str, float] = {}
        self.done = False
        self.confirmed: set[tuple[str, int]] = set()

    @rule(
        round=st.integers(2, 9),
        sender=st.sampled_from(NAMES[1:]),
        value=st.integers(1, 50),
        expected=st.integers(1, 9),
    )
    def hear(self, round: int, sender: str, value: int, expected: int) -> None:
        before = len(self.ctx.merged)
        self.protocol.on_message(self.ctx, sender, trained(round, float(value), expected=expected))
        if round > self.newest:
            self.newest, self.counted, self.done, self.expected = round, {}, False, 1
            self.began_s = self.ctx.time_s
        late = round < self.newest or self.done
        if not late and sender not in self.counted:
            self.counted[sender] = float(value)
            self.expected = max(self.expected, min(expected, 4))  # nobody addresses more than a sample
        if not late and len(self.counted) >= math.ceil(0.5 * self.expected):
            self.check_average(before)
        else:
            assert len(self.ctx.merged) == before
        answer_pings(self.ctx, self.protocol)
        confirmed = {(peer, message.round) for peer, message in self.ctx.take(AckMessage)}
        assert not late or (sender, round) in confirmed

    @rule(seconds=st.floats(0.5, 12))
    def wait(self, seconds: float) -> None:
        before = len(self.ctx.merged)
        self.ctx.advance(self.protocol, seconds)
        if len(self.ctx.merged) > before:
            assert self.ctx.time_s - self.began_s >= 10.0
            assert len(self.counted) >= self.models_min
            self.check_average(before)
        elif self.counted and not self.done and len(self.counted) >= self.models_min:
            # Every ten seconds it looks again; so long at most waits what is enough.
            assert "aggregate" in self.ctx.timers
        answer_pings(self.ctx, self.protocol)

    def check_average(self, before: int) -> None:
        self.done = True
        assert len(self.ctx.merged) == before + 1
        _, own_weight, received = self.ctx.merged[-1]
        assert own_weight == 0
        assert {each.sender: each.model for each in received} == self.counted

    @invariant()
    def one_average_per_round_and_rounds_rise(self) -> None:
        rounds = [event.round for event in self.ctx.completed]
        assert rounds == sorted(set(rounds))


TestHardenedAveraging = HardenedAveraging.TestCase
TestHardenedAveraging.settings = tried(0.6, stateful_step_count=30)


def test_the_sample_that_was_addressed_is_enough():
    ctx, protocol = lone(hardening=["H1"], sample_size=8)
    for peer in NAMES[1:4]:
        protocol.on_message(ctx, peer, trained(5, 3.0, expected=3))
    assert len(ctx.merged) == 1


def test_the_bare_aggregator_waits_for_the_whole_sample_for_ever():
    ctx, protocol = lone(hardening="none", sample_size=8)
    for peer in NAMES[1:8]:
        protocol.on_message(ctx, peer, trained(5, 3.0, expected=7))
    ctx.advance(protocol, 10_000.0)
    assert not ctx.merged


def test_an_aggregator_goes_on_at_its_deadline_with_enough_models_and_keeps_too_few():
    ctx, protocol = lone(hardening=["H2"], models_min=2, aggregate_timeout_s=20.0)
    protocol.on_message(ctx, "p01", trained(5, 3.0))
    ctx.advance(protocol, 19.0)
    protocol.on_message(ctx, "p01", trained(5, 4.0))  # the first one counts
    ctx.advance(protocol, 30.0)
    assert not ctx.merged
    protocol.on_message(ctx, "p02", trained(5, 5.0))
    assert ctx.completed[-1].model == 4.0
    assert ctx.completed[-1].heard == 2


def test_a_late_model_changes_nothing_and_is_confirmed():
    ctx, protocol = lone(hardening=["H3"], success_fraction=0.5)
    for peer in ("p01", "p02"):
        protocol.on_message(ctx, peer, trained(5, 3.0))
    answer_pings(ctx, protocol)
    ctx.take(AckMessage)
    protocol.on_message(ctx, "p03", trained(5, 9.0))
    assert len(ctx.merged) == 1
    assert ctx.take(AckMessage) == [("p03", AckMessage(round=5))]


def test_an_aggregator_counts_itself_with_its_own_weight():
    ctx, protocol = lone()
    round = next(round for round in range(2, 99) if order(round + 1, NAMES)[0] == "p00")
    protocol.on_message(ctx, "p01", train(round, 4.0))
    ctx.end_training(protocol)
    for peer, value in (("p01", 1.0), ("p02", 2.0), ("p03", 3.0)):
        protocol.on_message(ctx, peer, trained(round + 1, value))
    ((own, own_weight, received),) = ctx.merged
    assert (own, own_weight, len(received)) == (5.0, 0.25, 3)
    assert ctx.completed[-1].model == pytest.approx(11 / 4)
    assert ctx.completed[-1].round == round


# --- member ------------------------------------------------------------------------------------------


def member(change: str, counter: int, round: int = 0) -> MemberMessage:
    return MemberMessage(change=change, round=round, counter=counter)


def test_a_joiner_is_seen_after_the_next_models_are_sent_and_not_before():
    ctx, protocol = lone(activity_window=5)
    protocol.on_message(ctx, "p01", train(30, 1.0))
    window = {"window": 5, "me": "p00"}
    assert "p09" not in protocol._core.view.candidates(30, **window)
    protocol.on_message(ctx, "p09", member("joined", 4))
    assert "p09" not in protocol._core.view.candidates(30, **window)
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    assert "p09" in protocol._core.view.candidates(30, **window)


def asked(ctx: LonePeer, protocol: Modest, round: int) -> set[str]:
    """Return whom it asks for a sample of a round, and let nobody answer."""
    protocol._core.sample(ctx, "test", round, 9, lambda ctx, sample: None)
    found = {peer for peer, _ in ctx.take(PingMessage)}
    ctx.advance(protocol, 6.0)
    ctx.take(PingMessage)
    return found


@pytest.mark.parametrize("evidence", ["pong", "ping", "connection", "view", "rejoined", "time", "none"])
def test_a_suspect_is_asked_again_once_there_is_newer_evidence_and_not_before(evidence):
    ctx, protocol = lone(hardening=["H6"], suspect_rounds=30)
    protocol.on_message(ctx, "p01", train(5, 1.0))
    nonces = []
    protocol._core.sample(ctx, "test", 6, 9, lambda ctx, sample: None)
    nonces += [message.nonce for peer, message in ctx.take(PingMessage) if peer == "p07"]
    ctx.advance(protocol, 6.0)
    ctx.take(PingMessage)
    assert "p07" not in asked(ctx, protocol, 6)
    protocol.on_message(ctx, "p02", PingMessage(nonce=1, round=9))
    match evidence:
        case "pong":
            protocol.on_message(ctx, "p07", PongMessage(nonce=nonces[0], round=9, version=0))
        case "ping":
            protocol.on_message(ctx, "p07", PingMessage(nonce=1, round=3))
        case "connection":
            protocol.on_peer(ctx, "p07", True)
        case "view":
            protocol.on_message(ctx, "p01", trained(6, 1.0, view=(("p07", 0, False, 8),)))
        case "rejoined":
            protocol.on_message(ctx, "p01", trained(6, 1.0, view=(("p07", 3, False, 2),)))
        case "time":
            protocol.on_message(ctx, "p02", PingMessage(nonce=1, round=36))
        case "none":
            protocol.on_message(ctx, "p01", trained(6, 1.0, view=(("p07", 0, False, 5),)))
    assert ("p07" in asked(ctx, protocol, 6)) == (evidence != "none")


def test_a_pong_that_comes_too_late_changes_nothing_but_the_activity():
    ctx, protocol = lone(hardening="none")
    found: list[list[str]] = []
    protocol._core.sample(ctx, "test", 1, 3, lambda ctx, sample: found.append(sample))
    first = ctx.take(PingMessage)
    ctx.advance(protocol, 100.0)
    assert found == [["p00"]]
    ctx.take(PingMessage)
    peer, message = first[0]
    protocol.on_message(ctx, peer, PongMessage(nonce=message.nonce, round=0, version=0))
    assert protocol._core.view[peer][3] == 0
    assert found == [["p00"]]
    assert not ctx.sent


def test_who_is_there_is_remembered_over_a_restart():
    ctx, protocol = lone(activity_window=5)
    view = (("p03", 2, True, 29), ("p04", 7, False, 29), ("stranger", 1, False, 3))
    protocol.on_message(ctx, "p01", train(30, 1.0, view=view))
    again_ctx, again = lone(activity_window=5, state=dict(protocol.snapshot()))
    assert set(again._core.view.entries()) == set(protocol._core.view.entries())
    assert again.snapshot()["view"] == protocol.snapshot()["view"]
    window = {"window": 5, "me": "p00"}
    assert again._core.view.candidates(31, **window) == ["p00", "p01", "p04"]
    assert not again_ctx.sent


class Adverts(RuleBasedStateMachine):
    """Joins and leaves of one peer arrive late, twice and in any order."""

    @initialize()
    def begin(self) -> None:
        self.ctx, self.protocol = lone()
        self.issued: list[tuple[int, bool]] = []
        self.heard: set[tuple[int, bool]] = {(0, False)}

    @rule()
    def issue(self) -> None:
        counter = len(self.issued) + 1
        self.issued.append((counter, bool(self.issued) and not self.issued[-1][1]))

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        if self.issued:
            event = data.draw(st.sampled_from(self.issued))
            self.protocol.on_message(self.ctx, "p05", member("left" if event[1] else "joined", event[0]))
            self.protocol._core.show_pending()
            self.heard.add(event)

    @invariant()
    def the_newest_event_heard_is_the_one_that_counts(self) -> None:
        assert self.protocol._core.view["p05"][1:3] == max(self.heard)


TestAdverts = Adverts.TestCase
TestAdverts.settings = tried(0.6, stateful_step_count=20)


def test_counters_survive_a_restart_even_where_leaving_was_not_saved():
    ctx, protocol = lone(outsider(1))
    protocol.on_start(ctx)
    saved = protocol.snapshot()
    joined = {message.counter for _, message in ctx.take(MemberMessage)}
    protocol.on_leave(ctx)
    left = {message.counter for _, message in ctx.take(MemberMessage)}
    ctx, protocol = lone(ctx.peer, state=dict(saved))
    protocol.on_start(ctx)
    again = {message.counter for _, message in ctx.take(MemberMessage)}
    assert len(joined) == len(left) == len(again) == 1
    assert max(joined) < max(left) < max(again)


def test_whoever_has_left_is_silent_until_its_process_ends():
    ctx, protocol = lone(outsider(1), hardening="all", refresh_s=5.0, stall_s=5.0)
    protocol.on_start(ctx)
    first = order(1, NAMES)[0]
    protocol.on_message(ctx, first, train(1, 1.0))
    protocol.on_leave(ctx)
    ((counter, left),) = {(message.counter, message.change) for _, message in ctx.take(MemberMessage)[-1:]}
    assert left == "left"
    saved = protocol.snapshot()
    ctx.take(PingMessage)
    ctx.sent.clear()
    protocol.on_message(ctx, "p02", train(4, 1.0, view=((ctx.peer, counter, True, 3),)))
    protocol.on_message(ctx, "p02", PingMessage(nonce=1, round=4))
    protocol.on_peer(ctx, "p03", True)
    ctx.end_training(protocol)
    ctx.advance(protocol, 100.0)
    assert not ctx.sent
    assert protocol.snapshot() == saved


def test_a_peer_that_forgot_its_counter_is_shut_out_until_it_exceeds_the_old_one_and_learns_it():
    ctx, protocol = lone()
    protocol.on_message(ctx, "p05", member("left", 7))
    protocol.on_message(ctx, "p05", member("joined", 1))
    protocol._core.show_pending()
    assert protocol._core.view["p05"][1:3] == (7, True)
    ((peer, status),) = ctx.take(StatusMessage)
    assert (peer, status.counter, status.left) == ("p05", 7, True)

    forgetful_ctx, forgetful = lone("p05")
    forgetful.on_start(forgetful_ctx)
    forgetful_ctx.sent.clear()
    forgetful.on_message(forgetful_ctx, "p00", status)
    adverts = [message for _, message in forgetful_ctx.take(MemberMessage)]
    assert adverts
    assert all((advert.change, advert.counter) == ("joined", 8) for advert in adverts)


def test_whoever_comes_late_fetches_the_newest_model_from_the_one_that_has_it():
    ctx, protocol = lone("p09", hardening="all", liars=0)
    protocol.on_start(ctx)
    for peer, newest in (("p01", 6), ("p02", 8), ("p03", 7)):
        protocol.on_message(ctx, peer, StatusMessage(round=9, newest=newest, counter=1, left=False))
    ctx.advance(protocol, 1.5)
    assert ctx.take(FetchMessage) == [("p02", FetchMessage(round=0))]
    protocol.on_message(ctx, "p02", NewestMessage(round=8, expected=0, view=(), version=0, model=42.0))
    assert protocol.snapshot()["round"] == 8
    assert [event.model for event in ctx.events if type(event).__name__ == "ModelSaved"][-1] == 42.0


def test_a_newcomer_hears_when_it_connects_that_all_have_begun_and_fetches_once_it_starts():
    ctx, protocol = lone(hardening="all", activity_window=5, liars=0)
    first = next(peer for peer in order(30, NAMES) if peer != "p00")
    protocol.on_message(ctx, first, train(30, 7.0))
    protocol.on_peer(ctx, first, True)
    assert not ctx.take(StatusMessage)  # was active just now
    protocol.on_peer(ctx, "p09", True)
    ((peer, greeting),) = ctx.take(StatusMessage)
    assert (peer, greeting.round, greeting.newest) == ("p09", 30, 29)

    newcomer_ctx, newcomer = lone("p09", hardening="all", liars=0)
    newcomer.on_message(newcomer_ctx, "p00", greeting)
    assert not newcomer_ctx.timers  # nothing before it starts
    newcomer.on_start(newcomer_ctx)
    assert not newcomer_ctx.training  # round 1 is long over
    assert {message.round for _, message in newcomer_ctx.take(MemberMessage)} == {30}
    newcomer_ctx.advance(newcomer, 1.5)
    assert newcomer_ctx.take(FetchMessage) == [("p00", FetchMessage(round=0))]


def test_in_a_large_network_a_few_greet_a_newcomer():
    names = [f"q{i:04d}" for i in range(1_000)]
    greetings = 0
    for name in names[:400]:
        ctx = LonePeer(name, names)
        protocol = Modest(ModestSettings(hardening=()), rounds=ROUNDS, model=0.0)
        protocol.on_message(ctx, names[-2], train(9, 7.0))
        protocol.on_peer(ctx, names[-1], True)
        greetings += len(ctx.take(StatusMessage))
    assert 0 < greetings < 12  # 8 of 1,000 on average


def test_the_end_told_by_one_that_was_taken_off_the_list_is_ignored():
    ctx, protocol = lone()
    ctx.peers = tuple(name for name in NAMES if name != "p05")
    protocol.on_message(ctx, "p05", FinishedMessage(round=ROUNDS))
    assert not ctx.sent


def test_a_silent_peer_says_hello_and_is_known_again():
    ctx, protocol = lone(outsider(1), hardening=["H5"], refresh_s=30.0, refresh_peers=3)
    protocol.on_start(ctx)
    ctx.sent.clear()
    ctx.advance(protocol, 31.0)
    hellos = ctx.take(MemberMessage)
    assert len(hellos) == 3
    assert {message.change for _, message in hellos} == {"hello"}
    other_ctx, other = lone(activity_window=5)
    other.on_message(other_ctx, "p01", train(30, 1.0))
    other.on_message(other_ctx, ctx.peer, renumbered(hellos[0][1], 3))
    assert ctx.peer in other._core.view.candidates(30, window=5, me="p00")


# --- the chain breaks, and the end --------------------------------------------------------------------


def test_whoever_has_the_newest_average_starts_a_round_when_none_has_begun_for_long():
    ctx, protocol = lone(hardening=["H1", "H4"], stall_s=60.0)
    protocol.on_start(ctx)
    protocol.on_message(ctx, "p01", train(9, 3.0))
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    ctx.take(TrainMessage)
    for _ in range(160):
        ctx.advance(protocol, 1.0)
        answer_pings(ctx, protocol)
    starts = ctx.take(TrainMessage)
    assert starts
    assert {message.model for _, message in starts} == {3.0}
    assert min(message.round for _, message in starts) == 10


def test_the_last_average_ends_the_run_and_all_are_told():
    ctx, protocol = lone()
    for peer in NAMES[1:5]:
        protocol.on_message(ctx, peer, trained(ROUNDS + 1, 3.0))
    assert ctx.finished == 3.0
    assert {peer for peer, _ in ctx.take(FinishedMessage)} == set(NAMES[1:])
    assert protocol.needed()
    protocol.on_message(ctx, "p01", FetchMessage(round=ROUNDS - 1))
    ((peer, final),) = ctx.take(NewestMessage)
    assert (peer, final.round, final.model) == ("p01", ROUNDS, 3.0)
    for peer in NAMES[1:]:
        protocol.on_message(ctx, peer, FinishedMessage(round=ROUNDS))
    assert not protocol.needed()


def test_whoever_hears_of_the_end_fetches_the_model_and_gives_it_on():
    ctx, protocol = lone("p01")
    protocol.on_message(ctx, "p00", FinishedMessage(round=ROUNDS))
    ((parent, wanted),) = ctx.take(FetchMessage)
    assert wanted == FetchMessage(round=ROUNDS - 1)
    protocol.on_message(ctx, "p05", FetchMessage(round=ROUNDS - 1))
    assert not ctx.take(NewestMessage)
    protocol.on_message(ctx, parent, NewestMessage(round=ROUNDS, expected=0, view=(), version=0, model=3.0))
    assert ctx.finished == 3.0
    assert [peer for peer, _ in ctx.take(NewestMessage)] == ["p05"]


def test_where_nothing_comes_from_above_whoever_said_so_is_asked():
    ctx, protocol = lone("p01")
    protocol.on_message(ctx, "p00", FinishedMessage(round=ROUNDS))
    ((parent, _),) = ctx.take(FetchMessage)
    assert parent != "p00"
    ctx.advance(protocol, 6.0)
    assert "p00" in {peer for peer, _ in ctx.take(FetchMessage)}


def test_a_model_that_nobody_asked_for_neither_ends_the_run_nor_is_kept():
    ctx, protocol = lone()
    for round in (ROUNDS, ROUNDS - 1):
        message = NewestMessage(round=round, expected=0, view=(), version=0, model=9.0)
        protocol.on_message(ctx, "p02", message)
    assert ctx.rejected == ["not-asked-for"] * 2
    assert ctx.finished is None
    assert protocol.snapshot()["round"] == 0


def test_a_peer_that_was_added_to_the_list_takes_part():
    ctx, protocol = lone()
    protocol.on_message(ctx, "p01", train(3, 1.0))
    ctx.peers = (*NAMES, "p99")
    protocol.on_message(ctx, "p99", member("joined", 1, 3))
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    assert "p99" in protocol._core.view.candidates(4, window=50, me="p00")


@pytest.mark.parametrize("hardening", ["some", ["H9"], 3])
def test_unknown_rules_are_refused(hardening):
    with pytest.raises(ValueError, match=r"must be 'all', 'none' or a list of H1"):
        ModestSettings(hardening=hardening)


def test_all_and_none_are_lists_of_rules():
    assert ModestSettings(hardening="all").hardening == tuple(HARDENING)
    assert ModestSettings(hardening="none").hardening == ()
    assert ModestSettings(hardening=["H3", "H1"]) == ModestSettings(hardening=("H1", "H3"))
