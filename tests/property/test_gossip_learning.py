"""Laws of gossip learning's parts: age-weighted and limited merges, token accounts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gossip.protocols.push.ages import believed, merge_weights
from gossip.protocols.push.arrivals import SAVED_MAX, Arrivals
from gossip.protocols.push.catching_up import find_beginning
from gossip.protocols.push.inbox import ReceivedModel
from gossip.protocols.push.memory import Memory
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.tokens import TokenAccount

NO_LIMIT = 2**31
ages = st.integers(0, 10_000)
some_ages = st.lists(ages, min_size=1, max_size=8)
betas = st.one_of(st.none(), st.floats(0, 1))

# --- G1, G4: merges by age ---


@given(ages, some_ages, st.booleans(), betas, st.integers(0, 100))
def test_weights_are_convex_and_the_age_is_the_largest_that_counted(own, received, by_age, beta, limit):
    weights = merge_weights(own, received, by_age=by_age, self_weight=beta, limit=limit)
    if weights is None:
        assert all(age == 0 or own - age > limit for age in received)
        return
    assert math.isclose(weights.own + math.fsum(weights.received), 1, abs_tol=1e-12)
    assert min(weights.own, *weights.received) >= 0
    assert weights.age == max([own, *(age for age in received if own - age <= limit)])


@given(ages, ages)
def test_two_models_weigh_as_in_the_age_weighted_merge_of_gossip_learning(own, other):
    weights = merge_weights(own, [other], by_age=True, limit=NO_LIMIT)
    if other == 0:
        assert weights is None  # both zero, too: own is kept
        return
    share = other / (own + other)
    assert weights == (pytest.approx(1 - share), [pytest.approx(share)], max(own, other))


@given(st.integers(1, 10_000), st.lists(st.just(0), min_size=1, max_size=5), st.booleans(), betas)
def test_a_model_of_age_zero_never_changes_a_trained_one_and_gives_way_to_one(own, zeros, by_age, beta):
    assert merge_weights(own, zeros, by_age=by_age, self_weight=beta, limit=NO_LIMIT) is None
    weights = merge_weights(0, [*zeros, own], by_age=by_age, self_weight=beta, limit=NO_LIMIT)
    assert weights is not None
    assert weights.own == 0
    assert weights.received == [0.0] * len(zeros) + [1.0]


@given(ages, some_ages, st.booleans(), betas)
def test_a_limit_that_is_never_reached_changes_nothing(own, received, by_age, beta):
    wide = merge_weights(own, received, by_age=by_age, self_weight=beta, limit=10_000)
    assert wide == merge_weights(own, received, by_age=by_age, self_weight=beta, limit=NO_LIMIT)


@given(ages, some_ages, st.booleans(), betas, st.integers(0, 100))
def test_models_behind_the_limit_are_left_out_as_if_they_had_not_come(own, received, by_age, beta, limit):
    weights = merge_weights(own, received, by_age=by_age, self_weight=beta, limit=limit)
    left = [age for age in received if own - age <= limit]
    alone = merge_weights(own, left, by_age=by_age, self_weight=beta, limit=limit) if left else None
    if weights is None or alone is None:
        assert weights is alone is None
        return
    assert [
        w for age, w in zip(received, weights.received, strict=True) if own - age <= limit
    ] == alone.received
    assert all(w == 0 for age, w in zip(received, weights.received, strict=True) if own - age > limit)
    assert weights.age == alone.age


@given(st.integers(1, 100), some_ages)
def test_with_the_limit_zero_only_models_at_least_as_old_are_merged(own, received):
    weights = merge_weights(own, received, by_age=True, limit=0)
    older = [age for age in received if age >= own]  # those that are older the protocol takes over
    assert (weights is None) == (not older)
    if weights is not None:
        assert [w > 0 for w in weights.received] == [age >= own for age in received]


def test_a_peer_that_would_merge_nothing_of_others_is_refused():
    with pytest.raises(ValidationError, match="less than 1"):
        PushSettings(self_weight=1.0)


# --- what is believed ---


@given(ages, some_ages, st.integers(1, 5))
def test_an_age_is_believed_as_far_as_others_vouch_for_it_and_one_update_beyond(own, claims, witnesses):
    heard = believed(own, claims, witnesses=witnesses)
    vouched_for = max(
        (age for age in claims if sum(other >= age for other in claims) >= witnesses), default=0
    )
    for age, taken in zip(claims, heard, strict=True):
        assert taken == min(age, max(own, vouched_for) + (witnesses > 1))


@given(st.data(), st.integers(1, 4), st.integers(0, 5), st.integers(0, 9), st.integers(0, 50))
def test_fewer_liars_than_witnesses_never_have_the_most_of_what_a_peer_begins_from(
    data, witnesses, more, others, own_age
):
    """Nor do they raise its age beyond the honest ones', or keep it behind once 2 w - 1 honest models are there."""
    settings = PushSettings(witnesses=witnesses)
    honest = data.draw(st.lists(st.integers(100, 10_000), min_size=more, max_size=more))
    lies = data.draw(st.lists(st.integers(100, 2**53), max_size=witnesses - 1))
    names = data.draw(st.permutations([f"p{place}" for place in range(len(honest) + len(lies))]))
    kept = [ReceivedModel(age, name, 1, None) for age, name in zip([*honest, *lies], names, strict=True)]
    ahead, contacts = sorted(kept, key=lambda each: each.age), len(names) + others
    beginning = find_beginning(ahead, settings, own_age=own_age, contacts=contacts)
    if beginning is None:
        assert len(names) < 2 * witnesses - 1
        if own_age and contacts == 2 * witnesses - 2:
            assert others or not contacts, "all contacts and the own model are as many as are asked for"
        return
    assert beginning.models == ahead, "each once, all of them"
    assert (beginning.own_weight > 0) == (len(ahead) == contacts == 2 * witnesses - 2)
    assert math.isclose(beginning.own_weight + math.fsum(beginning.weights), 1)
    assert min(beginning.weights) > 0
    assert 2 * len(lies) < len(ahead) + (beginning.own_weight > 0)
    assert beginning.age <= max(honest)
    assert (beginning.age, beginning.sender) in {(each.age, each.sender) for each in kept}


