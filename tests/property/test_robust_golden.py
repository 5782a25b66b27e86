"""Every robust rule against a plain implementation that shares no code with it, and against worked examples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.robust_harness import PlainContext, merge, settings_for
from tests.robust_reference import GOLDEN

CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))
WEIGHTED = ("self-centered-clipping", "cs-plus", "ios", "arc+ios")


@pytest.mark.parametrize("kind", CASES[0]["results"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_rule_says_what_the_plain_implementation_says(kind, dtype):
    for case in CASES:
        vectors = np.array(case["vectors"], dtype=dtype)
        weights = case["weights"] if kind in WEIGHTED else None
        merged = merge(settings_for(kind, case["f"]), vectors, weights=weights).value
        exact = 1e-7 if kind.endswith("geometric-median") else 1e-12
        assert merged.dtype == dtype
        assert np.allclose(merged, case["results"][kind], rtol=0, atol=exact if dtype == np.float64 else 2e-6)


def test_monna_and_mozi_are_other_names_of_nna_and_ubar():
    vectors = np.array(CASES[1]["vectors"])
    for name, other, told in (("monna", "nna", {"f": 2}), ("mozi", "ubar", {})):
        assert np.array_equal(
            merge({"kind": name, **told}, vectors).value, merge({"kind": other, **told}, vectors).value
        )


def test_ubar_takes_the_near_models_that_do_no_worse_on_own_samples():
    """The first parameter is how sure right answers are: p01 is surer than own, p02 less, p03 and p04 are far."""
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0], [9.0, 0.0], [-9.0, 0.0]])
    merged = merge({"kind": "ubar", "rho": 0.5, "alpha": 0.25}, vectors)
    assert np.allclose(merged.value, [0.25 * 1 + 0.75 * 2, 0])
    assert {sender: verdict.reason for sender, verdict in merged.verdicts.items()} == {
        "p01": "",
        "p02": "high loss",
        "p03": "far",
        "p04": "far",
    }


def test_ubar_takes_the_best_of_the_near_models_where_none_does_as_well_as_own():
    vectors = np.array([[3.0], [2.0], [1.5], [-50.0], [-60.0]])
    assert np.allclose(merge({"kind": "ubar"}, vectors).value, [0.5 * 3 + 0.5 * 2])


def test_ubar_leaves_out_a_model_without_a_loss():
    class Broken(PlainContext):
        def predict(self, learned, x):
            logits = super().predict(learned, x)
            return logits * float("nan") if learned[0] == 2 else logits

    merged = merge({"kind": "ubar", "rho": 1.0}, np.array([[1.0], [2.0]]), context=Broken())
    assert np.array_equal(merged.value, [1.0])
    assert merged.verdicts["p01"].reason == "high loss"


def test_balance_believes_those_within_a_share_of_own_length_that_shrinks_with_the_rounds():
    """||own|| = 10 and γ = 0.5: within 5 in round 0, within 5 / e from round T on."""
    vectors = np.array([[10.0], [11.0], [14.0], [16.0]])
    for round, expected in ((0, (10 + 12.5) / 2), (4, (10 + 11) / 2), (40, (10 + 11) / 2)):
        how = {"kind": "balance", "gamma": 0.5, "horizon": 4}
        merged = merge(how, vectors, context=PlainContext(round=round))
        assert np.allclose(merged.value, [expected]), round
        assert merged.verdicts["p03"].reason == "far"


def test_balance_keeps_own_where_nobody_is_near():
    vectors = np.array([[1.0], [9.0], [-9.0]])
    assert merge({"kind": "balance", "horizon": 4}, vectors).value == [1.0]


def test_the_outlier_scissor_cuts_one_at_a_time_from_a_mean_that_moves():
    """40 drags the mean of all to 13; without it the mean of the rest says who is next. Own is never cut."""
    vectors = np.array([[5.0], [0.0], [1.0], [19.0], [40.0]])
    merged = merge({"kind": "ios", "f": 2}, vectors)
    assert np.allclose(merged.value, [2.0])
    assert np.allclose(merge({"kind": "ios", "f": 1}, np.array([[90.0], [0.0], [1.0], [2.0]])).value, [31.0])


def test_the_filter_measures_by_the_farthest_that_has_weight_left():
    """0, 1, 2 and 10: first all of 10's weight goes. Then, of 0, 1 and 2, all of 0's: 10 is no measure any more."""
    x, f = np.array([0.0, 1.0, 2.0, 10.0]), 1
    first = 1 - (x - x.mean()) ** 2 / (x[3] - x.mean()) ** 2
    mean = first @ x / first.sum()
    assert first.sum() > len(x) - 2 * f
    second = first * (1 - (x - mean) ** 2 / (x[0] - mean) ** 2)
    assert second[:3].sum() < len(x) - 2 * f  # so it ends, with the lesser of the two variances
    merged = merge({"kind": "caf", "f": f}, x[:, None])
    assert np.allclose(merged.value, [mean])
    assert merged.verdicts["p03"].reason == "far"


def test_rules_of_subsets_and_the_filter_in_perfect_symmetry_say_the_middle():
    """Of 1, 4 and 7 two sets of two are equally good, and no peer's name says which; the filter keeps 4 alone."""
    for kind in ("mda", "smea", "caf"):
        assert np.allclose(merge({"kind": kind, "f": 1}, np.array([[1.0], [4.0], [7.0]])).value, [4.0]), kind


def test_krum_may_keep_a_share_of_own():
    vectors = np.array([[0.0], [1.0], [1.1], [1.2]])
    assert np.allclose(merge({"kind": "krum", "f": 1}, vectors).value, [1.1])
    assert np.allclose(merge({"kind": "krum", "f": 1, "own_share": 0.5}, vectors).value, [0.55])


def test_bucketing_averages_groups_before_the_rule():
    """Buckets of two among four: the median of two means is the mean of all four."""
    vectors = np.array([[0.0], [1.0], [2.0], [7.0]])
    assert np.allclose(merge({"kind": "bucketing+median"}, vectors).value, [2.5])
    drawn = {
        float(merge({"kind": "bucketing+krum", "f": 0}, vectors, context=PlainContext(seed=seed)).value[0])
        for seed in range(30)
    }
    assert drawn <= {0.5, 1.0, 1.5, 3.5, 4.0, 4.5}
    assert len(drawn) > 2


def test_at_an_aggregator_that_did_not_train_the_others_median_is_the_reference_and_own_is_nothing():
    """2 is the median, so the rules that begin at own begin there. It is nearer to 30 than 1 is, so it is Krum's."""
    vectors = np.array([[0.0], [1.0], [2.0], [30.0]])
    for kind, expected in (
        ("median", 2.0),
        ("trimmed-mean", 2.0),
        ("krum", 2.0),
        ("multi-krum", 1.5),
        ("nna", 1.5),
        ("cs-plus", 2.0),
        ("self-centered-clipping", 2.0),
    ):
        merged = merge({"kind": kind, "f": 1}, vectors, own_is_input=False)
        assert np.allclose(merged.value, [expected]), kind
        assert len(merged.verdicts) == 3
