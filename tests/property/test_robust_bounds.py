"""What robust rules promise about attackers: breakdown points and (f, κ)-robustness (Allouah et al. 2023)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.merging.robust.base import TooFewModels
from gossip.merging.robust.models import Models
from tests.laws import tried
from tests.robust_harness import ROBUST, SINGLE, build, compositions, merge, names, settings_for
from tests.strategies import clouds

NOT_BEARING = ("centered-clipping", "self-centered-clipping", "ubar")
"""Whose bound is not in honest diameters: τ, the graph's, and what own samples show."""
BEARING = tuple(rule for rule in ROBUST if rule not in NOT_BEARING)
few = tried(0.25)


# --- breakdown ---


def farthest_from_honest(how, honest, attackers):
    vectors = np.concatenate([honest, attackers])
    result = merge(how, vectors).value
    centre = honest.mean(axis=0)
    diameter = max(np.linalg.norm(a - b) for a in honest for b in honest)
    return np.linalg.norm(result - centre) / diameter


def reach(n, f, d):
    """How far, in honest diameters, the rules' own bounds allow: per coordinate, and for the geometric median."""
    return max(np.sqrt(d), 2 * (n - f) / (n - 2 * f))


@pytest.mark.parametrize("rule", BEARING)
@pytest.mark.parametrize("length", [1e3, 1e12, 1e30])
@given(st.integers(3, 12), st.integers(1, 10), st.integers(0, 10**6), st.data())
@tried(0.2)
def test_f_attackers_of_any_length_do_not_carry_the_result_away(rule, length, n, d, seed, data):
    kind = data.draw(compositions(rule))
    f = data.draw(st.integers(1, (n - 1) // 2))
    rng = np.random.default_rng(seed)
    honest = 0.05 * rng.normal(size=(n - f, d)) + rng.normal()
    direction = rng.normal(size=(f, d)) if data.draw(st.booleans()) else np.ones((f, d))
    attackers = length * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    assert farthest_from_honest(settings_for(kind, f), honest, attackers) <= reach(n, f, d)


def test_the_average_is_carried_away():
    """The negative control of the law above."""
    rng = np.random.default_rng(0)
    honest = 0.05 * rng.normal(size=(7, 5))
    assert farthest_from_honest({"kind": "average"}, honest, 1e3 * np.ones((2, 5))) > reach(9, 2, 5)


def test_an_f_that_is_too_small_is_no_defence():
    rng = np.random.default_rng(0)
    honest = 0.05 * rng.normal(size=(7, 5))
    attackers = 1e3 * np.ones((3, 5))
    assert farthest_from_honest({"kind": "trimmed-mean", "f": 2}, honest, attackers) > reach(10, 3, 5)
    assert farthest_from_honest({"kind": "trimmed-mean", "f": 3}, honest, attackers) <= reach(10, 3, 5)


@pytest.mark.parametrize("kind", [kind for kind in (*ROBUST, *SINGLE) if kind != "ubar"])
@given(clouds(count_max=8), st.integers(0, 3))
@tried(0.15)
def test_no_rule_lowers_an_f_that_it_cannot_bear(kind, cloud, more):
    """2f ≥ n is an error of the rule; in a merge own is kept, and every sender hears "too few"."""
    n = len(cloud.vectors)
    f = -(-n // 2) + more
    rule = build(**settings_for(kind, f))
    models = Models(
        senders=tuple(names(n)),
        vectors=list(cloud.vectors),
        weights=np.array(cloud.weights),
        own=cloud.vectors[0],
        own_index=0,
        f=f,
    )
    with pytest.raises(TooFewModels, match=f"f = {f} of n = {n}"):
        rule.apply(models, np.empty_like(cloud.vectors[0]), rng=lambda purpose: np.random.default_rng(0))
    assert issubclass(TooFewModels, ValueError)
    merged = merge(settings_for(kind, f), cloud.vectors)
    assert np.array_equal(merged.value, cloud.vectors[0])
    assert {(verdict.weight, verdict.reason) for verdict in merged.verdicts.values()} == {(0.0, "too few")}


@pytest.mark.parametrize("kind", ["mda", "smea"])
def test_more_models_than_subsets_can_be_tried_of_are_not_merged_and_it_is_said(kind):
    vectors = np.random.default_rng(0).normal(size=(20, 2))
    merged = merge({"kind": kind, "f": 5}, vectors)
    assert np.array_equal(merged.value, vectors[0])
    assert {verdict.reason for verdict in merged.verdicts.values()} == {"too many"}


def test_buckets_are_what_f_is_compared_with():
    """Five models make three buckets of two: one attacker is bearable, two are not, though 2f < 5."""
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    for f, reasons in ((1, {"", "extreme"}), (2, {"too few"})):
        merged = merge({"kind": "bucketing+median", "f": f}, vectors)
        assert {verdict.reason for verdict in merged.verdicts.values()} <= reasons


# --- (f, κ)-robustness ---


def worst_ratio(result, vectors, f):
    """max over all S of n - f models of ||F - mean_S||² / ((1/|S|) Σ_{i in S} ||x_i - mean_S||²)."""
    worst = 0.0
    size = np.abs(vectors).max() ** 2 + 1e-300
    for members in itertools.combinations(range(len(vectors)), len(vectors) - f):
        honest = vectors[list(members)]
        centre = honest.mean(axis=0)
        error = np.sum((result - centre) ** 2)
        spread = np.mean(np.sum((honest - centre) ** 2, axis=1))
        if error > 1e-18 * size:
            worst = max(worst, error / max(spread, 1e-300))
    return worst


def kappa(kind, n, f):
    r = f / (n - 2 * f)
    bounds = {
        "trimmed-mean": 6 * r * (1 + r),
        "krum": 6 * (1 + r),
        "median": 4 * (1 + r) ** 2,
        "geometric-median": 4 * (1 + r) ** 2,
        "smea": 4 * r,
        "mda": 8 * f**2 / (n - f),
    }
    before, _, rule = kind.rpartition("+")
    return 8 * f / (n - f) * (bounds[rule] + 1) if before else bounds[rule]


@st.composite
def adversarial(draw):
    """Up to 8 models on a coarse grid or at random, with copies, ties and one very far direction."""
    n = draw(st.integers(3, 8))
    f = draw(st.integers(1, (n - 1) // 2))
    d = draw(st.integers(1, 3))
    entry = draw(
        st.sampled_from(
            [st.integers(-2, 2).map(float), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, 1e6])]
        )
    )
    return np.array(draw(st.lists(st.lists(entry, min_size=d, max_size=d), min_size=n, max_size=n))), f


BOUNDED = ("trimmed-mean", "krum", "median", "geometric-median", "smea", "mda")


@pytest.mark.parametrize("kind", [*BOUNDED, *(f"nnm+{kind}" for kind in BOUNDED)])
@given(adversarial())
@tried(0.6)
def test_the_error_is_bounded_by_kappa_times_the_honest_spread_whoever_is_honest(kind, case):
    vectors, f = case
    result = merge({"kind": kind, "f": f}, vectors).value
    assert worst_ratio(result, vectors, f) <= kappa(kind, len(vectors), f) * (1 + 1e-6)


def test_three_weiszfeld_steps_from_the_origin_break_the_bound():
    """The negative control: a common offset alone is enough."""
    vectors = np.array([[1000.0], [1000.001], [1000.002], [1001.0]])
    z = np.zeros(1)
    for _ in range(3):
        weights = 1 / np.maximum(0.1, np.linalg.norm(vectors - z, axis=1))
        z = weights @ vectors / weights.sum()
    bound = kappa("geometric-median", 4, 1)
    assert worst_ratio(z, vectors, 1) > 10 * bound
    assert worst_ratio(merge({"kind": "geometric-median"}, vectors).value, vectors, 1) <= bound


@pytest.mark.parametrize("kind", ["trimmed-mean", "krum", "median", "geometric-median", "nnm+trimmed-mean"])
def test_no_rule_can_be_better_than_the_lower_bound_and_these_attain_it_on_its_instance(kind):
    """n - f models at 0 and f at 1: the result must be 0, and is then f/(n-2f) off for an S that holds all ones."""
    for n, f in ((3, 1), (5, 1), (5, 2), (8, 3)):
        vectors = np.array([[0.0]] * (n - f) + [[1.0]] * f)
        result = merge({"kind": kind, "f": f}, vectors).value
        assert result == [0.0]
        assert np.isclose(worst_ratio(result, vectors, f), f / (n - 2 * f))
