"""A local update changes the model where it lies: the bits of its steps, flat in their number, no copy to spare."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gossip import seeding
from gossip.learning import batches, models
from gossip.learning.forward import Forward
from gossip.learning.generators import NONE, Generators
from gossip.learning.local_training import LocalTraining
from gossip.learning.settings import LocalSettings, ModelSettings
from gossip.learning.updates import adamw
from gossip.parameters import ParameterSpace
from tests.resident import MAPPED_BYTES_MIN, peak_bytes

VARIANTS = {
    "sgd": {},
    "decay": {"weight_decay": 0.01},
    "momentum": {"momentum": 0.9},
    "kept-momentum": {"momentum": 0.9, "keep_momentum": True, "weight_decay": 0.01},
    "sam": {"sam_rho": 0.05},
    "adaptive-sam": {"sam": "adaptive", "sam_rho": 0.5},
    "clipped": {"clip_norm": 0.5},
    "adamw": {"optimizer": {"kind": "adamw"}, "weight_decay": 0.01},
    "adamw-of-sam": {"optimizer": {"kind": "adamw"}, "sam_rho": 0.1, "clip_norm": 0.5},
    "everything": {"momentum": 0.5, "sam_rho": 0.1, "weight_decay": 0.01, "clip_norm": 0.5},
}


class Odd(nn.Module):
    """Tied weights, one parameter that is not used, two whose gradients are one tensor, dropout and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(64)
        self.unused = nn.Parameter(torch.ones(5))
        self.one = nn.Parameter(torch.zeros(10))
        self.other = nn.Parameter(torch.zeros(10))
        self.last = nn.Linear(64, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norm(self.first(x.flatten(1))))
        h = nn.functional.dropout(torch.relu(self.second(h)), 0.3, self.training)
        return self.last(h) + self.one + self.other


def mlp(*hidden: int) -> nn.Module:
    return models.build(ModelSettings(hidden=hidden), (1, 8, 8), 10, seed=1, folder=Path())


def odd() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Odd()


def samples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 8, 8, generator=g), torch.randint(0, 10, (n,), generator=g)


def update_of(
    module: nn.Module, *, draws: Generators = NONE, **local: object
) -> tuple[LocalTraining, torch.Tensor]:
    space = ParameterSpace.of(module)
    update = LocalTraining(
        Forward(module, space), LocalSettings(**local), draws=draws, batch_min=2, loss=cross_entropy
    )
    return update, space.flatten_module(module)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(
    ("make", "block"), [(lambda: mlp(33), adamw.BLOCK), (odd, 100)], ids=["mlp", "odd, in blocks"]
)
def test_a_local_update_is_its_steps_one_after_the_other_bit_by_bit(
    make, block, variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adamw, "BLOCK", block)
    update, model = update_of(make(), draws=Generators(torch=True), batch_size=8, epochs=2, **variant)
    x, y = samples(30)
    x[7] = torch.inf  # one of each epoch's mini-batches is skipped
    velocity = torch.randn(update.forward.space.trained_size, generator=torch.Generator().manual_seed(5))
    given = {"velocity": velocity[None]} if update.settings.keep_momentum else None
    state = update.start(model, given)
    lr = torch.tensor(update.lr(0), dtype=torch.float32)
    first, losses, skipped = seeding.integer_seed(4, "dropout", peer="a", round=0), [], 0
    update.forward.module.train()
    with torch.random.fork_rng(devices=[]):
        for epoch in batches.epochs(30, update.settings, seed=4, peer="a", round=0, batch_min=2):
            for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
                step = update.step(state, x[chosen], y[chosen], lr, seed=first + len(losses))
                state = step.state
                losses.append(float(step.loss))
                skipped += not step.applied
    for in_place in (False, True):
        trained = update.run(
            model.clone(),
            x,
            y,
            seed=4,
            peer="a",
            round=0,
            rows=None if given is None else {"velocity": velocity[None].clone()},
            in_place=in_place,
        )
        assert torch.equal(trained.model, torch.cat([state.trained, state.rest]))
        assert trained.skipped == skipped > 0
        assert trained.rows.keys() == state.rows.keys()
        assert all(torch.equal(trained.rows[name], state.rows[name]) for name in state.rows)


def test_only_in_place_is_the_callers_memory_trained() -> None:
    update, model = update_of(mlp(20), momentum=0.9, keep_momentum=True)
    x, y = samples(16)
    velocity = torch.ones_like(model)[None]
    before = model.clone()
    apart = update.run(model, x, y, seed=0, peer="a", round=0, rows={"velocity": velocity})
    assert torch.equal(model, before)
    assert torch.equal(velocity[0], torch.ones_like(model))
    within = update.run(model, x, y, seed=0, peer="a", round=0, rows={"velocity": velocity}, in_place=True)
    assert within.model.data_ptr() == model.data_ptr()
    assert within.rows["velocity"].data_ptr() == velocity.data_ptr()
    assert torch.equal(within.model, apart.model)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_memory_is_flat_in_the_number_of_steps(variant) -> None:
    """Live tensors, and their bytes, are those of the second step in the last of 40."""
    module = mlp(16)
    update, model = update_of(module, batch_size=4, steps=40, **variant)
    x, y = samples(40)
    passes_of_a_step = 2 if update.settings.sam_rho else 1
    forwards, alive = [0], {}

    def look(*_: object) -> None:
        forwards[0] += 1
        if forwards[0] in (2 * passes_of_a_step, 40 * passes_of_a_step):
            gc.collect()
            tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
            storages = {
                each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors
            }
            alive[forwards[0]] = (len(tensors), sum(storages.values()))

    module.register_forward_hook(look)
    update.run(model, x, y, seed=0, peer="a", round=0)
    early, late = alive.values()
    assert late == early


@pytest.mark.parametrize(
    ("variant", "vectors"),
    [
        ("sgd", 1),
        ("decay", 1),
        ("momentum", 2),
        ("sam", 2),
        ("adaptive-sam", 2),
        ("clipped", 2),
        ("adamw", 3),
        ("everything", 3),
    ],
)
def test_training_in_place_takes_no_more_vectors_than_the_step_has(variant, vectors) -> None:
    """The gradient; v, or both moments; and y + δ, or the one vector whose norm clips: beside the model itself."""
    update, model = update_of(mlp(6000, 6000), batch_size=2, steps=2, **VARIANTS[variant])
    assert 4 * len(model) > MAPPED_BYTES_MIN
    x, y = samples(4)
    taken = peak_bytes(lambda: update.run(model, x, y, seed=0, peer="a", round=0, in_place=True))
    assert vectors - 0.2 < taken / (4 * len(model)) < vectors + 0.2
