"""Bristle's laws: who is judged, what a judged model weighs, and what of it gets into which column.

The golden vectors were computed by hand from the published formulas; the first is the authors' own worked example.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from gossip.errors import SettingError
from gossip.merging.base import MergeContext, Verdict
from gossip.merging.bristle import integrator, prioritiser
from gossip.merging.bristle.rule import Bristle
from gossip.merging.settings import BristleSettings
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep

CLASSES, FEATURES, KAPPA = 6, 8, 4


# --- a small world: classes are clusters, models are output layers on them -----------------------------


def space_of(classes: int = CLASSES, features: int = FEATURES) -> ParameterSpace:
    return ParameterSpace.of(nn.Linear(features, classes, bias=False))


def clusters(familiar: Sequence[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """KAPPA samples of each class, around its own corner."""
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor(familiar).repeat_interleave(KAPPA)
    return torch.eye(FEATURES)[y] + 0.05 * torch.randn(len(y), FEATURES, generator=g), y


def context(
    familiar: Sequence[int],
    *,
    declared: Mapping[str, frozenset[int]] | None = None,
    verdicts: list[Verdict] | None = None,
    seed: int = 0,
    samples: tuple[Tensor, Tensor] | None = None,
) -> MergeContext:
    x, y = samples or clusters(familiar)
    return MergeContext(
        peer="me",
        seed=seed,
        at=GossipStep(3),
        space=space_of(),
        x=x,
        y=y,
        predict=lambda learned, x: x @ learned.view(CLASSES, FEATURES).T,
        x_validation=x,
        y_validation=y,
        declared=declared or {},
        judge=(lambda _: None) if verdicts is None else verdicts.append,
    )


def good(noise: float = 0.1, seed: int = 0) -> Tensor:
    """A model that knows every class."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.eye(CLASSES, FEATURES) + noise * torch.randn(CLASSES, FEATURES, generator=g)
    return rows.flatten()


def named(models: Sequence[Tensor]) -> list[Contribution]:
    return [Contribution(f"p{place:02}", model, 0.0) for place, model in enumerate(models)]


def merged(own: Tensor, models: Sequence[Tensor], familiar: Sequence[int], **settings: object) -> Tensor:
    rule = Bristle(BristleSettings(**settings))
    everywhere = {each.sender: frozenset(range(CLASSES)) for each in named(models)}
    return rule(own, 1.0, named(models), context=context(familiar, declared=everywhere))


def centred(learned: Tensor) -> Tensor:
    rows = learned.double().view(CLASSES, FEATURES)
    return (rows - rows.mean(1, keepdim=True)).float().flatten()


models_drawn = st.lists(st.integers(0, 10_000), min_size=1, max_size=9).map(
    lambda seeds: [torch.randn(CLASSES * FEATURES, generator=torch.Generator().manual_seed(s)) for s in seeds]
)
familiar_drawn = st.sets(st.integers(0, CLASSES - 1), min_size=1).map(sorted)
f1_drawn = st.floats(0, 1)


# --- the performance-based integrator ------------------------------------------------------------------

GOLDEN = [
    # F1_me, F1_j, certainty, scores, familiar weights, foreign weight
    ((0.7, 1, 0), (1, 0.7, 0.6), 0.59670, (58.257, -243, 216), (1.44198, 0, 2.96321), 1.0592),
    ((0.9,) * 4, (0.9,) * 4, 0.9, (0,) * 4, (0.9,) * 4, 0.9),
    ((0.9,) * 3, (0.8,) * 3, 0.8, (-1,) * 3, (0.78,) * 3, 0.74),
    ((0.9,) * 3, (0.7,) * 3, 0.7, (-29.857,) * 3, (0.18135,) * 3, 0),
    ((0.9,) * 3, (0.65,) * 3, 0.65, (-89.106,) * 3, (0,) * 3, 0),
    ((0,) * 3, (0.9,) * 3, 0.9, (729,) * 3, (5.39386,) * 3, 5.4),
    ((0.5,) * 3, (1,) * 3, 1, (279.51,) * 3, (5.42413,) * 3, 5.9977),
]


@pytest.mark.parametrize(("mine", "theirs", "certain", "scores", "familiar", "foreign"), GOLDEN)
def test_golden_vectors_of_the_published_formulas(mine, theirs, certain, scores, familiar, foreign):
    own, other = torch.tensor(mine, dtype=torch.float64), torch.tensor([theirs], dtype=torch.float64)
    best = integrator.best_classes(own, other, torch.tensor([3]))
    s, c = integrator.scores(own, other), integrator.certainty(other, best)
    assert float(c) == pytest.approx(certain, abs=1e-5)
    assert s[0].tolist() == pytest.approx(scores, rel=1e-4)
    assert integrator.familiar_weights(s, c)[0].tolist() == pytest.approx(familiar, abs=2e-3)
    assert float(integrator.foreign_weights(s, best, c)) == pytest.approx(foreign, abs=2e-3)


