"""What a peer waits longer than for most neighbours is paid for, whatever they do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols.rounds.catching_up import most_of
from gossip.protocols.rounds.deadlines import ArrivalDeadline
from gossip.protocols.rounds.patience import (
    LAST_FLOORS,
    LITTLE_FLOORS,
    OPENING_FLOORS,
    SAVED_ROUNDS,
    Account,
    Patience,
    counted_as_most,
)
from gossip.protocols.settings import RoundsSettings

SETTINGS = RoundsSettings()
FLOOR_S, SHARE, CAP_S = SETTINGS.deadline_floor_s, SETTINGS.deadline_share, SETTINGS.deadline_cap_s

delays = st.floats(0, 200) | st.sampled_from([0.0, FLOOR_S, CAP_S, math.inf])
"""How late a neighbour's model comes; infinite: never."""
rounds = st.lists(st.tuples(st.floats(0, 50), st.lists(delays, min_size=1, max_size=6)), max_size=40)


def arrivals_of(*delays_s: float) -> ArrivalDeadline:
    arrivals = ArrivalDeadline()
    for delay_s in delays_s:
        arrivals.observe(delay_s)
    return arrivals


def come(patience: Patience, now_s: float) -> bool:
    """Take a model that was waited for; return whether most have come by now, and had not before."""
    patience.short -= 1
    if patience.short:
        return False
    patience.most_came(now_s)
    return True


class Waiting:
    """A peer that waits for the same neighbours in every step, for as long as its patience allows."""

    def __init__(self) -> None:
        self.patience = Patience(SETTINGS)
        self.known: dict[int, ArrivalDeadline] = {}
        self.now_s = self.other_s = self.extra_s = 0.0

    def step(self, update_s: float, delays_s: list[float]) -> float:
        """Return how long the step took after the update."""
        patience = self.patience
        known = [self.known.setdefault(k, ArrivalDeadline()) for k in range(len(delays_s))]
        self.now_s += update_s
        patience.begin_round(update_s)
        patience.begin(self.now_s, counted=len(delays_s), come=0, after_update=True)
        missing = dict(enumerate(delays_s))
        waited_s = most_s = 0.0
        while missing:
            next_one = min(missing, key=missing.__getitem__)
            deadline_s = patience.deadline_s([known[k] for k in missing], known)
            if missing[next_one] > deadline_s:
                waited_s = max(waited_s, deadline_s)
                break
            waited_s = missing.pop(next_one)
            known[next_one].observe(waited_s)
            if come(patience, self.now_s + waited_s):
                most_s = waited_s
                missing = {k: delay_s for k, delay_s in missing.items() if patience.can_afford(known[k])}
        if not patience.most_have_come:
            most_s = waited_s
        self.now_s += waited_s
        patience.end(self.now_s)
        self.extra_s += waited_s - most_s
        self.other_s += update_s + most_s
        return waited_s


@given(rounds)
def test_extra_waiting_is_at_most_the_opening_balance_and_a_share_of_all_other_time(sequence):
    waiting = Waiting()
    for update_s, delays_s in sequence:
        waiting.step(update_s, delays_s)
        assert waiting.extra_s <= OPENING_FLOORS * FLOOR_S + SHARE * waiting.other_s + 1e-6


@given(rounds)
def test_no_step_waits_longer_than_the_cap(sequence):
    waiting = Waiting()
    for update_s, delays_s in sequence:
        assert waiting.step(update_s, delays_s) <= CAP_S


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60))
def test_an_account_is_never_overdrawn_when_no_wait_takes_more_than_half_and_saves_no_end(entries):
    account = Account(share=SHARE, floor_s=FLOOR_S)
    longest_s = 0.0
    for pays, seconds in entries:
        if pays:
            account.pay(min(seconds, account.balance_s / 2))
        else:
            account.earn(seconds)
            longest_s = max(longest_s, seconds)
        assert 0 <= account.balance_s <= OPENING_FLOORS * FLOOR_S + 2 * longest_s


@pytest.mark.parametrize("floor_s", [0.5, 3.0])
@pytest.mark.parametrize("round_s", [1.0, 10.0, 100.0])
def test_who_is_late_by_a_round_can_be_paid_for_once_enough_is_saved(round_s, floor_s):
    account = Account(share=SHARE, floor_s=floor_s)
    for _ in range(100):
        account.earn(round_s)
    assert account.balance_s / 2 >= round_s
    assert account.balance_s <= OPENING_FLOORS * floor_s + SAVED_ROUNDS * round_s


