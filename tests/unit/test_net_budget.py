"""What one neighbour may bring, and how long one that broke rules is held off: laws of numbers and times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gossip.errors import PeerError
from gossip.net.budget import MESSAGES_BURST_S, STEPS_PER_MESSAGE, Bucket, Budget, message_cost
from gossip.net.settings import NetSettings
from gossip.net.standing import ARRIVALS_BURST, ARRIVALS_PER_S, Standing

amounts = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5)), max_size=60)


@given(amounts, st.floats(0.1, 1000), st.floats(1, 1000))
def test_whoever_waits_as_told_never_gets_more_than_the_burst_and_the_pace(
    spent: list[tuple[float, float]], per_s: float, burst: float
) -> None:
    bucket, now_s, total = Bucket(per_s, burst, 0.0), 0.0, 0.0
    for amount, idle_s in spent:
        pause_s = bucket.spend(amount, now_s)
        total += amount
        # One spending more may be on credit; it is waited for before the next.
        assert total - amount <= burst + per_s * now_s + 1e-6
        now_s += pause_s + idle_s


@given(amounts)
def test_within_the_pace_nobody_ever_waits(spent: list[tuple[float, float]]) -> None:
    bucket, now_s = Bucket(10.0, 50.0, 0.0), 0.0
    for amount, _ in spent:
        now_s += amount / 10.0
        assert bucket.spend(amount, now_s) <= 1e-9


def test_honest_traffic_passes_with_the_defaults_without_a_pause() -> None:
    settings = NetSettings()
    # A thousand peers' pings and pongs that come at once through one neighbour.
    budget = Budget(settings, 0.0)
    assert not any(budget.spend(messages=1, nbytes=200, now_s=0.0) for _ in range(2000))
    # Models at 4 GB/s, some hundred bytes each beside their tensors, in pieces of 512 KiB.
    budget = Budget(settings, 0.0)
    for second in range(100):
        cost = message_cost(100_000_500, 100_000_000) * 40 + 4_000_000_000 / 2**19 * 2.5 / STEPS_PER_MESSAGE
        assert not budget.spend(messages=cost, nbytes=4_000_000_000, now_s=float(second))
    # A straggler that comes back and sends what it has for rounds that are over.
    for _ in range(400):
        budget.note_rejected(0.0)


def test_long_messages_count_as_several() -> None:
    assert message_cost(200, 0) == 1
    assert message_cost(64 * 1024, 0) == 17
    assert message_cost(100_000_300, 100_000_000) == 1


@given(st.floats(1, 50), st.floats(0.1, 64), st.floats(0, 0.3))
def test_a_flood_is_paced_and_who_goes_on_with_it_is_never_cut_off(
    times_the_pace: float, in_a_turn: float, hiccup_s: float
) -> None:
    """No sender can bring more than is read: whoever sends fast obeys the pauses, whether he wants to or not."""
    pace = 100.0
    budget, now_s, taken = Budget(NetSettings(messages_per_s=pace), 0.0), 0.0, 0.0
    for number in range(400):
        # Now and then the event loop is late.
        now_s += in_a_turn / (times_the_pace * pace) + (hiccup_s if number % 3 == 0 else 0.0)
        taken += in_a_turn
        now_s += budget.spend(messages=in_a_turn, nbytes=0, now_s=now_s)
        assert taken <= pace * (now_s + MESSAGES_BURST_S) + 1e-6


def test_too_many_bytes_pause_but_are_no_offence() -> None:
    budget, now_s = Budget(NetSettings(receive_bytes_per_s=1_000_000), 0.0), 0.0
    for _ in range(1000):
        now_s += budget.spend(messages=0.1, nbytes=1_000_000, now_s=now_s)
    assert now_s == pytest.approx(998.0, abs=1.5)


def test_too_many_rejected_messages_are_an_offence() -> None:
    budget = Budget(NetSettings(rejected_per_s=2.0), 0.0)
    for _ in range(20):
        budget.note_rejected(0.0)
    with pytest.raises(PeerError) as caught:
        budget.note_rejected(0.0)
    assert caught.value.reason == "rejected"


def test_each_offence_holds_off_twice_as_long_until_a_time_of_peace() -> None:
    standing = Standing(min_s=1.0, max_s=60.0, now_s=0.0)
    now_s, held = 0.0, []
    for _ in range(9):
        standing.note_offence(now_s)
        held.append(standing.held_off_s(now_s))
        now_s += held[-1]
        assert standing.held_off_s(now_s) == 0
    assert held == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    now_s += 2 * 60 + 1
    standing.note_offence(now_s)
    assert standing.held_off_s(now_s) == 1


def test_coming_again_and_again_is_possible_at_a_walking_pace() -> None:
    standing, now_s, times = Standing(min_s=1.0, max_s=60.0, now_s=0.0), 0.0, 0
    while now_s < 100.0:
        if standing.held_off_s(now_s):
            now_s += 0.01
        else:
            standing.note_arrival(now_s)
            times += 1
    assert times == pytest.approx(ARRIVALS_BURST + 100 * ARRIVALS_PER_S, abs=2)


def test_holding_off_for_longer_at_first_than_at_last_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="offence_wait_max_s"):
        NetSettings(offence_wait_min_s=10.0, offence_wait_max_s=1.0)
