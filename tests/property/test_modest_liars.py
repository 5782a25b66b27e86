"""What one peer of MoDeST makes of messages that lie: each of them alone, and any number of them among honest ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gossip.protocols import FinishedMessage, MessageRejected
from gossip.protocols.modest.core import COUNTER_MAX, GIVEN_MAX
from gossip.protocols.modest.messages import (
    AckMessage,
    AggregateMessage,
    FetchMessage,
    MemberMessage,
    NewestMessage,
    PingMessage,
    PongMessage,
    StatusMessage,
)
from gossip.protocols.modest.orders import HELD_MAX
from gossip.protocols.modest.protocol import Modest
from gossip.protocols.modest.sampling import order
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.modest.suspicion import AVERAGING, TRAINING
from tests.laws import tried
from tests.property.test_modest_roles import (
    NAMES,
    ROUNDS,
    answer_pings,
    lone,
    pass_time,
    train,
    trained,
)
from tests.simulation.lone_peer import LonePeer

HUGE = 2**53 - 1
SIX = NAMES[:6]


def six(name: str = "p00", **options: Any) -> tuple[LonePeer, Modest]:
    """Return one of six peers, with everything on and samples of all."""
    ctx, protocol = lone(name, **{"hardening": "all", "sample_size": 10, **options})
    ctx = LonePeer(name, SIX)
    protocol = type(protocol)(protocol._core.settings, rounds=ROUNDS, model=0.0)
    protocol._core.meet(ctx)
    return ctx, protocol


def in_turn(round: int, *, names: Any = SIX) -> str:
    """Return who averages for a round, other than p00."""
    first: str = order(round, names)[0]
    return first


def turn_of_others(start: int = 2) -> int:
    """Return a round from `start` on that is neither p00's to average nor p05's, the liar's."""
    return next(round for round in range(start, 99) if in_turn(round) not in ("p00", "p05"))


def at_round(round: int, **options: Any) -> tuple[LonePeer, Modest]:
    """Return p00 of six after an order for `round`, which all others have begun, too; its update has ended."""
    ctx, protocol = six(**options)
    protocol.on_start(ctx)
    if ctx.training:
        ctx.end_training(protocol)
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=round - 1))
    protocol.on_message(ctx, in_turn(round), train(round, 5.0, expected=6))
    assert protocol.round == round
    ctx.time_s += 0.5
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    ctx.sent.clear()
    return ctx, protocol


LIES = {
    "trained": lambda: trained(ROUNDS + 1, 9.0, expected=1),
    "order": lambda: train(ROUNDS, 9.0, expected=1),
    "finished": lambda: FinishedMessage(round=ROUNDS),
    "newest": lambda: NewestMessage(round=ROUNDS, expected=0, view=(), version=0, model=9.0),
    "ping": lambda: PingMessage(nonce=1, round=ROUNDS + 1),
    "pong": lambda: PongMessage(nonce=1, round=ROUNDS + 1, version=HUGE),
    "member": lambda: MemberMessage(change="hello", round=ROUNDS, counter=1),
    "status": lambda: StatusMessage(round=ROUNDS, newest=ROUNDS - 1, counter=2**52, left=True),
    "ack": lambda: AckMessage(round=ROUNDS + 1),
    "slander": lambda: train(
        ROUNDS, 9.0, view=tuple((name, HUGE, True, ROUNDS) for name in SIX if name != "p05")
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_one_peer_says_of_the_last_round_moves_nobody(lie):
    round = turn_of_others()
    ctx, protocol = at_round(round)
    for _ in range(3):
        protocol.on_message(ctx, "p05", LIES[lie]())
    assert protocol.round == round
    assert ctx.finished is None
    assert not ctx.training
    assert not ctx.take(FetchMessage)
    assert len(list(protocol._core.view.registered())) == 6
    assert protocol.snapshot()["round"] == round - 1
    # And it goes on as if nothing had been.
    assert protocol._core.counter == 1
    following = turn_of_others(round + 1)
    for peer in SIX[1:5]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=following - 1))
    protocol.on_message(ctx, in_turn(following), train(following, 7.0))
    assert [model for _, model, _ in ctx.training] == [8.0]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_whoever_has_no_connection_but_to_a_liar_believes_it_no_more(lie, begun):
    """Before it has begun, too: others may begin, and speak, earlier."""
    ctx, protocol = six()
    ctx.time_s = 1000.0
    ctx.down.update(SIX[1:5])
    if begun:
        protocol.on_start(ctx)
    protocol._core.since_s = 1000.0 if begun else protocol._core.since_s
    for _ in range(40):
        protocol.on_message(ctx, "p05", LIES[lie]())
        ctx.advance(protocol, 1.0)
    assert protocol.round <= 2
    assert ctx.finished is None
    assert max([0, *ctx.trained]) <= 2


