"""The attacks' formulas against values worked out by hand, and what each kind must be whatever the models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gossip.errors import SettingError
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Shard, Task
from gossip.protocols.base import Contribution
from scenarios.attacks import base, data, formulas
from scenarios.attacks.base import Attack, Knowledge, Scene
from scenarios.attacks.settings import ATTACKS, AttackSettings, Backdoor, SignFlip
from tests.robust_harness import PlainContext, build

HONEST = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]])
# Mean (3, 4), sample standard deviations (2, sqrt 12).


def close(found: Tensor, expected: Sequence[float]) -> bool:
    return torch.allclose(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-5)


# --- formulas ---------------------------------------------------------------------------------------


def test_alie_hides_as_many_standard_deviations_away_as_it_finds_supporters() -> None:
    # n = 50, f = 24: s = 26 - 24 = 2 supporters, Φ⁻¹((26 - 2)/26) = Φ⁻¹(0.923077) = 1.426077.
    assert formulas.alie_z(50, 24) == pytest.approx(1.426077, abs=1e-5)
    # n = 13, f = 3: s = 7 - 3 = 4, Φ⁻¹(6/10) = 0.253347.
    assert formulas.alie_z(13, 3) == pytest.approx(0.253347, abs=1e-5)
    assert math.isfinite(formulas.alie_z(25, 15))
    assert close(formulas.alie(HONEST, 0.5), [3 - 0.5 * 2, 4 - 0.5 * math.sqrt(12)])
    assert close(formulas.alie(HONEST[:1], 0.5), [1, 2])


def test_ipm_points_against_the_mean() -> None:
    assert close(formulas.ipm(HONEST, 0.1), [-0.3, -0.4])


@pytest.mark.parametrize("direction", ["std", "mean", "sign"])
def test_min_max_and_min_sum_go_exactly_as_far_as_they_may(direction: Any) -> None:
    # By hand for the mean's direction p = (0.6, 0.8): the diameter is ‖x_1 - x_3‖ = √52; of the three, x_3 is the
    # farthest from μ - γp: (2 + 0.6γ)² + (4 + 0.8γ)² = 52, so γ = -4.4 + √(4.4² + 32).
    pairs = torch.cdist(HONEST, HONEST)
    crafted = formulas.min_max(HONEST, direction)
    assert float((HONEST - crafted).norm(dim=1).max()) == pytest.approx(float(pairs.max()), rel=1e-5)
    if direction == "mean":
        gamma = -4.4 + math.sqrt(4.4**2 + 32)
        assert close(crafted, [3 - 0.6 * gamma, 4 - 0.8 * gamma])
    crafted = formulas.min_sum(HONEST, direction)
    assert float((HONEST - crafted).square().sum()) == pytest.approx(
        float(pairs.square().sum(1).max()), rel=1e-5
    )


def test_fang_against_krum_goes_as_far_against_the_update_as_krum_still_chooses() -> None:
    """x_Re = 0, so what is sent is -λ·s; Krum itself says whether that is its choice, and that twice as far is not."""
    honest = torch.randn(8, 20, generator=torch.Generator().manual_seed(0)) + 0.2
    honest[:, 7] = 0.0  # where nobody moves
    crafted = formulas.fang_krum(honest, torch.zeros(20), 4)
    strength = float(crafted.abs().max())
    assert strength > 1e-3
    assert torch.equal(crafted, -strength * torch.sign(honest.mean(0)))

    def chosen(model: Tensor) -> bool:
        models = {f"h{k}": row for k, row in enumerate(honest)} | {f"x{k}": model for k in range(4)}
        merged = build(kind="krum", f=4)(
            models["h0"],
            1 / 12,
            [Contribution(name, row, 1 / 12) for name, row in models.items() if name != "h0"],
            context=PlainContext(peer="h0"),
        )
        return torch.equal(merged, model)

    assert chosen(crafted)
    assert not chosen(2 * crafted)


def test_fang_against_krum_may_begin_at_where_honest_models_are() -> None:
    """They have moved by 5 and differ by 1: nothing near x_Re is ever chosen, but something near their mean is."""
    honest = torch.randn(8, 20, generator=torch.Generator().manual_seed(0)) + 5
    mean = honest.mean(0)
    assert float(formulas.fang_krum(honest, torch.zeros(20), 4).abs().max()) < 1e-5
    crafted = formulas.fang_krum(honest, torch.zeros(20), 4, about=mean)
    assert torch.allclose(mean - crafted, (mean - crafted)[0].expand(20), atol=1e-5)
    assert float((mean - crafted)[0]) > 0.1


def test_fang_against_krum_begins_at_the_bound_of_its_docstring_and_halves_it() -> None:
    """h = 3 on a line, c = 1: h - c = 2, d = 1. Honest scores of the three nearest: the middle one has 0 + 10² + 10².

    λ = sqrt(200 / 2) + max |x_l| = 10 + 30; halved until it is chosen, it is 40 / 2^k.
    """
    honest = torch.tensor([[10.0], [20.0], [30.0]])
    crafted = -float(formulas.fang_krum(honest, torch.zeros(1), 1))
    halvings = math.log2(40 / crafted)
    assert halvings == pytest.approx(round(halvings), abs=1e-6)


def test_fang_against_the_trimmed_mean_lies_just_beyond_on_the_side_that_learning_leaves() -> None:
    honest = torch.tensor([[1.0, -4.0, 2.0, -6.0, 7.0], [3.0, -2.0, 4.0, -2.0, 7.0]])
    before = torch.tensor([0.0, -9.0, 9.0, 9.0, 7.0])  # s = (+, +, -, -, 0)
    low, high = [0.5, -8.0, 4.0, -2.0, 7.0], [1.0, -4.0, 8.0, -1.0, 7.0]
    drawn = torch.stack(
        [formulas.fang_trimmed_mean(honest, before, 2.0, np.random.default_rng(seed)) for seed in range(200)]
    )
    assert (drawn >= torch.tensor(low)).all()
    assert (drawn <= torch.tensor(high)).all()
    spread = drawn.max(0).values - drawn.min(0).values
    assert (spread[:4] > 0.9 * (torch.tensor(high) - torch.tensor(low))[:4]).all()


def test_where_all_agree_there_is_nothing_to_hide_in() -> None:
    equal = torch.ones(4, 3)
    for crafted in (
        formulas.alie(equal, 2.0),
        formulas.min_max(equal, "std"),
        formulas.min_sum(equal, "std"),
    ):
        assert torch.equal(crafted, torch.ones(3))


def test_dissensus_of_strength_one_cancels_what_the_neighbours_say() -> None:
    victim = torch.tensor([0.0, 0.0])
    neighbours = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    weights = torch.tensor([0.25, 0.125])
    # The pull is (1, 1); the attackers weigh 0.5.
    crafted = formulas.dissensus(victim, neighbours, weights, 0.5, epsilon=1.5)
    assert close(crafted, [-3, -3])
    cancelled = formulas.dissensus(victim, neighbours, weights, 0.5, epsilon=1.0)
    merged = 0.125 * victim + (weights[:, None] * neighbours).sum(0) + 0.5 * cancelled
    assert close(merged, [0, 0])


def test_the_fiedler_vector_separates_two_cliques_and_spectral_pulls_them_apart() -> None:
    edges = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)]
    fiedler = formulas.fiedler_vector(edges, range(6))
    signs = torch.sign(fiedler)
    assert set(signs[:3].tolist()) != set(signs[3:].tolist())
    assert len(set(signs[:3].tolist())) == len(set(signs[3:].tolist())) == 1
    assert float(fiedler.norm()) == pytest.approx(1)
    assert float(fiedler.sum()) == pytest.approx(0, abs=1e-9)
    models = torch.outer(fiedler, torch.tensor([2.0, 0.0])).float()
    for place in range(6):
        v = float(fiedler[place])
        # vᵀX = (2, 0), so the victim is told x_i + 3 v_i (2, 0): four times as far out.
        assert close(formulas.spectral(models, place, fiedler, scale=3.0), [8 * v, 0])


@given(st.floats(0.02, 50))
def test_the_search_finds_the_worst_parameter_within_its_budget(peak: float) -> None:
    asked: list[float] = []

    def damage(parameter: float) -> float:
        asked.append(parameter)
        return -abs(math.log(parameter / peak))

    found = formulas.worst_parameter(damage, evaluations=20)
    assert len(asked) <= 20
    assert abs(math.log(found / peak)) < 0.35  # the grid's step is a factor of 2.8, and the search halves it


def test_a_rule_that_breaks_down_altogether_is_the_worst() -> None:
    assert (
        formulas.worst_parameter(lambda parameter: math.nan if parameter > 50 else parameter, evaluations=10)
        > 50
    )


# --- data -------------------------------------------------------------------------------------------


def test_labels_are_flipped_to_the_one_before_or_mirrored() -> None:
    labels = torch.tensor([0, 1, 9])
    assert data.flipped(labels, 10, "previous").tolist() == [9, 0, 8]
    assert data.flipped(labels, 10, "mirror").tolist() == [9, 8, 0]


def test_the_trigger_is_a_bright_square_and_the_test_asks_other_classes_only() -> None:
    x = torch.zeros(4, 1, 8, 8)
    x[0, 0, 0, 0] = 0.7
    marked = data.stamped(x, 3)
    assert (marked[:, :, 5:, 5:] == torch.tensor(0.7)).all()
    assert float(marked.sum()) == pytest.approx(0.7 * (4 * 9 + 1))
    assert float(x.sum()) == pytest.approx(0.7)
    flat = data.stamped(torch.tensor([[1.0, 0, 0, 0, 0]]), 2)
    assert flat.tolist() == [[1, 1, 1, 1, 1]]
    asked, wanted = data.triggered_test(x, torch.tensor([0, 1, 2, 0]), target=0, size=3)
    assert (len(asked), wanted.tolist()) == (2, [0, 0])
    shard = data.backdoored(
        Shard(x, torch.tensor([1, 2, 3, 4])), target=0, share=0.5, size=3, rng=np.random.default_rng(0)
    )
    assert int((shard.y == 0).sum()) == 2
    assert torch.equal(shard.x[shard.y == 0], marked[shard.y == 0])
    assert torch.equal(shard.x[shard.y != 0], x[shard.y != 0])


# --- kinds ------------------------------------------------------------------------------------------


def task() -> Task:
    return Task(
        data=DataSettings(train_max=60, test_max=40),
        model=ModelSettings(name="logistic"),
        local=LocalSettings(lr=0.1),
        seed=0,
        folder=Path(),
    )


TASK = task()
SIZE = TASK.space.learned_size
PEERS, ATTACKERS = 6, (4, 5)
FULL: Mapping[int, float] = dict.fromkeys(range(PEERS), 1 / PEERS)


def scene() -> Scene:
    def average(
        victim: int, own: Tensor, own_weight: float, received: Sequence[tuple[int, Tensor, float]], round: int
    ) -> Tensor:
        assert own_weight + sum(weight for *_, weight in received) == pytest.approx(1)
        return own_weight * own + sum(weight * model for _, model, weight in received)

    return Scene(
        task=TASK,
        peers=PEERS,
        attackers=ATTACKERS,
        row=lambda peer, round: {other: weight for other, weight in FULL.items() if other != peer},
        rule=average,
        familiar=lambda peer: frozenset(range(4)),
    )


def made(kind: str, **values: Any) -> Attack[Any]:
    settings = ATTACKS.validate({"kind": kind, "peers": list(ATTACKERS), **values})
    attack: Attack[Any] = settings.load()(settings, scene())
    return attack


def known(**changed: Any) -> Knowledge:
    models = torch.stack([TASK.initial(f"p{k}") for k in range(4)])
    values: dict[str, Any] = {
        "attacker": 4,
        "round": 3,
        "own": TASK.initial("p4"),
        "base": TASK.initial("p5"),
        "leader": TASK.initial("p6"),
        "honest": models,
        "places": (0, 1, 2, 3),
        "victim": 1,
        "rng": np.random.default_rng(1),
    }
    return Knowledge(**{**values, **changed})


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_every_kind_crafts_a_vector_of_the_right_shape_changes_nothing_and_repeats_itself(kind: str) -> None:
    attack, first = made(kind), known()
    before = [first.own.clone(), first.honest.clone()]  # type: ignore[union-attr]
    crafted, again = attack.craft(first), attack.craft(known())
    assert crafted.shape == (SIZE,)
    assert crafted.dtype is torch.float32
    assert torch.equal(crafted.nan_to_num(7.0), again.nan_to_num(7.0))
    assert torch.equal(first.own, before[0])
    assert torch.equal(first.honest, before[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_an_attacker_that_knows_nobody_still_sends_something_of_the_right_shape(kind: str) -> None:
    alone = known(honest=None, places=(), base=None, leader=None, victim=None)
    assert made(kind).craft(alone).shape == (SIZE,)


def test_what_needs_no_formula_is_what_its_name_says() -> None:
    first = known()
    own = first.own
    assert torch.equal(made("none").craft(first), own)
    assert torch.equal(made("sign-flip", scale=2.0).craft(first), -2 * own)
    assert first.honest is not None
    assert torch.allclose(made("sign-flip", of="mean").craft(first), -first.honest.mean(0))
    assert int(made("nan").craft(known()).isnan().sum()) == 1
    assert int(made("inf").craft(known()).isinf().sum()) == 1
    huge = made("huge-norm").craft(first)
    assert huge.isfinite().all()
    assert torch.allclose(huge / 1e30, own)
    assert float(made("gaussian", std=3.0).craft(known()).std()) == pytest.approx(3.0, rel=0.15)
    assert torch.equal(made("mimic", target=2).craft(first), first.honest[2])
    assert torch.equal(made("sybil").craft(first), first.leader)
    boosted = made("backdoor", boost=5.0).craft(first)
    assert torch.allclose(boosted, first.base + 5 * (own - first.base), atol=1e-5)  # type: ignore[operator]
    assert [made("replay", age=2).old(round) for round in range(4)] == [None, None, 0, 1]


def test_against_an_average_the_worst_scaling_is_the_largest() -> None:
    first = known()
    assert first.honest is not None
    crafted = made("optimal-ipm").craft(first)
    assert torch.allclose(crafted, -100 * first.honest.mean(0), rtol=1e-4)


def test_foreign_swap_leaves_what_the_victim_can_test_and_permutes_the_rest() -> None:
    first = known()
    assert first.honest is not None
    mean = first.honest.mean(0)
    rows = formulas.class_rows(TASK.space, 10)
    assert [count for _, count, _ in rows] == [10, 10]

    def columns(model: Tensor) -> list[list[float]]:
        return torch.cat(
            [model[offset : offset + count * width].view(count, width) for offset, count, width in rows],
            dim=1,
        ).tolist()

    swapped, before = columns(made("foreign-swap").craft(first)), columns(mean)
    assert swapped[:4] == before[:4]
    assert swapped[4:] == [*before[5:], before[4]]
    broadcast = columns(made("foreign-swap", broadcast=True).craft(known(victim=None)))
    assert broadcast[:7] == before[:7]
    assert broadcast[7:] == [before[8], before[9], before[7]]


def test_a_network_without_columns_to_permute_is_refused() -> None:
    settings = ATTACKS.validate({"kind": "foreign-swap", "peers": list(ATTACKERS)})
    other = Task(
        data=DataSettings(train_max=60, test_max=40, classes=11),
        model=ModelSettings(name="logistic"),
        local=LocalSettings(lr=0.1),
        seed=0,
        folder=Path(),
    )
    elsewhere = dataclasses.replace(scene(), task=OtherClasses(TASK, other))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="no output layer of 11 rows"):
        settings.load()(settings, elsewhere)


class OtherClasses:
    """A network of ten outputs for eleven classes, as a user's network may be."""

    def __init__(self, network: Task, samples: Task) -> None:
        self.space, self.dataset = network.space, samples.dataset


