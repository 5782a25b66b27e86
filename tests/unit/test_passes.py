"""Half precision and mini-batches in parts: the gradient of the whole mini-batch, near enough, on every path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from gossip.errors import SettingError
from gossip.learning import models
from gossip.learning.forward import Forward
from gossip.learning.local_training import LocalTraining
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.parameters import ParameterSpace
from scenarios.virtual.learning.methods import choose
from tests.laws import tried

OPTIMIZERS = ({"kind": "sgd"}, {"kind": "adamw"})


def samples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(n)
    return torch.randn(n, 1, 8, 8, generator=draw), torch.randint(0, 10, (n,), generator=draw)


def trained(n: int, **local: object) -> tuple[torch.Tensor, float]:
    """Return what a local update makes of the start, as a change, and its loss."""
    module = models.build(ModelSettings(hidden=(16,)), (1, 8, 8), 10, seed=1, folder=Path())
    space = ParameterSpace.of(module)
    settings = LocalSettings.model_validate({"lr": 0.05, "batch_size": 12, **local})
    start = space.flatten_module(module)
    outcome = LocalTraining(Forward(module, space), settings).run(
        start, *samples(n), seed=2, peer="a", round=0
    )
    return outcome.model - start, outcome.loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each["kind"])
@pytest.mark.parametrize(
    "variant", [{}, {"sam_rho": 0.05}, {"clip_norm": 0.5, "weight_decay": 0.01}], ids=str
)
@given(n=st.integers(1, 40), micro=st.integers(1, 13))
@tried(0.3)
def test_parts_of_a_mini_batch_add_up_to_its_gradient(
    optimizer: dict, variant: dict, n: int, micro: int
) -> None:
    whole, loss = trained(n, optimizer=optimizer, **variant)
    parts, same = trained(n, optimizer=optimizer, micro_batch=micro, **variant)
    assert float((whole - parts).abs().max()) <= 1e-4 * float(whole.abs().max())
    assert same == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each["kind"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_goes_the_same_way(precision: str, optimizer: dict) -> None:
    whole, loss = trained(30, optimizer=optimizer)
    half, near = trained(30, optimizer=optimizer, precision=precision)
    assert not torch.equal(whole, half)
    assert float(torch.cosine_similarity(whole, half, dim=0)) > 0.99
    assert near == pytest.approx(loss, rel=0.02)
    assert half.dtype is torch.float32


class Small(nn.Module):
    """A loss whose gradient is too small for float16."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.flatten(1))


def test_small_gradients_survive_float16() -> None:
    module = Small()
    space = ParameterSpace.of(module)
    start = space.flatten_module(module)
    x, y = samples(16)

    def tiny(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 1e-6 * cross_entropy(outputs, targets)

    changes = []
    for precision in ("float32", "float16"):
        settings = LocalSettings(lr=1.0, batch_size=16, precision=precision)
        update = LocalTraining(Forward(module, space), settings, loss=tiny)
        changes.append(update.run(start, x, y, seed=0, peer="a", round=0).model.double() - start.double())
    assert float(changes[0].abs().max()) > 0
    assert float(torch.cosine_similarity(*changes, dim=0)) > 0.9


def task(**local: object) -> Task:
    return Task(
        data=DataSettings(train_max=40, test_max=20),
        model=ModelSettings(),
        local=LocalSettings.model_validate(local),
        seed=0,
        folder=Path(),
    )


@pytest.mark.parametrize("local", [{"precision": "bfloat16"}, {"micro_batch": 4}], ids=str)
def test_stacks_leave_both_to_each_peer(local: dict) -> None:
    device = torch.device("cpu")
    assert choose(task(**local), "auto", device=device, batch_size=8).method == "loop"
    with pytest.raises(SettingError, match="precision, micro_batch and compile are each peer's alone"):
        choose(task(**local), "linear-stack", device=device, batch_size=8)
    assert choose(task(), "auto", device=device, batch_size=8).method == "linear-stack"


def test_peers_that_do_not_know_them_agree_while_they_are_not_used() -> None:
    assert LocalSettings().compared() == LocalSettings(precision="float32").compared()
    assert "precision" not in LocalSettings().compared()
    assert LocalSettings(micro_batch=3).compared() != LocalSettings().compared()
