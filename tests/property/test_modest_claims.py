"""What round it is when some lie, whom to pass over, and how long to wait."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols.modest.claims import Claims, liars_max
from gossip.protocols.modest.patience import Patience
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.modest.suspicion import AVERAGING, TRAINING, Suspicions

NAMES = tuple(f"p{i:02d}" for i in range(9))
claims_of = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 50)), max_size=40)


@given(claims_of, st.integers(0, 3), st.integers(0, 50), st.lists(st.integers(0, 10**9), max_size=20))
def test_no_f_liars_make_anybody_believe_in_a_round_that_no_honest_peer_claims(said, liars, certain, lies):
    claims = Claims(certain=certain, liars=liars)
    villains = [f"v{i}" for i in range(liars)]
    for number, (peer, round) in enumerate(said):
        claims.note(peer, round)
        if villains and lies:
            claims.note(villains[number % liars], lies[number % len(lies)])
    honest = max([certain, *(round for _, round in said)])
    assert claims.round <= honest


@given(claims_of, st.integers(0, 3))
def test_what_f_plus_one_claim_is_believed(said, liars):
    claims = Claims(certain=0, liars=liars)
    for peer, round in said:
        claims.note(peer, round)
    highest = {peer: max(round for other, round in said if other == peer) for peer, _ in said}
    wanted = sorted(highest.values(), reverse=True)[liars] if len(highest) > liars else 0
    assert claims.round == wanted


@given(claims_of, st.integers(0, 3))
def test_the_round_never_falls_not_even_when_peers_are_taken_off_the_list(said, liars):
    claims = Claims(certain=3, liars=liars)
    before = claims.round
    for peer, round in said:
        claims.note(peer, round)
        assert claims.round >= before
        before = claims.round
    claims.replace_population(NAMES[:3], liars=liars)
    assert claims.round == before


def test_whoever_is_taken_off_the_list_claims_nothing_any_more():
    claims = Claims(certain=0, liars=1)
    claims.note("p00", 9)
    claims.replace_population(NAMES[1:], liars=1)
    claims.note("p01", 9)
    assert claims.round == 0
    claims.note("p02", 8)
    assert claims.round == 8


@given(st.integers(2, 200), st.integers(1, 64), st.integers(0, 20))
def test_the_honest_can_always_do_without_the_f(peers, sample_size, wanted):
    liars = liars_max(wanted, peers=peers, sample_size=sample_size)
    assert 0 <= liars <= wanted
    if liars:
        assert peers - 1 - liars >= liars + 1
        assert min(peers, sample_size) - liars >= liars + 1


def test_four_peers_and_samples_of_three_put_up_with_one():
    assert [liars_max(1, peers=n, sample_size=10) for n in (2, 3, 4, 6)] == [0, 0, 1, 1]
    assert [liars_max(1, peers=9, sample_size=s) for s in (1, 2, 3)] == [0, 0, 1]


# --- whom to pass over --------------------------------------------------------------------------------


def suspect(suspicions: Suspicions, peer: str = "p01", **known: Any) -> bool:
    return suspicions.is_suspect(peer, **{"now_s": 0.0, "round": 5, "counter": 0, "active": 0, **known})


def silent(suspicions: Suspicions, peer: str = "p01", now_s: float = 0.0) -> None:
    suspicions.unanswered(peer, 1.0, now_s=now_s, round=5, counter=0)


def test_the_first_time_a_sign_of_life_excuses_and_later_only_an_answer_does():
    suspicions = Suspicions(rounds=30)
    silent(suspicions)
    assert suspect(suspicions)
    suspicions.alive("p01")
    assert not suspect(suspicions)
    silent(suspicions)
    suspicions.alive("p01")  # it connects again and again, and never answers
    assert suspect(suspicions)
    assert suspect(suspicions, counter=9, active=9)
    suspicions.answered("p01")
    assert not suspect(suspicions)


def test_a_connection_that_is_not_there_is_no_failure():
    suspicions = Suspicions(rounds=30)
    for _ in range(5):
        suspicions.unreachable("p01", round=5, counter=0)
        assert suspect(suspicions)
        suspicions.alive("p01")
        assert not suspect(suspicions)


@pytest.mark.parametrize("task", [TRAINING, AVERAGING])
def test_whoever_does_not_deliver_is_passed_over_for_longer_each_time_until_it_does(task):
    suspicions = Suspicions(rounds=30)
    now_s, lengths = 0.0, []
    for _ in range(4):
        suspicions.undelivered("p01", task, 2.0, now_s=now_s, round=5)
        began_s = now_s
        suspicions.alive("p01")
        suspicions.answered("p01")
        while suspect(suspicions, now_s=now_s, round=10**6):
            now_s += 1.0
        lengths.append(now_s - began_s)
    assert lengths == [200.0, 400.0, 800.0, 1600.0]
    suspicions.undelivered("p01", task, 2.0, now_s=now_s, round=5)
    suspicions.delivered("p01", TRAINING if task == AVERAGING else AVERAGING)
    assert suspect(suspicions, now_s=now_s)
    suspicions.delivered("p01", task)
    assert not suspect(suspicions, now_s=now_s)


def test_whoever_is_late_twice_is_excused_and_whoever_is_late_always_is_not():
    suspicions = Suspicions(rounds=30)
    excused = []
    for _ in range(4):
        suspicions.undelivered("p01", TRAINING, 1.0, now_s=0.0, round=5)
        suspicions.delivered_late("p01", TRAINING, now_s=0.0)
        excused.append(not suspect(suspicions))
    assert excused == [True, True, False, False]


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=30), st.integers(1, 3))
def test_no_more_are_taken_for_idle_than_may_be(peers, most):
    suspicions = Suspicions(rounds=30)
    suspicions.idle_max = most
    for number, peer in enumerate(peers):
        suspicions.undelivered(peer, TRAINING, 1.0, now_s=float(number), round=5)
    now_s = float(len(peers))
    assert sum(suspect(suspicions, peer, now_s=now_s) for peer in NAMES) <= most


# --- how long to wait ---------------------------------------------------------------------------------

WAITS = ("pong_s", "delivery_s", "ack_s", "round_s", "stall_s")


def patience(**options: Any) -> Patience:
    return Patience(ModestSettings.model_validate({"kind": "modest", **options}))


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1e4)), max_size=60))
def test_the_settings_times_are_never_exceeded(seen):
    found = patience()
    for kind, seconds in seen:
        match kind:
            case 0:
                found.updated(seconds)
            case 1:
                found.answered(seconds)
            case 2:
                found.delivered(seconds)
            case 3:
                found.confirmed(seconds)
            case _:
                found.advanced(1, seconds)
    assert 0 < found.pong_s() <= 5.0
    assert 0 < found.delivery_s() <= 20.0
    assert 0 < found.ack_s() <= 30.0
    assert 0 < found.round_s() <= 15.0
    assert 0 < found.stall_s() <= 60.0


def quick(late: int) -> Patience:
    """Return the patience of a peer in a quick network in which `late` of six always take very long."""
    found = patience()
    for _ in range(4):
        for number in range(6):
            seconds = 100.0 if number < late else 0.01 + number / 1000
            found.updated(0.05)
            found.answered(seconds)
            found.delivered(seconds)
            found.confirmed(seconds)
            found.advanced(1, 0.06)
    return found


def test_one_of_six_that_is_late_by_any_time_moves_no_wait():
    with_one, without = quick(1), quick(0)
    for wait in WAITS:
        assert getattr(with_one, wait)() == pytest.approx(getattr(without, wait)(), abs=0.1)
    assert without.delivery_s() < 0.5
    assert without.ack_s() < 1.0
    assert without.stall_s() < 6.0


def test_an_aggregator_that_waits_for_the_silent_is_not_taken_for_silent():
    found = quick(0)
    assert found.ack_s() > found.delivery_s() + 0.1
    assert found.round_s() > found.delivery_s() + 0.1


def test_whoever_has_never_trained_waits_for_models_as_the_settings_say():
    found = patience()
    for _ in range(9):
        found.delivered(0.0)
    assert found.delivery_s() == 20.0


def test_slow_updates_make_patient():
    found = quick(0)
    for _ in range(16):
        found.updated(8.0)
    assert found.delivery_s() >= 8.0