@given(st.integers(100, 10_000), st.integers(100, 2**53), st.integers(1, 50), st.booleans())
def test_with_two_contacts_the_larger_claim_weighs_no_more_and_the_own_model_counts(
    age, lie, own_age, by_age
):
    settings = PushSettings(weighting="age" if by_age else "uniform")
    ahead = sorted(
        [ReceivedModel(age, "p1", 1, None), ReceivedModel(lie, "p2", 1, None)], key=lambda each: each.age
    )
    beginning = find_beginning(ahead, settings, own_age=own_age, contacts=2)
    assert beginning is not None
    first, second = beginning.weights
    assert first == pytest.approx(second)
    assert 0 < beginning.own_weight <= 1 / 3 + 1e-9
    assert beginning.age == min(age, lie)
    assert find_beginning(ahead, settings, own_age=0, contacts=2) is None, "an untrained model counts as none"
    assert find_beginning(ahead, settings, own_age=own_age, contacts=3) is None, "a third may come"
    assert find_beginning(ahead[:1], settings, own_age=own_age, contacts=1) is None


@given(ages, st.lists(ages, min_size=2, max_size=8), st.integers(0, 2**53))
def test_one_liar_among_honest_neighbours_moves_an_age_by_one_at_most(own, honest, lie):
    oldest = max(own, *honest)
    heard = believed(own, [*honest, lie], witnesses=2)
    assert max(own, *heard) <= oldest + 1


@given(ages, some_ages)
def test_whoever_asks_for_no_witness_believes_everybody(own, claims):
    assert believed(own, claims, witnesses=1) == [min(age, max(own, *claims)) for age in claims] == claims


# --- G3: token accounts ---

strategies = st.sampled_from(["proactive", "simple", "generalised", "randomised"])


@st.composite
def accounts(draw: st.DrawFn) -> PushSettings:
    capacity = draw(st.integers(1, 20))
    return PushSettings(
        tokens=draw(strategies), token_reach=draw(st.integers(1, capacity)), token_capacity=capacity
    )


@given(accounts(), st.lists(st.sampled_from(["tick", "news", "old news"]), max_size=200), st.integers(0, 99))
def test_a_balance_is_never_negative_and_pushes_are_at_most_ticks_and_the_capacity(settings, events, seed):
    account, rng = TokenAccount(settings), np.random.default_rng(seed)
    pushes = ticks = 0
    for event in events:
        if event == "tick":
            ticks += 1
            pushes += account.tick(rng.random)
        else:
            pushes += account.react(useful=event == "news", draw=rng.random)
        assert 0 <= account.balance <= settings.token_capacity
        assert pushes + account.balance == ticks  # so never more than one a period in the long run
        assert pushes <= ticks + settings.token_capacity


@given(st.lists(st.booleans(), max_size=50))
def test_the_proactive_strategy_pushes_exactly_once_a_period_and_never_in_answer(news):
    account = TokenAccount(PushSettings())
    for useful in news:
        assert account.tick(lambda: 0.999)
        assert account.react(useful=useful, draw=lambda: 0.0) == 0


@pytest.mark.parametrize("tokens", ["simple", "generalised", "randomised"])
def test_without_news_an_account_fills_up_and_then_pushes_at_every_wake_up(tokens):
    settings = PushSettings(tokens=tokens, token_reach=5, token_capacity=10)
    account = TokenAccount(settings)
    rng = np.random.default_rng(1)
    for _ in range(200):
        account.tick(rng.random)
    assert account.balance == 10
    assert all(account.tick(rng.random) for _ in range(20))