@given(mine=st.lists(f1_drawn, min_size=1, max_size=5), data=st.data())
def test_weights_stay_below_six_times_a_certainty_between_zero_and_one(mine, data):
    theirs = data.draw(st.lists(f1_drawn, min_size=len(mine), max_size=len(mine)))
    own, other = torch.tensor(mine, dtype=torch.float64), torch.tensor([theirs], dtype=torch.float64)
    best = integrator.best_classes(own, other, torch.tensor([data.draw(st.integers(1, len(mine)))]))
    s, c = integrator.scores(own, other), integrator.certainty(other, best)
    assert 0 <= float(c) <= 1
    for w in (*integrator.familiar_weights(s, c)[0].tolist(), float(integrator.foreign_weights(s, best, c))):
        # The sigmoid rounds to one from scores of some 4000 on.
        assert 0 <= w <= 6 * float(c)


@given(mine=st.floats(0.2525, 1), data=st.data())
def test_a_deficit_of_a_quarter_has_no_weight_and_equality_has_the_certainty(mine, data):
    theirs = data.draw(st.floats(0, mine - 0.2525))
    own = torch.tensor([mine], dtype=torch.float64)
    score = integrator.scores(own, torch.tensor([[theirs]], dtype=torch.float64))
    assert float(integrator.familiar_weights(score, torch.ones(1).double())) == 0
    equal = integrator.familiar_weights(integrator.scores(own, own[None]), torch.tensor([0.7]).double())
    assert float(equal) == pytest.approx(0.7)


@given(st.lists(st.sampled_from([1e5, -1e5, 1e300, -1e300, 0.0]), min_size=1, max_size=4))
def test_scores_of_any_size_give_finite_weights(values):
    scores = torch.tensor([values], dtype=torch.float64)
    every = torch.ones_like(scores, dtype=torch.bool)
    for w in (
        integrator.familiar_weights(scores, torch.ones(1).double()),
        integrator.foreign_weights(scores, every, torch.ones(1).double()),
    ):
        assert torch.isfinite(w).all()
        assert 0 <= float(w.min()) <= float(w.max()) <= 6


@given(
    predicted=st.lists(st.integers(0, 3), min_size=1, max_size=30), data=st.data(), models=st.integers(1, 3)
)
def test_f1_is_what_scikit_learn_says(predicted, data, models):
    from sklearn.metrics import f1_score

    y = data.draw(st.lists(st.integers(0, 3), min_size=len(predicted), max_size=len(predicted)))
    present = sorted(set(y))
    scores = integrator.f1_scores(
        torch.tensor([predicted] * models), torch.tensor(y), torch.tensor(present), of=4
    )
    expected = f1_score(y, predicted, labels=present, average=None, zero_division=0)
    for row in scores.tolist():
        assert row == pytest.approx(list(expected))


# --- the distance-based prioritiser --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exploration", "budget", "expected"),
    [
        # 4 + 5 + 2 would be eleven of ten.
        (0.4, 10, (4, 5, 1)),
        (0.4, 30, (11, 14, 5)),
        (0.0, 10, (10, 0, 0)),
        (1.0, 10, (0, 0, 10)),
    ],
)
def test_quotas_are_the_binomial_shares_of_the_budget(exploration, budget, expected):
    assert prioritiser.quotas(exploration, budget) == expected


@given(
    count=st.integers(0, 40),
    exploration=st.floats(0, 1),
    budget=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_at_most_the_budget_is_judged_and_all_where_no_more_came(count, exploration, budget, seed):
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 5, count).astype(float).tolist()
    senders = [f"p{place}" for place in range(count)]
    chosen = prioritiser.prioritise(
        distances, senders, exploration=exploration, budget=budget, rng=np.random.default_rng(seed)
    )
    assert len(set(chosen)) == len(chosen) <= budget
    if count <= budget:
        assert sorted(chosen) == list(range(count))
    order = [(distances[place], senders[place]) for place in chosen]
    assert order == sorted(order)