def test_whoever_can_reach_at_most_f_others_goes_on_with_its_own_models():
    ctx, protocol = six(stall_s=5.0, aggregate_timeout_s=2.0)
    ctx.down.update(SIX[1:5])
    protocol.on_start(ctx)
    for _ in range(400):
        ctx.advance(protocol, 0.5)
        if ctx.training:
            ctx.end_training(protocol)
        answer_pings(ctx, protocol)
    assert ctx.finished is not None or protocol.round > 10
    assert all(not received for _, _, received in ctx.merged)


def test_an_order_out_of_turn_waits_until_those_before_it_have_had_their_time():
    round = turn_of_others(3)
    ctx, protocol = at_round(round)
    following = round + 1
    second = next(peer for peer in order(following, SIX)[1:] if peer != "p00")
    place = order(following, SIX).index(second)
    protocol.on_message(ctx, second, train(following, 9.0))
    assert not ctx.training
    waits_s = protocol._core.patience.round_s() * (1 + place)
    pass_time(ctx, protocol, waits_s - 1.0)
    assert not ctx.training
    pass_time(ctx, protocol, 2.0)
    assert [model for _, model, _ in ctx.training] == [10.0]


def test_an_order_out_of_turn_is_followed_when_those_before_it_do_not_answer():
    ctx, protocol = at_round(turn_of_others(3))
    following = protocol.round + 1
    ordered = [peer for peer in order(following, SIX) if peer != "p00"]
    protocol.on_message(ctx, ordered[1], train(following, 9.0))
    asked = [(peer, ping) for peer, ping in ctx.take(PingMessage) if peer != ordered[0]]
    assert asked
    for peer, ping in asked:
        protocol.on_message(ctx, peer, PongMessage(nonce=ping.nonce, round=following - 1, version=0))
    ctx.advance(protocol, 5.5)
    assert [model for _, model, _ in ctx.training] == [10.0] or order(following, SIX)[0] == "p00"


def test_an_aggregator_says_that_a_round_has_begun_when_its_orders_are_under_way_and_not_before():
    """Else whoever has a false order waiting would take its pings for a confirmation of that."""
    round = next(round for round in range(2, 99) if in_turn(round + 1) == "p00" and in_turn(round) != "p05")
    ctx, protocol = at_round(round)
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, trained(round + 1, 1.0, expected=6))
    assert len(ctx.merged) == 1
    kinds = []
    for _ in range(10):
        for _, message in ctx.sent:
            kinds.append((type(message).__name__, message.round))
        answer_pings(ctx, protocol)
    said = [number for kind, number in kinds if kind == "PingMessage"]
    assert said
    assert max(said) == round
    assert protocol.round == round + 1


def test_an_order_out_of_turn_gives_the_rightful_one_time_though_the_round_is_known_to_have_begun():
    ctx, protocol = at_round(turn_of_others(3))
    following = turn_of_others(protocol.round + 1)
    ordered = [peer for peer in order(following, SIX) if peer != "p00"]
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=following - 1))
    protocol.on_message(ctx, ordered[1], train(following, 9.0))
    protocol.on_message(ctx, ordered[2], PingMessage(nonce=1, round=following))
    assert protocol.round == following
    assert not ctx.training
    protocol.on_message(ctx, ordered[0], train(following, 2.0))
    assert [model for _, model, _ in ctx.training] == [3.0]


def test_an_order_out_of_turn_is_followed_when_others_have_begun_the_round():
    ctx, protocol = at_round(turn_of_others(3))
    following = turn_of_others(protocol.round + 1)
    ordered = [peer for peer in order(following, SIX) if peer != "p00"]
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=following - 1))
    protocol.on_message(ctx, ordered[1], train(following, 9.0))
    for peer in ordered[2:4]:
        protocol.on_message(ctx, peer, PingMessage(nonce=1, round=following))
    answer_pings(ctx, protocol)
    waits_s = protocol._core.patience.round_s()
    pass_time(ctx, protocol, min(3.0, waits_s))
    assert [model for _, model, _ in ctx.training] == [10.0]


