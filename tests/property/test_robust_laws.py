"""Laws of the robust rules: symmetry, equivariance, range, identities, what is dropped, and no trace left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gossip.merging.settings import MERGES
from gossip.protocols.base import Contribution
from tests.laws import tried
from tests.robust_harness import (
    OWN,
    ROBUST,
    SINGLE,
    PlainContext,
    build,
    compositions,
    merge,
    names,
    settings_for,
)
from tests.strategies import clouds

OWN_CENTRED = ("nna", "cs-plus", "self-centered-clipping", "centered-clipping", "ios", "balance", "ubar")
"""They begin at the own model, or favour it."""
UNWEIGHTED = tuple(rule for rule in ROBUST if rule not in OWN_CENTRED)
BY_SAMPLES = ("ubar",)
"""It asks what models say, and no law of arithmetic holds of that."""
BY_LENGTH = ("balance",)
"""Its measure is the own model's length."""
COORDINATEWISE = ("median", "trimmed-mean", "meamed")
FIXED_REACH = ("centered-clipping",)
"""A τ in the models' own unit, as `clipping` has."""


def but(*names, of=ROBUST):
    """Return the rules that a law holds of: all but these."""
    assert set(names) <= set(ROBUST)
    return tuple(rule for rule in of if rule not in names)


few = tried(0.25)


def ways(*rules):
    return pytest.mark.parametrize("rule", rules)


every = pytest.mark.parametrize("kind", [*ROBUST, *SINGLE])


def close(a, b, size):
    return np.allclose(a, b, rtol=0, atol=1e-7 * size)


def size_of(*arrays):
    return max(1e-12, *(float(np.abs(array).max()) for array in arrays))


# --- symmetry ---


@ways(*ROBUST)
@few
@given(clouds(), st.randoms(use_true_random=False), st.data())
def test_the_order_of_received_models_does_not_matter_to_the_last_bit(rule, cloud, random, data):
    order = list(range(1, len(cloud.vectors)))
    random.shuffle(order)
    how = settings_for(data.draw(compositions(rule)), cloud.f)
    as_they_are, shuffled = merge(how, cloud.vectors), merge(how, cloud.vectors, order=order)
    assert np.array_equal(as_they_are.value, shuffled.value)
    assert as_they_are.verdicts == shuffled.verdicts


@ways(*UNWEIGHTED)
@few
@given(clouds(), st.data())
def test_rules_without_a_centre_say_the_same_to_every_peer(rule, cloud, data):
    """The own model is one among all: peers of a full mesh agree after one merge, up to rounding."""
    kind = data.draw(compositions(rule, of=("nnm",)))
    how, senders = settings_for(kind, cloud.f), names(len(cloud.vectors))
    here = merge(how, cloud.vectors, senders=senders).value
    order = [3 % len(senders), *(k for k in range(len(senders)) if k != 3 % len(senders))]
    there = merge(how, cloud.vectors[order], senders=[senders[k] for k in order]).value
    assert close(here, there, size_of(cloud.vectors))


@ways(*but(*BY_SAMPLES))
@given(clouds(), st.data())
@few
def test_equal_models_stay_equal(rule, cloud, data):
    kind = data.draw(compositions(rule))
    vectors = np.repeat(cloud.vectors[:1], len(cloud.vectors), axis=0).astype(np.float32)
    assert np.array_equal(merge(settings_for(kind, cloud.f), vectors).value, vectors[0])


def test_of_equal_scores_the_one_nearer_to_the_rest_wins_and_in_perfect_symmetry_the_smaller_coordinate():
    """Never the first by name."""
    for senders in (["p00", "p01", "p02", "p03"], ["p00", "p02", "p01", "p03"]):
        symmetric = np.array([[0.0], [1.0], [2.0], [3.0]])  # the middle two are equally central
        assert merge({"kind": "krum", "f": 1}, symmetric, senders=senders).value == [1.0]
    for senders in (["p00", "p01", "p02"], ["p00", "p02", "p01"]):
        nearest_two = np.array([[9.0], [1.0], [2.0]])
        assert merge({"kind": "krum", "f": 1}, nearest_two, senders=senders).value == [2.0]


# --- equivariance ---