@given(count=st.integers(7, 40), budget=st.integers(1, 6), seed=st.integers(0, 1000))
def test_no_exploration_reaches_only_the_nearest_third_and_full_exploration_the_farthest(count, budget, seed):
    distances = np.random.default_rng(seed).permutation(count).astype(float).tolist()
    senders = [f"p{place:02}" for place in range(count)]
    third = -(-count // 3)
    for exploration, lowest, highest in ((0.0, 0, third - 1), (1.0, count - count // 3, count - 1)):
        chosen = prioritiser.prioritise(
            distances, senders, exploration=exploration, budget=budget, rng=np.random.default_rng(seed)
        )
        assert chosen
        assert all(lowest <= distances[place] <= highest for place in chosen)


@given(models=models_drawn, familiar=familiar_drawn, data=st.data(), budget=st.integers(1, 9))
def test_the_order_in_which_models_came_decides_nothing(models, familiar, data, budget):
    received = named(models)
    shuffled = data.draw(st.permutations(received))
    ctx = context(familiar, declared={each.sender: frozenset(range(CLASSES)) for each in received})
    rule = Bristle(BristleSettings(budget=budget))
    assert torch.equal(rule(good(), 1, received, context=ctx), rule(good(), 1, shuffled, context=ctx))


# --- the merge -----------------------------------------------------------------------------------------


@given(models=models_drawn, familiar=familiar_drawn, hardened=st.booleans())
def test_columns_are_in_the_hull_of_own_and_received_ones_and_inputs_stay(models, familiar, hardened):
    own = good(noise=0.5)
    before = [model.clone() for model in (own, *models)]
    rule = Bristle(BristleSettings(hardened=hardened))
    everywhere = {each.sender: frozenset(range(CLASSES)) for each in named(models)}
    result = rule(own, 1.0, named(models), context=context(familiar, declared=everywhere))
    assert all(torch.equal(now, then) for now, then in zip((own, *models), before, strict=True))
    stack = torch.stack([own, *models]).view(-1, CLASSES, FEATURES)
    if hardened:  # of columns that may have been shortened
        stack = torch.cat([stack, torch.zeros(1, CLASSES, FEATURES)])
    low, high = stack.min(0).values, stack.max(0).values
    rows = result.view(CLASSES, FEATURES)
    assert torch.isfinite(rows).all()
    # Centring has moved each column by one number, so one number must move it back among the others.
    assert ((low - rows).max(1).values <= (high - rows).min(1).values + 1e-5).all()


@given(models=models_drawn, familiar=familiar_drawn)
def test_own_share_of_a_column_is_at_least_one_in_one_plus_six_times_the_budget(models, familiar):
    own = torch.zeros(CLASSES * FEATURES)
    verdicts: list[Verdict] = []
    rule = Bristle(BristleSettings(hardened=False, budget=3))
    rule(own, 1.0, named(models), context=context(familiar, verdicts=verdicts))
    assert sum(verdict.weight for verdict in verdicts) <= 1 - 1 / (1 + 6 * 3)
    assert {verdict.sender for verdict in verdicts} == {each.sender for each in named(models)}
    assert sum(verdict.reason != "not drawn" for verdict in verdicts) <= 3


@given(seed=st.integers(0, 1000), familiar=familiar_drawn, hardened=st.booleans())
def test_who_hits_no_familiar_class_has_no_influence_on_any_column(seed, familiar, hardened):
    foreign = [c for c in range(CLASSES) if c not in familiar]
    rows = 5 * torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(seed))
    # Every familiar sample is taken for another class.
    rows[familiar] = -100 * torch.ones(FEATURES)
    if not foreign:  # then by all models there is no other class to shout
        rows = -torch.eye(CLASSES, FEATURES) * 100 + torch.eye(CLASSES, FEATURES).roll(1, 0)
    liar = rows.flatten()
    assert torch.equal(
        merged(good(), [liar], familiar, hardened=hardened), merged(good(), [], familiar, hardened=hardened)
    )


@given(familiar=familiar_drawn, seed=st.integers(0, 100))
def test_without_models_the_head_is_only_centred_and_equal_models_change_no_more(familiar, seed):
    own = good(noise=0.3, seed=seed)
    assert torch.allclose(merged(own, [], familiar), centred(own), atol=1e-6)
    assert torch.allclose(merged(own, [own] * 4, familiar), centred(own), atol=1e-6)


@given(
    models=models_drawn,
    familiar=familiar_drawn,
    renamed=st.permutations(range(CLASSES)),
    hardened=st.booleans(),
)
def test_names_of_classes_decide_nothing(models, familiar, renamed, hardened):
    def rows(learned: Tensor) -> Tensor:
        return learned.view(CLASSES, FEATURES)

    def rename(learned: Tensor) -> Tensor:
        new = torch.empty(CLASSES, FEATURES)
        new[torch.tensor(renamed)] = rows(learned)
        return new.flatten()

    x, y = clusters(familiar)
    declared = {each.sender: frozenset({place % CLASSES, 2, 5}) for place, each in enumerate(named(models))}
    rule = Bristle(BristleSettings(hardened=hardened))
    plain = rule(good(), 1, named(models), context=context(familiar, samples=(x, y), declared=declared))
    declared_anew = {peer: frozenset(renamed[c] for c in classes) for peer, classes in declared.items()}
    other = rule(
        rename(good()),
        1,
        named([rename(model) for model in models]),
        context=context(
            [renamed[c] for c in familiar], samples=(x, torch.tensor(renamed)[y]), declared=declared_anew
        ),
    )
    assert torch.allclose(rename(plain), other, atol=1e-5)


@given(familiar=st.sets(st.integers(0, CLASSES - 1), min_size=2, max_size=3).map(sorted))
def test_a_familiar_column_of_one_who_is_a_quarter_worse_there_is_not_taken(familiar):
    spoilt = good(noise=0.0).view(CLASSES, FEATURES).clone()
    spoilt[familiar[0]] = -10.0
    result = merged(good(noise=0.0), [spoilt.flatten()], familiar, hardened=False)
    expected = merged(good(noise=0.0), [], familiar)
    assert torch.equal(
        result.view(CLASSES, FEATURES)[familiar[0]], expected.view(CLASSES, FEATURES)[familiar[0]]
    )


# --- foreign columns -----------------------------------------------------------------------------------


def swapped(familiar: Sequence[int]) -> Tensor:
    """Perfect on the victim's familiar columns, permuted on all others: nothing that the victim can test is wrong."""
    rows = good(noise=0.0).view(CLASSES, FEATURES).clone()
    foreign = [c for c in range(CLASSES) if c not in familiar]
    rows[foreign] = rows[foreign[1:] + foreign[:1]]
    return (3 * rows).flatten()


def foreign_hits(head: Tensor, familiar: Sequence[int]) -> float:
    foreign = [c for c in range(CLASSES) if c not in familiar]
    x, y = clusters(foreign, seed=1)
    return float(((x @ head.view(CLASSES, FEATURES).T).argmax(1) == y).float().mean())


@pytest.mark.parametrize("hardened", [True, False], ids=["hardened", "stock"])
def test_one_foreign_swap_is_outvoted_by_the_holders_where_hardened_and_believed_as_published(hardened):
    familiar = (0, 1)
    novice = good(noise=0.0).view(CLASSES, FEATURES).clone()
    novice[2:] = 0
    models = [*(good(noise=0.05, seed=seed) for seed in (1, 2, 3)), swapped(familiar)]
    result = merged(novice.flatten(), models, familiar, hardened=hardened)
    assert (foreign_hits(result, familiar) > 0.95) == hardened


def test_only_who_declares_a_class_has_a_say_in_its_median():
    familiar = (0, 1)
    holders = [good(noise=0.05, seed=seed) for seed in (1, 2, 3)]
    own = 3 * good()  # so long that nobody is shortened
    liars = [swapped(familiar)] * 4
    received = named([*holders, *liars])
    declared = {each.sender: frozenset(range(CLASSES)) for each in received[:3]}
    declared |= {each.sender: frozenset({0}) for each in received[3:]}
    rule = Bristle(BristleSettings())
    result = rule(own, 1.0, received, context=context(familiar, declared=declared))
    middle = torch.stack(holders).median(0).values.view(CLASSES, FEATURES)
    expected = middle - middle.mean(1, keepdim=True)
    assert torch.allclose(result.view(CLASSES, FEATURES)[2:], expected[2:], atol=1e-6)


def test_with_two_holders_a_foreign_column_is_learnt_from_all_as_published():
    familiar = (0, 1)
    models = [good(noise=0.05, seed=seed) for seed in (1, 2, 3)]
    declared = {"p00": frozenset({2, 3}), "p01": frozenset({2, 3})}
    novice = 3 * good(noise=0.0).view(CLASSES, FEATURES)  # so long that nobody is shortened
    novice[2:] = 0
    results = [
        Bristle(BristleSettings(hardened=hardened))(
            novice.flatten(), 1.0, named(models), context=context(familiar, declared=declared)
        )
        for hardened in (True, False)
    ]
    assert torch.equal(*results)
    assert foreign_hits(results[0], familiar) > 0.95


@given(
    familiar=st.sets(st.integers(0, CLASSES - 2), min_size=2).map(sorted),
    common=st.integers(1, CLASSES),
    honest=st.booleans(),
)
def test_a_sender_is_judged_by_as_many_classes_as_both_know_and_heard_of_all_the_others(
    familiar, common, honest
):
    """One who knows few of the receiver's classes, and says so, is believed of the foreign one that it knows, too."""
    shared = familiar[:common]
    assume(len(shared) < len(familiar))
    foreign = CLASSES - 1
    declared = {"p00": frozenset({*shared, foreign} if honest else {*familiar, foreign})}
    novice = good(noise=0.0).view(CLASSES, FEATURES).clone()
    novice[foreign] = 0
    other = good(noise=0.0).view(CLASSES, FEATURES).clone()
    unknown = [c for c in familiar if c not in shared]
    other[unknown] = 0
    other[foreign, unknown] = 1  # it takes the others' classes for the one that it knows alone
    result = Bristle()(
        3 * novice.flatten(), 1.0, named([other.flatten()]), context=context(familiar, declared=declared)
    )
    assert bool(result.view(CLASSES, FEATURES)[foreign].abs().sum() > 0.1) == honest


def test_who_holds_a_class_but_fails_in_those_that_can_be_tested_has_no_say_in_its_median():
    familiar = (0, 1)
    failing = swapped(familiar).view(CLASSES, FEATURES).clone()
    failing[[0, 1]] = failing[[1, 0]]
    holders = [good(noise=0.05, seed=seed) for seed in (1, 2, 3)]
    own = 9 * good()  # so long that nobody is shortened
    received = named([*holders, *[failing.flatten()] * 4])
    declared = {each.sender: frozenset(range(CLASSES)) for each in received}
    result = Bristle()(own, 1.0, received, context=context(familiar, declared=declared))
    middle = torch.stack(holders).median(0).values.view(CLASSES, FEATURES)
    expected = middle - middle.mean(1, keepdim=True)
    assert torch.allclose(result.view(CLASSES, FEATURES)[2:], expected[2:], atol=1e-6)


def test_a_network_that_learns_more_than_its_output_layer_is_refused_in_one_sentence():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(SettingError, match=r"\[merge\] kind = \"bristle\".*linear") as caught:
        Bristle().check(ParameterSpace.of(network))
    assert "\n" not in str(caught.value)
    Bristle().check(ParameterSpace.of(nn.Linear(4, 3)))


@given(models=models_drawn, familiar=familiar_drawn)
def test_a_bias_is_merged_with_its_class(models, familiar):
    biased = ParameterSpace.of(nn.Linear(FEATURES - 1, CLASSES))

    def with_bias(learned: Tensor) -> Tensor:
        rows = learned.view(CLASSES, FEATURES)
        return torch.cat([rows[:, :-1].flatten(), rows[:, -1]])

    x, y = clusters(familiar)
    x[:, -1] = 1
    plain = context(familiar, samples=(x, y))
    split = dataclasses.replace(
        plain,
        space=biased,
        predict=lambda learned, x: (
            x[:, :-1] @ learned[:-CLASSES].view(CLASSES, FEATURES - 1).T + learned[-CLASSES:]
        ),
    )
    expected = Bristle()(good(), 1, named(models), context=plain)
    result = Bristle()(with_bias(good()), 1, named([with_bias(model) for model in models]), context=split)
    assert torch.allclose(result, with_bias(expected), atol=1e-5)


@given(seed=st.integers(0, 1000), factor=st.floats(2, 1e6), familiar=familiar_drawn)
def test_a_good_layer_times_any_factor_makes_no_column_longer_than_the_honest_ones(seed, factor, familiar):
    own, honest = good(seed=seed), [good(seed=seed + k) for k in range(1, 5)]
    result = merged(own, [*honest, factor * good(seed=seed + 9)], familiar)
    longest = max(float(model.view(CLASSES, FEATURES).norm(dim=1).max()) for model in (own, *honest))
    assert float(result.view(CLASSES, FEATURES).norm(dim=1).max()) <= longest * (1 + 1e-5)
    stock = merged(own, [*honest, factor * good(seed=seed + 9)], familiar, hardened=False)
    assert float(stock.norm()) > float(result.norm())


def test_who_begins_at_zero_takes_over_the_others_scale():
    begun = merged(torch.zeros(CLASSES * FEATURES), [good(seed=k) for k in range(4)], (0, 1))
    assert float(begun.norm()) > 0.5 * float(centred(good()).norm())
