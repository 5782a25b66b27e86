"""The adaptive deadline: between floor and cap, deaf to a few wild delays, patient with regular ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols.rounds.deadlines import SAMPLES_MAX, SAMPLES_MIN, ArrivalDeadline

LIMITS = {"k": 6.0, "floor_s": 2.0, "cap_s": 60.0}
delays = st.lists(st.floats(0, 1000), max_size=40)


def deadline_after(samples: list[float]) -> float:
    deadline = ArrivalDeadline()
    for sample in samples:
        deadline.observe(sample)
    return deadline.delay_s(**LIMITS)


@given(delays)
def test_it_lies_between_floor_and_cap(samples):
    assert LIMITS["floor_s"] <= deadline_after(samples) <= LIMITS["cap_s"]


@given(st.lists(st.floats(0, 1000), max_size=SAMPLES_MIN - 1))
def test_with_too_few_delays_it_is_the_cap(samples):
    assert deadline_after(samples) == LIMITS["cap_s"]


@given(st.floats(0, 50), st.integers(SAMPLES_MIN, 30))
def test_a_delay_that_never_varies_is_waited_for_with_a_margin(delay, times):
    assert deadline_after([delay] * times) == min(LIMITS["cap_s"], delay + LIMITS["floor_s"])


@given(st.floats(0, 20), st.lists(st.floats(100, 1000), max_size=SAMPLES_MAX // 2 - 1))
def test_a_minority_of_wild_delays_does_not_move_it(delay, wild):
    assert deadline_after([delay] * SAMPLES_MAX + wild) == delay + LIMITS["floor_s"]