def test_whoever_was_not_in_a_sample_for_long_asks_whether_the_round_before_has_begun():
    ctx, protocol = six()
    protocol.on_start(ctx)
    ctx.training.clear()
    protocol._trainer._ticket = None
    ctx.sent.clear()
    round = turn_of_others(20)
    protocol.on_message(ctx, in_turn(round), train(round, 9.0))
    assert not ctx.training
    asked = ctx.take(PingMessage)
    assert len(asked) >= 2
    (late, first_ping), (knowing, second_ping) = asked[:2]
    protocol.on_message(ctx, late, PongMessage(nonce=first_ping.nonce, round=round - 2, version=0))
    assert not ctx.training
    # With the sender there are two now that know of the round before.
    protocol.on_message(ctx, knowing, PongMessage(nonce=second_ping.nonce, round=round - 1, version=0))
    assert [model for _, model, _ in ctx.training] == [10.0]


def test_one_model_is_never_an_average_where_one_may_lie():
    ctx, protocol = at_round(2, aggregate_timeout_s=5.0) if in_turn(2) != "p00" else at_round(3)
    for _ in range(3):
        protocol.on_message(ctx, "p05", trained(protocol.round + 1, 9.0, expected=1))
        pass_time(ctx, protocol, 2.0)
        assert all(len(received) > 1 for _, _, received in ctx.merged)


def test_a_count_counts_when_f_plus_one_say_it():
    round = next(round for round in range(2, 99) if in_turn(round + 1) == "p00" and in_turn(round) != "p05")
    ctx, protocol = at_round(round)
    assert protocol._aggregator.waiting == 1  # its own
    protocol.on_message(ctx, "p05", trained(round + 1, 9.0, expected=1))
    protocol.on_message(ctx, "p01", trained(round + 1, 9.0, expected=6))
    protocol.on_message(ctx, "p02", trained(round + 1, 9.0, expected=6))
    assert not ctx.merged
    protocol.on_message(ctx, "p03", trained(round + 1, 9.0, expected=5))
    assert len(ctx.merged) == 1


def test_a_claim_of_a_newer_round_takes_no_models_away():
    ctx, protocol = at_round(turn_of_others(3))
    round = protocol.round + 1
    protocol.on_message(ctx, "p01", trained(round, 1.0))
    waiting = protocol._aggregator.waiting
    for later in range(round + 1, ROUNDS + 2):
        protocol.on_message(ctx, "p05", trained(later, 9.0))
    assert waiting < protocol._aggregator.waiting <= waiting + 2
    assert "p01" in protocol._aggregator._inboxes[round].models


def test_nobody_but_a_peer_itself_says_that_it_has_left():
    ctx, protocol = at_round(turn_of_others(3))
    in_sample = trained(protocol.round + 1, 1.0, view=(("p01", 7, True, 3), ("p02", HUGE, True, 3)))
    protocol.on_message(ctx, "p03", in_sample)
    view = protocol._core.view
    assert (view["p01"][1:3], view["p02"][1:3]) == ((0, False), (0, False))
    protocol.on_message(ctx, "p01", MemberMessage(change="left", round=3, counter=7))
    assert view["p01"][1:3] == (7, True)
    protocol.on_message(ctx, "p01", MemberMessage(change="joined", round=3, counter=8))
    protocol._core.show_pending()
    assert view["p01"][1:3] == (8, False)


def test_a_view_of_one_who_may_not_send_it_is_not_looked_at():
    ctx, protocol = at_round(turn_of_others(3))
    before = protocol._core.view.entries()
    message = train(ROUNDS, 1.0, view=(("p01", 1, False, 3),))
    out_of_turn = order(ROUNDS, SIX)[-1]
    protocol.on_message(ctx, out_of_turn, message)
    assert ctx.rejected
    assert protocol._core.view.entries() == before


def test_hearsay_makes_nobody_active_later_than_the_round_that_is_believed():
    ctx, protocol = at_round(turn_of_others(3))
    round = protocol.round
    protocol.on_message(ctx, "p05", trained(round + 1, 1.0, view=(("p01", 0, False, 30),)))
    assert protocol._core.view["p01"][3] <= round


@pytest.mark.parametrize("counter", [COUNTER_MAX + 1, HUGE, -1])
def test_counters_that_nobody_could_outdo_are_refused(counter):
    ctx, protocol = six()
    protocol.on_message(ctx, "p01", MemberMessage(change="left", round=0, counter=counter))
    assert ctx.rejected == ["invalid-counter"]
    assert protocol._core.view["p01"][1:3] == (0, False)