@ways(*but(*BY_SAMPLES, *BY_LENGTH))
@few
@given(clouds(), st.floats(-100, 100), st.data())
def test_a_common_shift_shifts_the_result(rule, cloud, shift, data):
    how = settings_for(data.draw(compositions(rule)), cloud.f)
    towards = shift * np.linspace(-1, 1, cloud.vectors.shape[1]) * cloud.scale
    moved = merge(how, cloud.vectors + towards).value
    assert close(moved, merge(how, cloud.vectors).value + towards, size_of(cloud.vectors + towards))


@ways(*but(*BY_SAMPLES, *FIXED_REACH))
@few
@given(clouds(), st.sampled_from([1e-6, 0.3, 7.0, 1e6]), st.data())
def test_a_common_positive_factor_scales_the_result(rule, cloud, factor, data):
    how = settings_for(data.draw(compositions(rule, of=("nnm", "bucketing", "arc"))), cloud.f)
    scaled = merge(how, cloud.vectors * factor).value
    assert close(scaled, merge(how, cloud.vectors).value * factor, size_of(cloud.vectors) * factor)


@ways(*but(*BY_SAMPLES, *COORDINATEWISE))
@few
@given(clouds(), st.data())
def test_rules_of_distances_turn_with_the_models(rule, cloud, data):
    how = settings_for(data.draw(compositions(rule)), cloud.f)
    if rule == "krum":
        # Coordinates decide between models that are perfectly symmetric, as two buckets are: a turn exchanges them.
        straight, mirrored = (merge(how, sign * cloud.vectors).value for sign in (1, -1))
        assume(close(straight, -mirrored, size_of(cloud.vectors)))
    rng = np.random.default_rng(7)
    turn, _ = np.linalg.qr(rng.normal(size=2 * (cloud.vectors.shape[1],)))
    assert close(
        merge(how, cloud.vectors @ turn).value, merge(how, cloud.vectors).value @ turn, size_of(cloud.vectors)
    )


# --- range ---


@pytest.mark.parametrize("kind", COORDINATEWISE)
@given(clouds())
@few
def test_each_coordinate_stays_within_values_that_some_honest_model_bounds(kind, cloud):
    """Between the (f+1)-th smallest and largest: whichever f lie. Meamed may leave it, but not the values' range."""
    result = merge(settings_for(kind, cloud.f), cloud.vectors).value
    ordered = np.sort(cloud.vectors, axis=0)
    ends = (0, -1) if kind == "meamed" else (cloud.f, -1 - cloud.f)
    assert (result >= ordered[ends[0]]).all()
    assert (result <= ordered[ends[1]]).all()


@given(clouds())
@few
def test_krum_returns_one_of_the_models_unchanged(cloud):
    merged = merge(settings_for("krum", cloud.f), cloud.vectors)
    assert any(np.array_equal(merged.value, vector) for vector in cloud.vectors)
    assert sum(verdict.weight for verdict in merged.verdicts.values()) in (0, 1)


@given(clouds(), st.floats(0.01, 100))
@few
def test_a_clipped_step_is_no_longer_than_its_reach(cloud, tau):
    w = cloud.weights
    result = merge({"kind": "self-centered-clipping", "tau": tau}, cloud.vectors, weights=w).value
    assert np.linalg.norm(result - cloud.vectors[0]) <= (1 - w[0]) * tau * (1 + 1e-9)


@given(clouds())
@few
def test_cs_plus_moves_no_farther_than_to_an_honest_neighbour(cloud):
    """τ ≤ the largest honest neighbour's distance, whichever f of the neighbours lie: the f farthest, at worst."""
    result = merge(settings_for("cs-plus", cloud.f), cloud.vectors, weights=cloud.weights).value
    away = np.sort(np.linalg.norm(cloud.vectors[1:] - cloud.vectors[0], axis=1))
    reach = away[len(away) - 1 - cloud.f]
    assert np.linalg.norm(result - cloud.vectors[0]) <= (1 - cloud.weights[0]) * reach * (1 + 1e-9)


# --- honest only ---


def means_without_attackers(rule):
    """Whether a rule must be told f, and then leaves nobody out where it is told 0."""
    chosen = MERGES.settings_for(rule)
    return chosen.needs_f and not chosen.takes_one_row


