"""When one peer wants to stop, and how many have to want to."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols.stopping import OwnScore, StopRule, enough

SCORES = st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(math.nan)), min_size=1, max_size=30)


def rule(**options: object) -> StopRule:
    return StopRule(**{"run": "r", "better": operator.gt, **options})  # type: ignore[arg-type]


def first_want(rule: StopRule, scores: list[float]) -> int | None:
    own = OwnScore(rule, {})
    return next((round for round, score in enumerate(scores, 1) if own.judge(round, score)), None)


@given(SCORES, st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.5]))
def test_a_peer_wants_to_stop_after_patience_evaluations_none_of_which_is_better_than_the_best_before(
    scores, patience, min_delta
):
    found = first_want(rule(patience=patience, min_delta=min_delta), scores)
    best, worse, expected = None, 0, None
    for round, score in enumerate(scores, 1):
        if not math.isnan(score) and (best is None or score > best + min_delta):
            best, worse = score, 0
        else:
            worse += 1
        if worse >= patience:
            expected = round
            break
    assert found == expected


@given(SCORES, st.integers(-5, 5).map(float))
def test_a_peer_wants_to_stop_with_the_first_score_that_reaches_the_target(scores, target):
    reached = [round for round, score in enumerate(scores, 1) if score >= target]
    assert first_want(rule(target=target), scores) == (reached[0] if reached else None)


@given(SCORES, st.integers(1, 4))
def test_where_less_is_better_the_same_holds_of_the_scores_turned_round(scores, patience):
    turned = [-score for score in scores]
    options = {"patience": patience, "min_delta": 1.0}
    assert first_want(rule(**options), scores) == first_want(rule(**options, better=operator.lt), turned)


@given(SCORES, st.integers(1, 4), st.integers(0, 30), st.integers(0, 3))
def test_a_restart_forgets_no_score_and_counts_none_twice(scores, patience, at, again):
    whole = OwnScore(rule(patience=patience), {})
    expected = [whole.judge(round, score) for round, score in enumerate(scores, 1)]
    told = list(enumerate(scores, 1))
    first, found = OwnScore(rule(patience=patience), {}), []
    found += [first.judge(*each) for each in told[:at]]
    second = OwnScore(rule(patience=patience), first.saved())
    for each in told[max(0, at - again) : at]:
        assert second.judge(*each) is None
    found += [second.judge(*each) for each in told[at:]]
    assert found == expected


@given(st.integers(1, 200), st.integers(0, 200))
def test_enough_are_never_without_most_of_the_honest_and_never_one_alone(peers, liars):
    needed = enough(peers, liars)
    assert needed <= peers
    liars = min(liars, peers - 1)
    honest = peers - liars
    assert needed == peers or 2 * (needed - liars) > honest
    assert needed > 1 or peers == 1
    assert (needed <= honest) == (peers >= 3 * liars + 1)


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_reaches_nothing(score):
    own = OwnScore(rule(target=-1e9, patience=2), {})
    assert own.judge(1, score) is None
    assert own.judge(2, score) == "patience"