def test_a_peer_comes_back_whatever_one_says_of_its_counter_and_as_f_plus_one_say():
    ctx, protocol = six()
    protocol.on_start(ctx)
    ctx.sent.clear()
    for _ in range(3):
        protocol.on_message(ctx, "p05", StatusMessage(round=0, newest=0, counter=COUNTER_MAX, left=True))
    assert not ctx.take(MemberMessage)
    protocol.on_message(ctx, "p01", StatusMessage(round=0, newest=0, counter=7, left=True))
    assert {(message.change, message.counter) for _, message in ctx.take(MemberMessage)} == {("joined", 8)}


def test_no_claim_about_the_own_counter_makes_it_one_that_others_refuse():
    """Of two peers nobody is cautious: the other one's word counts."""
    state: dict[str, Any] = {}
    for counter in (COUNTER_MAX - 1, COUNTER_MAX, COUNTER_MAX + 1, HUGE):
        for _ in range(3):
            ctx = LonePeer("p00", ("p00", "p01"))
            protocol = Modest(ModestSettings(), rounds=ROUNDS, model=0.0, state=state)
            protocol.on_start(ctx)
            protocol.on_message(ctx, "p01", StatusMessage(round=0, newest=0, counter=counter, left=True))
            protocol.on_leave(ctx)
            state = dict(protocol.snapshot())
            said = [message.counter for _, message in ctx.take(MemberMessage)]
            assert said
            assert max(said) <= COUNTER_MAX


def test_whoever_leaves_or_comes_back_tells_all_that_it_can_reach():
    ctx, protocol = six()
    protocol.on_start(ctx)
    ctx.sent.clear()
    protocol.on_leave(ctx)
    assert {peer for peer, _ in ctx.take(MemberMessage)} == set(SIX[1:])
    ctx = LonePeer("p00", SIX)
    ctx.down.add("p04")
    again = Modest(protocol._core.settings, rounds=ROUNDS, model=0.0, state=dict(protocol.snapshot()))
    again.on_start(ctx)
    assert {peer for peer, _ in ctx.take(MemberMessage)} == {"p01", "p02", "p03", "p05"}
    ctx.down.clear()
    again.on_peer(ctx, "p04", True)
    again.on_peer(ctx, "p03", True)
    assert {peer for peer, message in ctx.take(MemberMessage) if message.change == "joined"} == {"p04"}


def test_an_acknowledgement_counts_from_those_that_have_the_model_alone():
    round = next(round for round in range(2, 99) if in_turn(round + 1) not in ("p00", "p05"))
    ctx, protocol = at_round(round) if in_turn(round) not in ("p00",) else at_round(turn_of_others(round))
    kept = protocol._trainer._kept
    protocol.on_message(ctx, "p05", AckMessage(round=ROUNDS + 1))
    assert protocol._trainer._kept is kept


def test_an_aggregator_that_confirms_and_begins_nothing_is_passed_over():
    round = next(
        round
        for round in range(3, 99)
        if in_turn(round + 1) == "p05" and in_turn(round) not in ("p00", "p05")
    )
    ctx, protocol = six()
    protocol.on_start(ctx)
    if ctx.training:
        ctx.end_training(protocol)
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=round - 1))
    protocol.on_message(ctx, in_turn(round), train(round, 5.0))
    ctx.sent.clear()
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    assert [peer for peer, _ in ctx.take(AggregateMessage)] == ["p05"]
    protocol.on_message(ctx, "p05", AckMessage(round=round + 1))
    pass_time(ctx, protocol, 4.0)
    others = [peer for peer, _ in ctx.take(AggregateMessage)]
    assert others or protocol._aggregator.waiting
    assert "p05" not in others
    assert "p05" not in protocol._core.order(round + 2)


# --- the end ------------------------------------------------------------------------------------------


def final(model: float) -> NewestMessage:
    return NewestMessage(round=ROUNDS, expected=0, view=(), version=0, model=model)


def test_f_plus_one_that_say_so_end_the_run_with_what_2f_plus_1_agree_on():
    ctx, protocol = at_round(turn_of_others(3))
    protocol.on_message(ctx, "p05", FinishedMessage(round=ROUNDS))
    protocol.on_message(ctx, "p05", FinishedMessage(round=ROUNDS))
    assert not ctx.take(FetchMessage)
    protocol.on_message(ctx, "p01", FinishedMessage(round=ROUNDS))
    for peer in SIX[2:5]:
        protocol.on_message(ctx, peer, FinishedMessage(round=ROUNDS))
    asked = [peer for peer, _ in ctx.take(FetchMessage)]
    assert len(set(asked)) == len(asked) == 4
    for peer, model in zip(asked, (1e9, 3.0, 3.0), strict=False):
        assert ctx.finished is None
        protocol.on_message(ctx, peer, final(model))
    assert ctx.finished == 3.0