@ways(*filter(means_without_attackers, ROBUST))
@given(clouds(), st.data())
@few
def test_without_attackers_the_rule_is_the_mean(rule, cloud, data):
    how = settings_for(data.draw(compositions(rule, of=("nnm", "arc"))), 0)
    assert close(merge(how, cloud.vectors).value, cloud.vectors.mean(axis=0), size_of(cloud.vectors))


@ways(*(rule for rule in but(*FIXED_REACH) if "nnm" in MERGES.settings_for(rule).takes))
@given(clouds())
@few
def test_without_attackers_mixing_makes_all_models_the_mean(rule, cloud):
    how = settings_for(f"nnm+{rule}", 0)
    assert close(merge(how, cloud.vectors).value, cloud.vectors.mean(axis=0), size_of(cloud.vectors))


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "cs-plus", "f": 0},
        {"kind": "ios", "f": 0},
        {"kind": "self-centered-clipping", "f": 0},
        {"kind": "self-centered-clipping", "tau": 1e30},
    ],
)
@given(clouds())
@few
def test_without_attackers_gossip_rules_are_the_weighted_mean(how, cloud):
    w = np.array(cloud.weights)
    assert close(
        merge(how, cloud.vectors, weights=cloud.weights).value, w @ cloud.vectors, size_of(cloud.vectors)
    )


@pytest.mark.parametrize("how", [{"kind": "cs-plus", "f": 0}, {"kind": "self-centered-clipping", "tau": 0.5}])
@given(st.integers(3, 8), st.integers(0, 100))
@few
def test_gossip_with_symmetric_weights_preserves_the_honest_mean(how, peers, seed):
    """With one τ for all, what i takes from j is what j takes from i: clipping is odd."""
    models = np.random.default_rng(seed).normal(size=(peers, 4))
    after = []
    for i in range(peers):
        around = [i, (i - 1) % peers, (i + 1) % peers]
        weights = [0.5, 0.25, 0.25]
        senders = [f"p{k:02d}" for k in around]
        after.append(merge(how, models[around], weights=weights, senders=senders).value)
    assert np.allclose(np.mean(after, axis=0), models.mean(axis=0), atol=1e-12)


# --- what is dropped, and what is left behind ---


@ways(*ROBUST)
@given(clouds(), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 10**6), st.data())
@few
def test_a_model_that_is_not_finite_is_as_if_it_had_not_come_with_one_attacker_less(
    rule, cloud, poison, where, data
):
    kind = data.draw(compositions(rule))
    victim = 1 + where % (len(cloud.vectors) - 1)
    poisoned = cloud.vectors.copy()
    poisoned[victim, where % cloud.vectors.shape[1]] = poison
    keep = [k for k in range(len(poisoned)) if k != victim]
    weights = list(cloud.weights)
    lost, weights[victim] = weights[victim], 0.0
    weights[0] += lost
    merged = merge(settings_for(kind, cloud.f), poisoned, weights=cloud.weights)
    senders = names(len(poisoned))
    expected = merge(
        settings_for(kind, max(0, cloud.f - 1)),
        poisoned[keep],
        weights=[weights[k] for k in keep],
        senders=[senders[k] for k in keep],
    )
    assert np.isfinite(merged.value).all()
    assert close(merged.value, expected.value, size_of(expected.value))
    assert merged.verdicts.pop(senders[victim]).reason == "not finite"
    assert merged.verdicts.keys() == expected.verdicts.keys()


@every
def test_where_nothing_usable_came_own_stays_as_it_is(kind):
    own = np.array([1.0, 2.0])
    how = settings_for(kind, 1)
    assert np.array_equal(merge(how, [own]).value, own)
    merged = merge(how, [own, own * np.nan, own * np.inf])
    assert np.array_equal(merged.value, own)
    assert {verdict.reason for verdict in merged.verdicts.values()} == {"not finite"}


@every
def test_an_own_model_that_is_not_finite_is_left_alone_and_said(kind):
    vectors = np.array([[np.nan], [1.0], [2.0], [3.0]])
    merged = merge(settings_for(kind, 1), vectors)
    assert np.array_equal(merged.value, [np.nan], equal_nan=True)
    assert {verdict.reason for verdict in merged.verdicts.values()} == {"own not finite"}


