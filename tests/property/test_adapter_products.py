"""Averages of products of factors: exact or the nearest of that rank; and what they do not go with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gossip.config import load_task
from gossip.config.adapters import check_adapter
from gossip.errors import SettingError
from gossip.learning import adapters
from gossip.learning.adapter_settings import AdapterSettings
from gossip.merging.base import MergeContext
from gossip.merging.products import Pair, pairs_of
from gossip.merging.settings import MERGES
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep
from tests.laws import tried
from topologies import Topology


def space(outputs: int, inputs: int, rank: int) -> ParameterSpace:
    network = nn.Sequential(nn.Linear(inputs, outputs))
    adapters.adapt(network, AdapterSettings(kind="lora", train="AB", rank=rank, targets=("*",)), seed=0)
    return ParameterSpace.of(network)


def merged(
    kind: str, layout: ParameterSpace, models: list[Tensor], weights: list[float], **settings: object
) -> Tensor:
    choice = MERGES.validate({"kind": kind, **settings})
    rule = choice.load()(choice)
    rule.check(layout)
    context = MergeContext(
        peer="a",
        seed=0,
        at=GossipStep(0),
        space=layout,
        x=torch.empty(0),
        y=torch.empty(0),
        predict=lambda m, x: x,
    )
    received = [
        Contribution(f"p{n}", model, weight)
        for n, (model, weight) in enumerate(zip(models, weights, strict=True))
    ]
    return rule(models[0], weights[0], received[1:], context=context)


def product(pair: Pair, model: Tensor) -> Tensor:
    first, second = pair.of(model)
    return second @ first


@st.composite
def merges(draw: st.DrawFn) -> tuple[ParameterSpace, list[Tensor], list[float]]:
    outputs, inputs = draw(st.integers(1, 16)), draw(st.integers(1, 16))
    rank = draw(st.integers(1, min(outputs, inputs)))
    layout = space(outputs, inputs, rank)
    count = draw(st.integers(2, 4))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    weights = torch.rand(count, generator=rng, dtype=torch.float64) + 0.1
    models = [torch.randn(layout.learned_size, generator=rng) for _ in range(count)]
    return layout, models, (weights / weights.sum()).tolist()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("product", {}), ("product", {"gauge": "orthonormal"}), ("lora-fair", {})],
    ids=["balanced", "orthonormal", "fair"],
)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e30, 3e38])
def test_what_no_product_can_be_made_of_is_averaged(kind, settings, wrong) -> None:
    layout = space(5, 4, 2)
    models = [torch.full((layout.learned_size,), wrong), torch.randn(layout.learned_size)]
    found = merged(kind, layout, models, [0.5, 0.5], **settings)
    mean = merged("average", layout, models, [0.5, 0.5])
    assert torch.equal(found.isfinite(), mean.isfinite())
    assert torch.isfinite(found).all() or not torch.isfinite(models[0]).all()


@tried(2)
@given(case=merges(), gauge=st.sampled_from(["balanced", "orthonormal"]))
def test_the_merged_product_is_the_best_of_its_rank_and_all_else_the_average(case, gauge) -> None:
    layout, models, weights = case
    (pair,) = pairs_of(layout)
    mean = sum(weight * product(pair, model) for weight, model in zip(weights, models, strict=True))
    values = torch.linalg.svdvals(mean)
    rank = pair.first.shape[0]
    found = merged("product", layout, models, weights, gauge=gauge)
    error = torch.linalg.matrix_norm(product(pair, found) - mean)
    assert error <= values[rank:].norm() + 1e-4 * values[0], "no matrix of this rank is nearer"
    bias = layout.slot("0.bias")
    average = sum(
        weight * model[bias.offset : bias.end] for weight, model in zip(weights, models, strict=True)
    )
    torch.testing.assert_close(found[bias.offset : bias.end], average, atol=1e-5, rtol=1e-5)
    again = merged("product", layout, [models[0], *models[:0:-1]], [weights[0], *weights[:0:-1]], gauge=gauge)
    if len(values) == rank or values[rank - 1] - values[rank] > 1e-2 * values[0]:
        torch.testing.assert_close(product(pair, again), product(pair, found), atol=1e-3, rtol=1e-3)


@tried(1)
@given(case=merges(), kind=st.sampled_from(["product", "lora-fair"]))
def test_copies_of_one_adapter_merge_to_it(case, kind) -> None:
    layout, models, weights = case
    (pair,) = pairs_of(layout)
    found = merged(kind, layout, [models[0]] * len(weights), weights)
    torch.testing.assert_close(product(pair, found), product(pair, models[0]), atol=1e-4, rtol=1e-3)


@tried(1)
@given(case=merges())
def test_a_corrected_average_is_no_farther_from_the_product_than_the_average(case) -> None:
    layout, models, weights = case
    (pair,) = pairs_of(layout)
    target = sum(weight * product(pair, model) for weight, model in zip(weights, models, strict=True))
    distance = {
        kind: float(torch.linalg.matrix_norm(product(pair, merged(kind, layout, models, weights)) - target))
        for kind in ("average", "lora-fair")
    }
    assert distance["lora-fair"] <= distance["average"] * (1 + 1e-4) + 1e-5


AB = ["model.adapter.kind=lora", "model.adapter.train=AB", "merge.kind=product"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["merge.kind=product"], "only .* train = 'AB' learns"),
        ([*AB, "protocol.parts=4"], r"with \[protocol\] parts = 4"),
        ([*AB, "codec.kind=top-change"], "some of their numbers are the receiver's own"),
        ([*AB, "local.momentum=0.9", "local.keep_momentum=true"], "keep_momentum = true remembers"),
        (
            [*AB, "local.optimizer.kind=adamw", "local.optimizer.keep_moments=true"],
            "keep_moments = true remembers",
        ),
        (
            [*AB, "local.optimizer.kind=quasi-global", "local.momentum=0.9"],
            "kind = 'quasi-global' remembers",
        ),
        ([*AB, "outer.kind=lerp"], r"\[outer\] kind = 'lerp' remembers"),
    ],
)
def test_what_factors_merged_as_products_do_not_go_with_is_a_sentence(
    settings: list[str], sentence: str
) -> None:
    task = load_task(overrides=["algorithm=dfedavg", *settings])
    with pytest.raises(SettingError, match=sentence):
        check_adapter(task, Topology("full", 4))


def test_averaged_factors_are_told_of() -> None:
    task = load_task(overrides=[*AB, "merge.kind=average"])
    check_adapter(task, Topology("full", 4))
    assert any("averages of the factors are not" in note for note in task.notes)