def test_where_too_few_send_the_last_model_the_own_one_is_among_those_that_decide():
    ctx, protocol = at_round(turn_of_others(3))
    for peer in ("p05", "p01"):
        protocol.on_message(ctx, peer, FinishedMessage(round=ROUNDS))
    asked = [peer for peer, _ in ctx.take(FetchMessage)]
    for peer, model in zip(asked, (1e9, 6.0), strict=False):
        protocol.on_message(ctx, peer, final(model))
    ctx.advance(protocol, 6.0)
    assert ctx.finished == 6.0  # between 1e9 and the own 5.0


@pytest.mark.parametrize("others", ["answer", "go", "are silent"])
def test_a_newcomer_takes_f_plus_1_last_models_only_where_no_more_come(others):
    """Its own model is the one of the start, which says nothing of what the two others are worth."""
    ctx, protocol = six()
    protocol.on_start(ctx)
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, FinishedMessage(round=ROUNDS))
    first, second, *more = dict.fromkeys(peer for peer, _ in ctx.take(FetchMessage))
    protocol.on_message(ctx, first, final(1e9))
    protocol.on_message(ctx, second, final(6.0))
    pass_time(ctx, protocol, 20.0)
    assert ctx.finished is None
    if others == "answer":
        protocol.on_message(ctx, more[0], final(6.0))
    elif others == "go":
        for peer in SIX[1:]:
            if peer not in (first, second):
                ctx.down.add(peer)
                protocol.on_peer(ctx, peer, False)
        pass_time(ctx, protocol, 6.0)
    else:
        pass_time(ctx, protocol, 20.0)
    assert ctx.finished == 6.0


def test_the_last_average_is_made_by_2f_plus_1():
    ctx, protocol = at_round(ROUNDS) if in_turn(ROUNDS) != "p00" else (None, None)
    if ctx is None:
        pytest.skip("the names have it that p00 averages the last round")
    ctx, protocol = six()
    protocol.on_start(ctx)
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=ROUNDS - 1))
    if ctx.training:
        ctx.end_training(protocol)
    protocol.on_message(ctx, in_turn(ROUNDS), train(ROUNDS, 5.0))
    ctx.sent.clear()
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    told = {peer for peer, _ in ctx.take(AggregateMessage)} | (
        {"p00"} if protocol._aggregator.waiting else set()
    )
    assert told == set(order(ROUNDS + 1, SIX)[:3])


def test_no_single_greeter_gives_a_newcomer_its_model():
    ctx, protocol = six()
    protocol.on_start(ctx)
    protocol.on_message(ctx, "p05", StatusMessage(round=30, newest=ROUNDS - 1, counter=1, left=False))
    pass_time(ctx, protocol, 20.0)
    assert not ctx.take(FetchMessage)
    ctx, protocol = six()
    protocol.on_start(ctx)
    for peer, newest in (("p05", ROUNDS - 1), ("p01", 7), ("p02", 8), ("p03", 8)):
        protocol.on_message(ctx, peer, StatusMessage(round=8, newest=newest, counter=1, left=False))
    ctx.advance(protocol, 1.5)
    asked = {peer for peer, _ in ctx.take(FetchMessage)}
    assert asked == {"p05", "p01", "p02", "p03"}
    for peer, round, model in (("p05", ROUNDS - 1, 1e9), ("p01", 7, 4.0), ("p02", 8, 5.0)):
        assert protocol.snapshot()["round"] == 0
        protocol.on_message(
            ctx, peer, NewestMessage(round=round, expected=0, view=(), version=0, model=model)
        )
    assert protocol.snapshot()["round"] == 8
    assert protocol._core.model == 5.0


def test_of_two_the_other_one_is_all_there_is():
    ctx, protocol = lone(hardening="all")
    ctx = LonePeer("p00", NAMES[:2])
    protocol = Modest(protocol._core.settings, rounds=ROUNDS, model=0.0)
    protocol.on_start(ctx)
    protocol.on_message(ctx, "p01", FinishedMessage(round=ROUNDS))
    protocol.on_message(ctx, "p01", final(3.0))
    assert ctx.finished == 3.0


# --- work that is of no use ---------------------------------------------------------------------------