@every
def test_models_rejected_before_the_merge_count_against_f(kind):
    """Three models and f = 2 are too few, unless one of the two attackers is out already."""
    if kind in BY_SAMPLES:
        return  # it is told no f
    vectors = np.array([[0.0], [0.5], [0.25]])
    how = settings_for(kind, 2)
    refused = merge(how, vectors)
    assert refused.value == [0.0]
    assert {verdict.reason for verdict in refused.verdicts.values()} == {"too few"}
    if kind.startswith("bucketing+"):
        return  # two buckets of three models bear no attacker
    heard = merge(how, vectors, context=PlainContext(rejected=1))
    assert "too few" not in {verdict.reason for verdict in heard.verdicts.values()}


@ways(*ROBUST)
@given(clouds(), st.data())
@few
def test_one_identity_has_one_slot(rule, cloud, data):
    """The same sender twice: its last model counts, once, with that one's weight."""
    kind = data.draw(compositions(rule))
    how, count = settings_for(kind, cloud.f), len(cloud.vectors)
    share = 1 / (count + 1)
    once = [
        Contribution(sender, tensor, share)
        for sender, tensor in zip(names(count)[1:], tensors(cloud.vectors[1:]), strict=True)
    ]
    own = tensors(cloud.vectors[:1])[0]
    first = once[0]._replace(model=once[0].model * 3 + 1)
    context = PlainContext()
    twice = build(**how)(own, share, [first, *once], context=context)
    assert np.array_equal(twice, build(**how)(own, 2 * share, once, context=PlainContext()))
    assert ("p01", "duplicate") in {(verdict.sender, verdict.reason) for verdict in context.verdicts}


@every
def test_a_model_in_ones_own_name_is_not_counted(kind):
    vectors = np.array([[0.0], [1.0], [1.1], [1.2]])
    impostor = Contribution(OWN, tensors(np.array([[9.0]]))[0], 0.2)
    others = [
        Contribution(name, tensor, 0.2)
        for name, tensor in zip(names(4)[1:], tensors(vectors[1:]), strict=True)
    ]
    how = settings_for(kind, 1)
    own = tensors(vectors[:1])[0]
    with_it = build(**how)(own, 0.2, [impostor, *others], context=PlainContext())
    assert np.array_equal(with_it, build(**how)(own, 0.4, others, context=PlainContext()))


@ways(*ROBUST)
@given(clouds(), st.data())
@few
def test_the_same_merge_twice_by_one_instance_is_the_same(rule, cloud, data):
    merged = build(**settings_for(data.draw(compositions(rule)), cloud.f))
    own, *others = tensors(cloud.vectors)
    share = 1 / len(cloud.vectors)
    received = [
        Contribution(name, model, share)
        for name, model in zip(names(len(others) + 1)[1:], others, strict=True)
    ]
    first = merged(own, share, received, context=PlainContext()).clone()
    assert np.array_equal(first, merged(own, share, received, context=PlainContext()))


@every
def test_models_at_the_end_of_the_range_of_float32_do_not_overflow(kind):
    most = np.finfo(np.float32).max
    rng = np.random.default_rng(0)
    vectors = (rng.choice([-1, 1], size=(7, 40)) * most * rng.uniform(0.9, 1, size=(7, 40))).astype(
        np.float32
    )
    assert np.isfinite(merge(settings_for(kind, 1), vectors).value).all()
    same = np.full((7, 3), most, dtype=np.float32)
    assert np.array_equal(merge(settings_for(kind, 1), same).value, same[0])


@ways(*ROBUST)
@given(clouds(), st.data())
@few
def test_shares_are_told_of_every_sender_once_and_come_to_no_more_than_one(rule, cloud, data):
    merged = merge(settings_for(data.draw(compositions(rule)), cloud.f), cloud.vectors)
    assert sorted(merged.verdicts) == names(len(cloud.vectors))[1:]
    total = sum(verdict.weight for verdict in merged.verdicts.values())
    assert -1e-9 <= total <= 1 + 1e-9
    assert all(verdict.weight >= -1e-12 for verdict in merged.verdicts.values())


def tensors(vectors):
    return [torch.from_numpy(np.array(vector)) for vector in vectors]
