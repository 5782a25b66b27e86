"""The order of a round, and the procedure that finds its first living peers."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols.modest.messages import PingMessage
from gossip.protocols.modest.sampling import Sampling, epoch_rounds, order, turn
from tests.simulation.lone_peer import LonePeer

NAMES = [f"p{i:02d}" for i in range(12)]
TIMEOUT_S, AGAIN_S = 5.0, 1.0

rounds = st.integers(1, 10_000)
names = st.lists(st.sampled_from(NAMES), unique=True)


@given(rounds, names, st.randoms(use_true_random=False))
def test_an_order_depends_on_the_set_alone(round, candidates, random):
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert order(round, shuffled) == order(round, candidates)
    assert sorted(order(round, candidates)) == sorted(candidates)


@given(rounds, names, st.sampled_from(NAMES))
def test_a_peer_that_is_gone_changes_nothing_in_the_order_of_the_others(round, candidates, gone):
    rest = [peer for peer in candidates if peer != gone]
    assert order(round, rest) == [peer for peer in order(round, candidates) if peer != gone]


def test_orders_of_different_rounds_differ_and_every_peer_comes_first_equally_often():
    total, counts = 12_000, dict.fromkeys(NAMES, 0)
    for round in range(total):
        counts[order(round, NAMES)[0]] += 1
    expected = total / len(NAMES)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 31.3  # the 99.9 % quantile of 11 degrees of freedom
    assert len({tuple(order(round, NAMES)) for round in range(50)}) == 50


def test_being_in_one_sample_says_nothing_of_the_next():
    hits = [NAMES[0] in order(round, NAMES)[:3] for round in range(8_000)]
    both = np.mean([a and b for a, b in itertools.pairwise(hits)])
    assert abs(both - 1 / 16) < 0.012


lists = st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True).map(
    lambda numbers: [f"q{number:03d}" for number in sorted(numbers)]
)


@given(lists, st.integers(1, 12), st.integers(0, 40))
def test_in_every_epoch_each_listed_peer_has_one_turn(peers, sample_size, epoch):
    rounds = epoch_rounds(len(peers), sample_size)
    assert rounds == math.ceil(len(peers) / sample_size)
    turns = [turn(epoch * rounds + k, peers, sample_size=sample_size) for k in range(1, rounds + 1)]
    assert sorted(peer for members in turns for peer in members) == peers
    assert all(len(members) <= sample_size for members in turns)


@given(lists, st.integers(1, 12), rounds, st.data())
def test_whose_turn_it_is_comes_first_and_who_is_gone_changes_nothing_for_the_others(
    peers, sample_size, round, data
):
    candidates = data.draw(st.lists(st.sampled_from(peers), unique=True))
    first = turn(round, peers, sample_size=sample_size)
    ordered = order(round, candidates, first=first)
    assert sorted(ordered) == sorted(candidates)
    waiting = [peer not in first for peer in ordered]
    assert waiting == sorted(waiting)
    assert [peer for peer in ordered if peer in first] == order(round, first & set(candidates))
    gone = data.draw(st.sampled_from(peers))
    rest = [peer for peer in candidates if peer != gone]
    assert order(round, rest, first=first) == [peer for peer in ordered if peer != gone]


@given(lists.filter(lambda peers: len(peers) > 1), st.integers(1, 12), st.data())
def test_one_peer_more_on_the_list_moves_at_most_one_turn_in_and_one_out(peers, sample_size, data):
    gone = data.draw(st.sampled_from(peers))
    rest = [peer for peer in peers if peer != gone]
    if epoch_rounds(len(rest), sample_size) != epoch_rounds(len(peers), sample_size):
        return  # epochs are longer then, and nothing can be compared
    for round in range(1, epoch_rounds(len(peers), sample_size) + 1):
        more, less = (turn(round, names, sample_size=sample_size) for names in (peers, rest))
        assert len(more - less) <= 2
        assert len(less - more) <= 2


def test_turns_are_dealt_anew_in_every_epoch_and_evenly():
    peers = [f"q{number:03d}" for number in range(100)]
    partners: dict[str, int] = dict.fromkeys(peers[1:], 0)
    for epoch in range(2_000):
        (mine,) = (
            members
            for members in (turn(epoch * 10 + k, peers, sample_size=10) for k in range(1, 11))
            if peers[0] in members
        )
        for peer in mine - {peers[0]}:
            partners[peer] += 1
    expected = 2_000 * 9 / 99
    chi_square = sum((count - expected) ** 2 / expected for count in partners.values())
    assert chi_square < 147.0  # the 99.9 % quantile of 98 degrees of freedom


def run_sampling(
    ordered: list[str],
    *,
    dead: set[str],
    wanted: int,
    width: int,
    in_order: bool,
    answer_s: dict[str, float] | None = None,
    me: str = "me",
) -> tuple[list[str], float, LonePeer, list[str], int]:
    """Run one procedure; return sample, seconds, context, failed peers and the most that were under way."""
    ctx = LonePeer(me, [me, *NAMES])
    failed: list[str] = []
    sampling = Sampling(
        ordered,
        me=me,
        wanted=wanted,
        width=width,
        in_order=in_order,
        nonce=100,
        timeout_s=TIMEOUT_S,
        again_s=AGAIN_S,
        failed=lambda peer, nonce, waited_s, now_s: failed.append(peer),
    )
    sampling.ask(ctx, 3)
    most = sampling.outstanding
    answers: list[tuple[float, str, int]] = []
    seen = 0
    for _ in range(10_000):
        for peer, message in ctx.sent[seen:]:
            assert isinstance(message, PingMessage)
            if peer not in dead:
                answers.append((ctx.time_s + (answer_s or {}).get(peer, 0.1), peer, message.nonce))
        seen = len(ctx.sent)
        if sampling.done:
            return sampling.sample, ctx.time_s, ctx, failed, most
        answers.sort()
        due_s = sampling.look(ctx, 3)
        if len(ctx.sent) > seen or sampling.done:
            continue
        assert due_s is not None or answers
        next_s = ctx.time_s + (due_s if due_s is not None else math.inf)
        if answers and answers[0][0] <= next_s:
            ctx.time_s, peer, nonce = answers.pop(0)
            sampling.answered(ctx, peer, nonce, 3)
        else:
            ctx.time_s = next_s
        most = max(most, sampling.outstanding)
    raise AssertionError("no end")


@given(rounds, st.sets(st.sampled_from(NAMES)), st.integers(1, 6), st.booleans(), st.integers(0, 4))
def test_any_set_of_dead_peers_leaves_the_first_living_ones(round, dead, wanted, in_order, extra):
    ordered = order(round, NAMES)
    width = wanted + (extra if in_order else 0)
    sample, seconds, ctx, failed, most = run_sampling(
        ordered, dead=dead, wanted=wanted, width=width, in_order=in_order
    )
    living = [peer for peer in ordered if peer not in dead]
    if in_order:
        assert sample == living[:wanted]
    else:
        assert set(sample) <= set(living)
        assert len(sample) == min(wanted, len(living))
    assert len(set(sample)) == len(sample)
    assert set(failed) <= dead
    assert most <= width
    # Dead peers may all fall to one place of the sample, one after the other; where nobody lives, all share them.
    in_a_row = math.ceil(len(dead) / wanted) if len(dead) == len(NAMES) else len(dead)
    assert seconds <= TIMEOUT_S * in_a_row + 0.2
    pings = [peer for peer, _ in ctx.sent]
    assert all(pings.count(peer) <= 2 for peer in pings)


@given(rounds, st.lists(st.floats(0.01, 4.9), min_size=12, max_size=12), st.integers(1, 6))
def test_in_order_the_sample_does_not_depend_on_who_answers_first(round, delays, wanted):
    ordered = order(round, NAMES)
    sample, *_ = run_sampling(
        ordered,
        dead=set(),
        wanted=wanted,
        width=wanted + 3,
        in_order=True,
        answer_s=dict(zip(NAMES, delays, strict=True)),
    )
    assert sample == ordered[:wanted]


@given(rounds, st.lists(st.floats(0.01, 4.9), min_size=12, max_size=12), st.integers(1, 6))
def test_the_bare_procedure_takes_those_who_answer_among_the_first(round, delays, wanted):
    ordered = order(round, NAMES)
    sample, *_ = run_sampling(
        ordered,
        dead=set(),
        wanted=wanted,
        width=wanted,
        in_order=False,
        answer_s=dict(zip(NAMES, delays, strict=True)),
    )
    assert sample == ordered[:wanted]  # all of them answer in time, so nobody else is asked


@given(rounds, st.integers(1, 12), st.integers(1, 12))
def test_a_smaller_sample_is_the_beginning_of_a_larger_one(round, m, larger):
    ordered = order(round, NAMES)
    small, *_ = run_sampling(ordered, dead=set(), wanted=min(m, larger), width=1, in_order=True)
    large, *_ = run_sampling(ordered, dead=set(), wanted=max(m, larger), width=1, in_order=True)
    assert large[: len(small)] == small


def test_nobody_to_ask_ends_at_once_and_oneself_is_there_without_being_asked():
    assert run_sampling([], dead=set(), wanted=3, width=3, in_order=False)[:2] == ([], 0.0)
    sample, seconds, ctx, *_ = run_sampling(["me"], dead=set(), wanted=3, width=3, in_order=True)
    assert (sample, seconds, ctx.sent) == (["me"], 0.0, [])


def test_pongs_that_are_late_made_up_or_said_twice_count_for_nothing():
    ctx = LonePeer("me", ["me", *NAMES])
    sampling = Sampling(
        ["p00", "p01"],
        me="me",
        wanted=2,
        width=2,
        in_order=False,
        nonce=5,
        timeout_s=TIMEOUT_S,
        again_s=AGAIN_S,
    )
    sampling.ask(ctx, 0)
    assert not sampling.answered(ctx, "p00", 6, 0)
    assert not sampling.answered(ctx, "p02", 5, 0)
    assert sampling.answered(ctx, "p00", 5, 0)
    assert not sampling.answered(ctx, "p00", 5, 0)
    ctx.time_s = TIMEOUT_S
    sampling.look(ctx, 0)
    assert sampling.done
    assert not sampling.answered(ctx, "p01", 6, 0)
    assert sampling.sample == ["p00"]


def test_a_lost_connection_is_an_answer_where_the_first_living_are_wanted():
    ctx = LonePeer("me", ["me", *NAMES])
    ctx.down.add("p00")
    sampling = Sampling(
        NAMES[:4],
        me="me",
        wanted=1,
        width=1,
        in_order=True,
        nonce=5,
        timeout_s=TIMEOUT_S,
        again_s=AGAIN_S,
    )
    sampling.ask(ctx, 0)
    assert [peer for peer, _ in ctx.sent] == ["p01"]
    sampling.lost(ctx, "p01", 0)
    assert [peer for peer, _ in ctx.sent] == ["p01", "p02"]