def test_a_model_that_is_sent_again_teaches_nothing_and_is_refused():
    round = turn_of_others()
    ctx, protocol = at_round(round)
    learnt = protocol._core.patience._deliveries
    for again in range(20):
        for number in (round, round + 1):
            protocol.on_message(ctx, "p05", trained(number, 5.0, expected=6))
        ctx.time_s += 1.0
        assert learnt.count == 2
        reasons = [event.reason for event in ctx.events if isinstance(event, MessageRejected)]
        assert reasons == ["duplicate"] * 2 * again
    protocol.on_message(ctx, "p05", trained(round - 1, 5.0, expected=6))
    assert learnt.count == 2


def suspected(protocol: Modest, task: str = "") -> bool:
    """Return whether p05 is passed over; for lack of an answer, or of work."""
    suspicions = protocol._core.suspicions
    return ("p05", task) in suspicions._idle if task else "p05" in suspicions._silent


def test_only_a_model_that_enters_an_average_ends_the_suspicion_of_not_training():
    round = next(number for number in range(2, ROUNDS) if in_turn(number + 1) == "p00")
    ctx, protocol = at_round(round)
    protocol._core.suspicions.undelivered("p05", TRAINING, 1.0, now_s=ctx.now(), round=round)
    protocol.on_message(ctx, "p05", trained(round + 1, 5.0, expected=6))
    assert suspected(protocol, TRAINING)
    for peer in SIX[1:5]:
        protocol.on_message(ctx, peer, trained(round + 1, 5.0, expected=6))
    assert protocol._aggregator.averaged == 1
    assert not suspected(protocol, TRAINING)


def test_only_an_order_that_is_followed_ends_the_suspicion_of_not_averaging():
    round = turn_of_others()
    ctx, protocol = at_round(round)
    for _ in range(3):
        protocol._core.suspicions.undelivered("p05", AVERAGING, 1.0, now_s=ctx.now(), round=round)
        protocol.on_message(ctx, "p05", train(round, 5.0, expected=6))
        assert suspected(protocol, AVERAGING)
    following = next(number for number in range(round + 1, ROUNDS) if in_turn(number) == "p05")
    for peer in SIX[1:5]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=following - 1))
    protocol.on_message(ctx, "p05", train(following, 5.0, expected=6))
    assert protocol._core.train_round == following
    assert not suspected(protocol, AVERAGING)


def test_only_an_answer_to_what_was_asked_ends_the_suspicion_of_keeping_silent():
    ctx, protocol = at_round(turn_of_others())
    core = protocol._core
    for _ in range(2):
        core.unanswered("p05", 1.0)
    protocol.on_message(ctx, "p05", PongMessage(nonce=0, round=0, version=0))
    assert suspected(protocol)
    core.searches.begin(
        ctx,
        "again",
        ["p05"],
        wanted=1,
        width=1,
        nonce=7,
        round=core.round,
        then=lambda ctx, sample: None,
    )
    protocol.on_message(ctx, "p05", PongMessage(nonce=8, round=0, version=0))
    assert suspected(protocol)
    protocol.on_message(ctx, "p05", PongMessage(nonce=7, round=0, version=0))
    assert not suspected(protocol)


def test_the_same_model_is_given_a_few_times_over_one_connection_and_a_newer_one_again():
    ctx, protocol = at_round(3)
    for newest in (3, 4):
        protocol._core.take_model(5.0, newest=newest)
        for _ in range(100):
            protocol.on_message(ctx, "p05", FetchMessage(round=0))
        assert [model.round for _, model in ctx.take(NewestMessage)] == [newest] * GIVEN_MAX
        assert ctx.rejected[-1] == "asked-again"
    protocol.on_peer(ctx, "p05", False)
    protocol.on_message(ctx, "p05", FetchMessage(round=0))
    assert len(ctx.take(NewestMessage)) == 1


def test_the_final_model_is_given_a_few_times_over_one_connection():
    ctx, protocol = at_round(3)
    protocol._final(ctx, 5.0)
    for _ in range(100):
        protocol.on_message(ctx, "p05", FetchMessage(round=ROUNDS - 1))
    assert len(ctx.take(NewestMessage)) == GIVEN_MAX


def test_what_one_peer_says_all_the_time_does_not_keep_another_from_saying_hello():
    def hellos(speakers: tuple[str, ...]) -> int:
        ctx, protocol = six(refresh_s=10.0)
        protocol.on_start(ctx)
        ctx.training.clear()
        for peer in SIX[1:]:
            protocol.on_message(ctx, peer, PingMessage(nonce=0, round=0))
        ctx.sent.clear()
        for _ in range(30):
            for peer in speakers:
                protocol.on_message(ctx, peer, PingMessage(nonce=0, round=0))
            ctx.advance(protocol, 0.9)
        return sum(message.change == "hello" for _, message in ctx.take(MemberMessage))

    assert hellos(("p05",)) == hellos(()) > 0
    assert hellos(("p04", "p05")) == 0


