"""Counters add up, and survive being written down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.net.backoff import Backoff
from gossip.seeding import generator
from gossip.telemetry.accounting import Accounting

messages = st.lists(
    st.tuples(
        st.sampled_from(["model", "finished", "hello"]),
        st.integers(0, 2**40),
        st.integers(0, 100),
        st.booleans(),
    ),
    max_size=8,
)


def counted(sent: list[tuple[str, int, int, bool]]) -> Accounting:
    accounting = Accounting()
    for kind, payload, framing, inbound in sent:
        transport = kind == "hello"
        direction = accounting.received if inbound else accounting.sent
        direction.count(
            kind, payload + framing, payload_bytes=0 if transport else payload, transport=transport
        )
        accounting.reject(kind)
    return accounting


@given(messages)
def test_total_is_protocol_and_transport_and_the_sum_over_types(
    sent: list[tuple[str, int, int, bool]],
) -> None:
    for counts in (counted(sent).as_dict(), counted(sent).as_dict()["received"]):
        totals = counts["bytes"]
        assert totals["total"] == totals["protocol"] + totals["transport"] == sum(totals["by_type"].values())
        assert totals["payload"] <= totals["protocol"]


@given(messages, messages)
def test_counters_of_two_peers_add_up_and_come_back_from_what_was_written(
    first: list[tuple[str, int, int, bool]], second: list[tuple[str, int, int, bool]]
) -> None:
    both = counted(first)
    both.add(counted(second))
    assert both.as_dict() == counted(first + second).as_dict()
    assert Accounting.from_dict(both.as_dict()).as_dict() == both.as_dict()


@given(st.integers(0, 2**32), st.floats(0.01, 1.0), st.floats(1.0, 100.0))
def test_waits_double_up_to_their_bound_and_begin_anew(seed: int, min_s: float, max_s: float) -> None:
    backoff = Backoff(min_s=min_s, max_s=max_s, rng=generator(seed, "dial"))
    for attempt in range(12):
        longest = min(max_s, min_s * 2**attempt)
        assert longest / 2 <= backoff.wait_s() <= longest
    backoff.reset()
    assert backoff.wait_s() <= min_s