@pytest.mark.parametrize("merges", [True, False])
def test_a_mixed_attacker_merges_as_the_mixture_says(merges: bool) -> None:
    mixed = ATTACKS.validate(
        {"kind": "mixed", "count": 2, "merges": merges, "kinds": ["sign-flip", "backdoor"]}
    )
    assert [mixed.part(turn).merges for turn in range(2)] == [merges, merges]  # type: ignore[attr-defined]


# --- who --------------------------------------------------------------------------------------------


def test_attackers_are_the_last_peers_unless_they_are_named() -> None:
    assert SignFlip(count=3).positions(10) == (7, 8, 9)
    assert SignFlip(fraction=0.3).positions(10) == (7, 8, 9)
    assert SignFlip(peers=(5, 1, 5)).positions(10) == (1, 5)
    assert SignFlip(count=0).positions(10) == ()
    assert ATTACKS.validate({"kind": "none", "count": 3}).positions(10) == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "needs exactly one of fraction, count and peers"),
        ({"count": 1, "peers": [2]}, "it has count and peers"),
        ({"count": 1, "samples_per_class": 2}, "samples_per_class belongs to data"),
    ],
)
def test_who_attacks_is_said_once(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ATTACKS.validate({"kind": "nan", **values})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (SignFlip(count=4), "leave nobody honest"),
        (SignFlip(peers=(4,)), "there is no peer 4"),
        (SignFlip(peers=(0, 1, 2, 3)), "nobody is left honest"),
    ],
)
def test_somebody_stays_honest(settings: AttackSettings, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        settings.positions(4)


def test_what_an_attacker_learns_from_is_drawn_and_poisoned() -> None:
    attack = made("label-flip")
    shard = base.poisoned_shard(attack, 4, name="p4", seed=0)
    honest = TASK.shard(4, PEERS)
    assert torch.equal(shard.x, honest.x)
    assert torch.equal(shard.y, (honest.y - 1) % 10)
    few = base.poisoned_shard(made("label-flip", data="all", samples_per_class=2), 4, name="p4", seed=0)
    assert torch.bincount(few.y, minlength=10).tolist() == [2] * 10
    every = base.poisoned_shard(made("none", data="all"), 4, name="p4", seed=0)
    assert len(every) == 60


def test_a_backdoors_success_is_how_often_other_classes_are_taken_for_its_target() -> None:
    attack = made("backdoor", target=3)
    assert isinstance(attack.settings, Backdoor)
    asked: list[tuple[Tensor, Tensor]] = []

    def evaluate(x: Tensor, y: Tensor) -> float:
        asked.append((x, y))
        return 0.25

    assert attack.success(evaluate) == 0.25
    x, y = asked[0]
    assert set(y.tolist()) == {3}
    assert len(x) == int((TASK.dataset.y_test != 3).sum())
    assert made("nan").success(evaluate) is None