def test_whoever_is_in_a_sample_need_not_say_hello():
    settings = ModestSettings(hardening=("H1", "H2", "H3", "H5", "H6", "H7"), refresh_s=10.0)
    me = next(name for name in SIX if name != in_turn(2))
    ctx, protocol = LonePeer(me, SIX), Modest(settings, rounds=ROUNDS, model=0.0)
    protocol.on_start(ctx)
    ctx.advance(protocol, 9.0)
    protocol.on_message(ctx, in_turn(2), train(2, 5.0, expected=6))
    assert protocol._core.train_round == 2
    ctx.advance(protocol, 9.0)
    assert "hello" not in {message.change for _, message in ctx.take(MemberMessage)}
    ctx.advance(protocol, 2.0)
    assert "hello" in {message.change for _, message in ctx.take(MemberMessage)}


@pytest.mark.parametrize("answers", [False, True])
def test_whoever_stands_before_the_sender_of_an_order_has_to_answer_what_it_was_asked(answers):
    names = tuple(f"p{number:02d}" for number in range(30))
    ctx, protocol = LonePeer("p00", names), Modest(ModestSettings(), rounds=ROUNDS, model=0.0)
    protocol.on_start(ctx)
    for peer in names[1:3]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=3))
    first, second = [peer for peer in order(4, names) if peer != "p00"][:2]
    ctx.sent.clear()
    protocol.on_message(ctx, second, train(4, 5.0, expected=10))
    asked = [ping.nonce for peer, ping in ctx.take(PingMessage) if peer == first]
    protocol.on_message(ctx, first, PongMessage(nonce=asked[-1] if answers else 1, round=3, version=0))
    ctx.advance(protocol, 2.1)  # as long as an answer may take before any has come
    assert (first in protocol._core.suspicions._silent) == (not answers)


# --- what is kept of what cannot be followed yet -------------------------------------------------------


def test_few_orders_are_held_of_those_that_come_first():
    names = tuple(f"p{number:02d}" for number in range(30))
    ctx, protocol = LonePeer("p00", names), Modest(ModestSettings(), rounds=ROUNDS, model=0.0)
    protocol.on_start(ctx)
    for peer in names[1:3]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=3))
    early = [peer for peer in order(4, names) if peer != "p00"][1 : HELD_MAX + 4]
    for peer in reversed(early):
        protocol.on_message(ctx, peer, train(4, 5.0, expected=10))
    assert set(protocol._orders._held) == set(early[:HELD_MAX])


def test_votes_are_kept_for_two_rounds():
    ctx, protocol = six(aggregators=3)
    for round in range(2, 9):
        protocol._orders._votes.cast(ctx, "p05", round=round, expected=6, model=5.0)
    assert sorted(protocol._orders._votes._ballots) == [2, 3]


def early(start: int = 3) -> int:
    """Return a round from `start` on of which p05, the liar, is one of three aggregators and p00 is none."""
    return next(r for r in range(start, 99) if "p05" in order(r, SIX)[:3] and "p00" not in order(r, SIX)[:3])


def before(round: int, **options: Any) -> tuple[LonePeer, Modest, list[str]]:
    """Return p00 that trains in the round before `round`, with three aggregators, and the honest ones of `round`."""
    ctx, protocol = six(aggregators=3, **options)
    protocol.on_start(ctx)
    if ctx.training:
        ctx.end_training(protocol)
    for peer in SIX[1:]:
        protocol.on_message(ctx, peer, PingMessage(nonce=0, round=round - 2))
    for peer in order(round - 1, SIX)[:3]:
        if peer != "p00":
            protocol.on_message(ctx, peer, train(round - 1, 5.0, expected=6))
    pass_time(ctx, protocol, 40.0)
    assert protocol.round == round - 1
    ctx.end_training(protocol)
    answer_pings(ctx, protocol)
    return ctx, protocol, [peer for peer in order(round, SIX)[:3] if peer != "p05"]


def test_f_votes_begin_no_round_however_long_the_others_take():
    """But with one more, of which one is honest, it does."""
    round = early()
    ctx, protocol, honest = before(round, hardening=["H1", "H2", "H3", "H5", "H6", "H7"])
    protocol.on_message(ctx, "p05", train(round, 1e9, expected=1))
    pass_time(ctx, protocol, 3600.0)
    assert not ctx.training
    assert protocol.round == round - 1
    protocol.on_message(ctx, honest[0], train(round, 6.0, expected=6))
    assert not ctx.training, "the third has as much time as the second"
    pass_time(ctx, protocol, 40.0)
    assert protocol.round == round
    assert ctx.training[0][1] == 6.0 + 1  # between 1e9 and the own 5.0