def test_the_reactive_formulas_of_the_paper():
    def reactive(tokens: str, balance: int, *, useful: bool) -> int:
        settings = PushSettings(tokens=tokens, token_reach=10, token_capacity=20)
        return TokenAccount(settings, balance).reactive(useful=useful, draw=lambda: 0.5)

    assert [reactive("generalised", a, useful=True) for a in (0, 1, 10, 11, 20)] == [0, 1, 1, 2, 2]
    assert [reactive("generalised", a, useful=False) for a in (0, 10, 11, 20)] == [0, 0, 1, 1]
    assert [reactive("simple", a, useful=True) for a in (0, 1, 20)] == [0, 1, 1]
    assert [reactive("randomised", a, useful=True) for a in (0, 4, 6, 10, 16)] == [0, 0, 1, 1, 2]
    assert reactive("randomised", 20, useful=False) == 0


def test_the_proactive_formulas_of_the_paper():
    settings = PushSettings(tokens="randomised", token_reach=10, token_capacity=20)
    chances = [TokenAccount(settings, a).proactive() for a in (0, 9, 10, 20)]
    assert chances == [0, 0, pytest.approx(1 / 11), 1]


def test_the_own_age_is_a_witness_of_itself_and_never_falls_in_a_merge():
    assert believed(10, [7], witnesses=2) == [7]
    assert believed(10, [11], witnesses=2) == [11]
    assert believed(10, [15, 3], witnesses=2) == [11, 3]
    merged = merge_weights(10, [3, 4], by_age=True, limit=NO_LIMIT)
    assert merged is not None
    assert merged.age == 10


# --- memory ---

senders = st.sampled_from("abcdef")
merges = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.lists(senders, unique=True, min_size=1)), max_size=30
)
"""Own wake-ups and own updates since the last merge, and of whom something new has come."""


@given(merges, st.integers(0, 6), st.integers(0, 4), st.sets(senders))
def test_a_merge_sees_the_last_model_of_each_contact_that_is_not_too_old_and_no_other(
    merges, periods, limit, contacts
):
    memory, last = Memory(periods), {}
    wake_ups = age = 0
    for number, (slept, trained, names) in enumerate(merges):
        wake_ups += slept
        age += trained
        fresh = [ReceivedModel(age, name, number, f"{name} {number}") for name in names]
        recalled = memory.recall(fresh, wake_ups=wake_ups, age_min=age - limit, contacts=contacts)
        assert (
            recalled
            == [
                kept
                for name, (kept, then) in sorted(last.items())
                if name in contacts - set(names) and wake_ups - then <= periods and kept.age >= age - limit
            ][: None if periods else 0]
        )
        assert len(memory) <= len(contacts | set(names))
        last |= {each.sender: (each, wake_ups) for each in fresh}


@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(0, 10),
    st.sampled_from(["wake-up", "full"]),
    st.integers(1, 3),
)
def test_half_of_all_merges_have_as_many_models_as_is_usual(degree, fanout, memory, merge_when, rounds):
    push = PushSettings(fanout=fanout, memory=memory, merge_when=merge_when, buffer_rounds=rounds)
    share = push.share(degree)
    periods = memory + (1 if merge_when == "wake-up" else rounds / share)
    there = 1 - (1 - share) ** periods
    usual = push.models_usual(degree)
    as_many = [
        math.comb(degree, n) * there**n * (1 - there) ** (degree - n) for n in range(usual, degree + 1)
    ]
    assert sum(as_many) >= 0.5 - 1e-9
    assert usual <= push.model_copy(update={"memory": 10}).models_usual(degree), "more memory, more models"


def test_more_memory_than_models_may_be_old_is_refused():
    with pytest.raises(ValidationError, match="memory = 11 is above age_limit = 10"):
        PushSettings(memory=11)


# --- how often one is heard ---


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), min_size=1, max_size=10),
    st.integers(1, 30),
    st.sampled_from(["proactive", "simple"]),
)
def test_silence_saves_a_sender_no_more_than_one_burst(times, capacity, tokens):
    """After a long silence, or again and again after many, a burst counts at once and then one a period."""
    settings = PushSettings(tokens=tokens, token_capacity=capacity)
    assert SAVED_MAX <= 10, "a few periods' worth"
    burst = SAVED_MAX + (capacity if tokens == "simple" else 0)
    arrivals, wake_ups, counted = Arrivals(settings), 0, 0
    for number, (silent, pushes) in enumerate(times):
        wake_ups += silent
        now = sum(arrivals.came("p1", wake_ups) for _ in range(pushes))
        counted += now
        assert now <= burst
        assert counted <= burst + wake_ups
        if number == 0 or silent >= burst:
            assert now == min(pushes, burst), "an honest one's burst counts"
    assert arrivals.count == counted