@given(st.integers(3, 100))
def test_most_are_as_many_as_for_catching_up_and_of_two_it_is_one(count):
    assert counted_as_most(count) == most_of(count)
    assert [counted_as_most(few) for few in (0, 1, 2)] == [0, 1, 1]


def test_in_the_first_wait_who_never_delivered_is_waited_for_until_most_have_come_and_as_long_again():
    patience, new = Patience(SETTINGS), ArrivalDeadline()
    patience.begin_round(1.0)
    patience.begin(100.0, counted=3, come=0, after_update=True)
    assert patience.deadline_s([new] * 3, [new] * 3) == CAP_S
    assert not come(patience, 100.5)
    assert come(patience, 102.5)
    # Own update and the others' way took 3.5 s.
    assert patience.deadline_s([new], [new] * 3) == pytest.approx(2.5 + 3.5)
    patience.begin(100.0, counted=3, come=0, after_update=False)
    assert come(patience, 102.5) is False
    assert come(patience, 103.5)
    assert patience.deadline_s([new], [new] * 3) == pytest.approx(3.5 + 3.5), "no update was waited for"
    patience.begin(100.0, counted=3, come=2, after_update=True)
    assert patience.deadline_s([new], [new] * 3) == FLOOR_S


def test_who_never_delivered_is_not_waited_for_longer_than_those_who_did():
    patience, new, known = Patience(SETTINGS), ArrivalDeadline(), arrivals_of(0.5, 0.5, 0.5)
    patience.begin(0.0, counted=3, come=0, after_update=True)
    assert patience.deadline_s([new, known], [new, known, known]) == 0.5 + FLOOR_S


def test_of_what_is_saved_one_wait_takes_half_at_most():
    patience, slow = Patience(SETTINGS), arrivals_of(*[50.0] * 3)
    patience.begin(0.0, counted=2, come=1, after_update=True)
    assert patience.deadline_s([slow], [slow]) == OPENING_FLOORS * FLOOR_S / 2
    assert patience.can_afford(arrivals_of(50.0, 50.0)), "too little is known of it"


def late_round(patience: Patience, at_s: float, extra_s: float, *usually_s: float) -> list[bool]:
    """Take a round of a second's update and `extra_s`; return for each who is usually so late whether it can pay."""
    patience.begin_round(1.0)
    patience.begin(at_s, counted=2, come=1, after_update=True)
    able = [patience.can_afford(arrivals_of(*[each_s] * 3)) for each_s in usually_s]
    patience.end(at_s + extra_s)
    return able


def test_who_is_late_as_a_rule_is_waited_for_as_far_as_the_round_pays_and_by_little_from_the_opening_too():
    patience, little_s = Patience(SETTINGS), LITTLE_FLOORS * FLOOR_S
    usually_s = (0.99 * SHARE, little_s, little_s + 0.01, 2.0)
    rounds, at_s = 0, 0.0
    while late_round(patience, at_s, little_s, *usually_s) == [True, True, False, False]:
        rounds += 1
        at_s += 10.0
        assert rounds < 1000, "nothing is paid"
    # Half of what is there is spent and earned again at the end, when it is less than is asked for.
    assert (rounds + 1) * (little_s - SHARE) >= (OPENING_FLOORS - LAST_FLOORS - 1) * FLOOR_S
    assert late_round(patience, at_s + 10.0, 0.0, *usually_s) == [True, False, False, False]
    at_s += 20.0
    assert late_round(patience, at_s, SHARE, *usually_s) == [True, False, False, False]
    # In the same round nothing is left, and in the next one there is.
    patience.begin(at_s + 5.0, counted=2, come=1, after_update=False)
    assert not patience.can_afford(arrivals_of(*[SHARE / 2] * 3))
    patience.end(at_s + 5.0)
    assert late_round(patience, at_s + 10.0, 0.0, 0.99 * SHARE) == [True]


def test_a_stop_in_the_middle_of_a_wait_is_no_neighbours_fault():
    patience = Patience(SETTINGS)
    patience.begin(0.0, counted=2, come=1, after_update=True)
    patience.end(1000.0)
    patience.begin(1001.0, counted=2, come=1, after_update=True)
    assert patience.deadline_s([ArrivalDeadline()], [ArrivalDeadline()]) == FLOOR_S


def test_when_one_is_lost_the_others_may_be_most():
    patience = Patience(SETTINGS)
    patience.begin(0.0, counted=4, come=1, after_update=True)
    assert not come(patience, 0.5)
    assert not patience.most_have_come
    assert patience.lost(0.7)
    assert patience.most_have_come
    assert not patience.lost(0.8)