@pytest.mark.parametrize("left", ["nobody", "a liar"])
def test_whoever_is_left_alone_or_with_a_liar_begins_a_round_with_its_own_average(left):
    round = early()
    ctx, protocol, _ = before(round)
    for peer in SIX[1:]:
        if (left, peer) != ("a liar", "p05"):
            ctx.down.add(peer)
            protocol.on_peer(ctx, peer, False)
    if left == "a liar":
        protocol.on_message(ctx, "p05", train(round, 1e9, expected=1))
    pass_time(ctx, protocol, 200.0)
    assert ctx.trained[-1] == round - 1
    # Of its average of what it trained itself, or of the one before, from which it starts after a stall.
    assert ctx.training[0][1] in (5.0 + 1 + 1, 5.0 + 1)


def test_a_claim_of_a_round_too_far_ahead_is_not_noted():
    ctx, protocol = six(rounds_ahead_max=5)
    for claimed, noted in ((6, -1), (5, 5)):
        protocol.on_message(ctx, "p05", PingMessage(nonce=0, round=claimed))
        assert protocol._core.claims.of("p05") == noted


# --- any number of lies -------------------------------------------------------------------------------


class AmongLiars(RuleBasedStateMachine):
    """Eight honest peers say what is true, late and twice; one says what it likes.

    Nobody begins rounds after a stall here (H4): then time itself would be what moves a peer on.
    """

    @initialize()
    def begin(self) -> None:
        self.ctx, self.protocol = lone(
            hardening=["H1", "H2", "H3", "H5", "H6", "H7"], sample_size=10, stall_s=20.0
        )
        self.protocol.on_start(self.ctx)
        self.true_round = 1

    @rule()
    def a_round_begins(self) -> None:
        self.true_round = min(self.true_round + 1, ROUNDS)

    @rule(peer=st.sampled_from(NAMES[1:9]), ago=st.integers(0, 3), kind=st.integers(0, 4))
    def honest(self, peer: str, ago: int, kind: int) -> None:
        round = max(1, self.true_round - ago)
        said = (
            PingMessage(nonce=1, round=round),
            PongMessage(nonce=1, round=round, version=0),
            train(round, 5.0),
            trained(round + 1, 5.0),
            MemberMessage(change="hello", round=round, counter=1),
        )
        self.protocol.on_message(self.ctx, peer, said[kind])

    @rule(round=st.integers(1, ROUNDS), kind=st.sampled_from(sorted(LIES)), more=st.integers(0, 2))
    def lie(self, round: int, kind: str, more: int) -> None:
        self.protocol.on_message(self.ctx, "p09", LIES[kind]())
        if more == 1:
            self.protocol.on_message(self.ctx, "p09", train(round, 9.0, expected=1))
        elif more == 2 and round > 1:
            self.protocol.on_message(self.ctx, "p09", trained(round, 9.0, expected=1))

    @rule(seconds=st.floats(0.1, 30))
    def wait(self, seconds: float) -> None:
        self.ctx.advance(self.protocol, seconds)

    @rule()
    def answer(self) -> None:
        for peer, ping in self.ctx.take(PingMessage):
            round = ROUNDS if peer == "p09" else self.true_round
            self.protocol.on_message(self.ctx, peer, PongMessage(nonce=ping.nonce, round=round, version=0))

    @rule()
    def end(self) -> None:
        if self.ctx.training:
            self.ctx.end_training(self.protocol)

    @invariant()
    def no_more_than_one_round_ahead_of_the_fastest(self) -> None:
        if hasattr(self, "ctx"):
            assert self.protocol.round <= self.true_round + 1
            assert all(round + 1 <= self.true_round + 1 for round in self.ctx.trained)

    @invariant()
    def nobody_is_lost_and_nothing_ends(self) -> None:
        if hasattr(self, "ctx"):
            assert all(not self.protocol._core.view[peer][2] for peer in NAMES)
            assert self.ctx.finished is None or self.true_round == ROUNDS

    @invariant()
    def the_inbox_is_bounded(self) -> None:
        if hasattr(self, "ctx"):
            inboxes = self.protocol._aggregator._inboxes
            assert sum("p09" in inbox.models for inbox in inboxes.values()) <= 2


TestAmongLiars = AmongLiars.TestCase
TestAmongLiars.settings = tried(0.6, stateful_step_count=40)
