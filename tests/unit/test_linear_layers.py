"""Linear networks learn without autograd, and to the bit what they would learn with it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossip.learning.forward import Forward
from gossip.learning.linear_layers import LinearGradient
from gossip.learning.local_training import LocalTraining
from gossip.learning.passes import Passes
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.parameters import ParameterSpace

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
    # Of a single sample and a layer of one unit autograd multiplies the other way round.
    widths=st.lists(st.integers(2, 40), min_size=2, max_size=4),
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
    assert by_hand is not None
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


def task_of(local: dict[str, Any]) -> Task:
    return Task(
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


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_it_does_without_autograd(variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(variant)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.autograd, "backward", refuse)
    assert not torch.equal(learnt(task, task.local_training()), task.initial())
