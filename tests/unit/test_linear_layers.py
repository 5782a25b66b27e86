"""Linear networks learn without autograd, and to the bit what they would learn with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossip.learning.forward import Forward
from gossip.learning.linear_layers import LinearGradient
from gossip.learning.local_training import LocalTraining
from gossip.learning.objectives.classification import Classification
from gossip.learning.objectives.settings import ClassificationSettings
from gossip.learning.passes import Passes
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.parameters import ParameterSpace
from gossip.settings import Choice

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sam": {"sam_rho": 0.1, "momentum": 0.9},
    "adaptive sam, clipped": {"sam_rho": 0.1, "sam": "adaptive", "clip_norm": 0.5, "weight_decay": 0.01},
    "adamw": {"optimizer": {"kind": "adamw"}},
    "no step in place": {"optimizer": {"kind": "quasi-global"}, "momentum": 0.9},
}
ELSEWHERE: dict[str, dict[str, Any]] = {
    "half precision": {"precision": "bfloat16"},
    "parts": {"micro_batch": 3},
}
"""What is left to autograd."""


@given(
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    bias=st.booleans(),
    samples=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    broken=st.booleans(),
)
def test_the_gradient_of_one_network_is_autograds_to_the_bit(
    widths: list[int], bias: bool, samples: int, seed: int, broken: bool
) -> None:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    forward = Forward(module, ParameterSpace.of(module))
    by_hand = LinearGradient.of(module, forward.space)
    # Behind a single unit autograd multiplies a single sample the other way round.
    assert (by_hand is None) == (1 in widths[1:-1])
    assume(by_hand is not None)
    draw = torch.Generator().manual_seed(seed)
    trained = torch.randn(forward.space.size, generator=draw)
    x = torch.randn(samples, widths[0], 1, generator=draw)
    y = torch.randint(0, widths[-1], (samples,), generator=draw)
    if broken:
        x[-1] = torch.inf

    def found(by_hand: LinearGradient | None) -> list[Tensor]:
        passes = Passes(forward, cross_entropy, LocalSettings(), by_hand=by_hand)
        loss, _, gradients = passes.gradients(forward.pieces(trained), trained[:0], x, y)
        return [loss, *gradients]

    for one, other in zip(found(by_hand), found(None), strict=True):
        assert torch.equal(one.nan_to_num(nan=7.0), other.nan_to_num(nan=7.0))


def named() -> nn.Sequential:
    """Return a network whose layers have names, which are not in the order of the alphabet."""
    layers = {"in": nn.Flatten(), "z": nn.Linear(4, 5), "act": nn.ReLU(), "a": nn.Linear(5, 3, bias=False)}
    return nn.Sequential(OrderedDict(layers))


def test_layers_may_have_names() -> None:
    module = named()
    forward = Forward(module, ParameterSpace.of(module))
    x, y, trained = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]), forward.space.flatten_module(module)
    found = [
        Passes(forward, cross_entropy, LocalSettings(), by_hand=by_hand).gradients(
            forward.pieces(trained), trained[:0], x, y
        )
        for by_hand in (LinearGradient.of(module, forward.space), None)
    ]
    assert all(torch.equal(one, other) for one, other in zip(found[0][2], found[1][2], strict=True))


def another_pass(module: nn.Sequential) -> None:
    module[1].forward = lambda x: 2 * nn.Linear.forward(module[1], x)


def another_pass_of_all(module: nn.Sequential) -> None:
    module.forward = lambda x: nn.Sequential.forward(module, x) / 3


def one_parameter_more(module: nn.Sequential) -> None:
    module.temperature = nn.Parameter(torch.ones(()))


def one_parameter_more_of_a_layer(module: nn.Sequential) -> None:
    module[1].gain = nn.Parameter(torch.ones(()))


def bias_first(module: nn.Sequential) -> None:
    weight = module[1]._parameters.pop("weight")
    module[1]._parameters["weight"] = weight


@pytest.mark.parametrize(
    "change",
    [another_pass, another_pass_of_all, one_parameter_more, one_parameter_more_of_a_layer, bias_first],
)
def test_who_is_more_than_its_layers_is_left_to_autograd(change: Callable[[nn.Sequential], None]) -> None:
    module = named()
    change(module)
    assert LinearGradient.of(module, ParameterSpace.of(module)) is None


def test_nobody_who_looks_at_all_modules_is_passed_by() -> None:
    module = named()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert LinearGradient.of(module, ParameterSpace.of(module)) is None
    finally:
        handle.remove()


class Halved(Classification):
    """A user's loss, all else ours."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) / 2


def task_of(local: dict[str, Any], objective: Choice | None = None) -> Task:
    return Task(
        objective=objective,
        data=DataSettings(train_max=60),
        model=ModelSettings(),
        local=LocalSettings.model_validate({"batch_size": 8, "steps": 12, **local}),
        seed=3,
        folder=Path(),
    )


def learnt(task: Task, training: LocalTraining) -> Tensor:
    shard = task.shard(0, 2)
    return training.run(task.initial(), shard.x, shard.y, seed=1, peer="a", round=2).model


@pytest.mark.parametrize("variant", [*VARIANTS.values(), *ELSEWHERE.values()], ids=[*VARIANTS, *ELSEWHERE])
def test_a_local_update_has_the_bits_that_it_has_by_autograd(variant: dict[str, Any]) -> None:
    task = task_of(variant)
    by_autograd = LocalTraining(task.forward_on("cpu"), task.local_settings)
    assert torch.equal(learnt(task, task.local_training()), learnt(task, by_autograd))


@pytest.mark.parametrize("kind", ["smoothed", "weighted", "own"])
def test_another_loss_is_what_is_learnt_by(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = learnt(task_of({}), task_of({}).local_training())
    settings = {"smoothed": {"label_smoothing": 0.2}, "weighted": {"class_weights": (0.1,) * 5 + (2.0,) * 5}}
    chosen = ClassificationSettings(**settings.get(kind, {}))
    if kind == "own":
        monkeypatch.setattr(ClassificationSettings, "load", lambda self: Halved)
    task = task_of({}, chosen)
    by_autograd = LocalTraining(task.forward_on("cpu"), task.local_settings, loss=task.objective.loss)
    assert torch.equal(learnt(task, task.local_training()), learnt(task, by_autograd))
    assert not torch.equal(learnt(task, by_autograd), plain)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_it_does_without_autograd(variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(variant)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.autograd, "backward", refuse)
    assert not torch.equal(learnt(task, task.local_training()), task.initial())
