"""Whom a finished node waits for: slower ones that are there, and those that are down for a bounded time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.config.task import NodeSettings
from gossip.node.lingering import Lingering

PEERS = ("bob", "carol", "dave")


def seconds(most: int) -> st.SearchStrategy[float]:
    """Sixty-fourths, which add up without rounding: so the law holds at its very limits."""
    return st.integers(0, 64 * most).map(lambda parts: parts / 64)


moves = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["goes", "comes", "is finished"]), st.sampled_from(PEERS)),
        st.tuples(st.just("passes"), seconds(8)),
        st.tuples(st.just("done"), st.none()),
    ),
    max_size=30,
)


@given(moves, seconds(10), seconds(20))
def test_a_finished_node_waits_for_who_is_slower_and_there_or_went_not_long_ago(moves, down_s, linger_s):
    """The law, with each peer's story kept by hand: up and not finished, or not longer down than is allowed."""
    now_s, up, finished = 0.0, set(PEERS), set()
    went_s: dict[str, float] = {}
    done_s = float("inf")
    settings = NodeSettings(linger_s=linger_s, linger_down_s=down_s)
    lingering = Lingering(settings, is_up=up.__contains__, finished=finished, clock=lambda: now_s)
    for move, what in moves:
        match move:
            case "goes" if what in up:
                up.discard(what)
                went_s[what] = now_s
                lingering.went(what)
            case "comes":
                up.add(what)
                finished.discard(what)
            case "is finished" if what in up:
                finished.add(what)
            case "passes":
                now_s += what
            case "done" if done_s == float("inf"):
                done_s = now_s
                lingering.begin()
        wanted = [
            peer for peer in PEERS if peer not in finished and (peer in up or now_s - went_s[peer] < down_s)
        ]
        assert lingering.awaited(PEERS) == (wanted if now_s - done_s < linger_s else [])


def test_who_was_never_there_is_waited_for_only_so_long_from_the_start_on() -> None:
    now_s = 0.0
    settings = NodeSettings(linger_s=100.0, linger_down_s=10.0)
    lingering = Lingering(settings, is_up=lambda _: False, finished=(), clock=lambda: now_s)
    now_s = 9.0
    lingering.begin()
    assert lingering.awaited(PEERS) == list(PEERS)
    now_s = 10.0
    assert lingering.awaited(PEERS) == []
