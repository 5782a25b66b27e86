"""Laws of local updates: torch's own optimizers as oracles, closed forms, and node = row of the stack for each."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from gossip.errors import CheckpointError
from gossip.learning import batches, models
from gossip.learning.forward import Forward
from gossip.learning.local_training import LocalTraining
from gossip.learning.schedules import learning_rate
from gossip.learning.settings import LocalSettings, ModelSettings
from gossip.learning.updates.base import LocalUpdate, UpdateContext
from gossip.learning.updates.quasi_global import QuasiGlobal
from gossip.learning.updates.sgd import Sgd
from gossip.parameters import ParameterSpace
from gossip.stages import PeerState

SHAPE = (1, 8, 8)


def module_of(name: str = "logistic") -> torch.nn.Module:
    return models.build(ModelSettings(name=name), SHAPE, 10, seed=1, folder=Path())


def training_of(module: torch.nn.Module, **local: object) -> tuple[LocalTraining, torch.Tensor]:
    space = ParameterSpace.of(module)
    training = LocalTraining(Forward(module, space), LocalSettings.model_validate(local))
    return training, space.flatten_module(module)


def samples(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *SHAPE, generator=g), torch.randint(0, 10, (n,), generator=g)


def one_by_one(
    training: LocalTraining, module: torch.nn.Module, optimizer, x, y, rounds: int
) -> torch.Tensor:
    for round in range(rounds):
        for epoch in batches.epochs(len(y), training.settings, seed=0, peer="a", round=round):
            for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
                optimizer.zero_grad()
                cross_entropy(module(x[chosen]), y[chosen]).backward()
                optimizer.step()
    return training.forward.space.flatten_module(module)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_torchs_over_rounds_that_keep_its_moments(decay: float) -> None:
    module = module_of()
    training, model = training_of(
        module,
        lr=0.01,
        epochs=4,
        batch_size=16,
        weight_decay=decay,
        optimizer={"kind": "adamw", "keep_moments": True},
    )
    x, y = samples(100)
    rows = training.rows()
    for round in range(2):
        trained = training.run(model, x, y, seed=0, peer="a", round=round, rows=rows)
        model, rows = trained.model, trained.rows
    plain = copy.deepcopy(module)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=decay)
    wanted = one_by_one(training, plain, optimizer, x, y, rounds=2)
    assert float(rows["count"]) == 56
    assert torch.allclose(model, wanted, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_finite_leaves_model_and_moments() -> None:
    training, model = training_of(module_of(), optimizer={"kind": "adamw"}, steps=1, batch_size=4)
    x, y = samples(4)
    state = training.start(model)
    after = training.step(state, x * torch.inf, y, torch.tensor(0.1))
    assert not after.applied
    assert torch.equal(after.state.trained, model)
    assert all(torch.equal(after.state.rows[name], state.rows[name]) for name in state.rows)


UPDATES = {
    "sgd": {},
    "heavy-ball": {"momentum": 0.9, "keep_momentum": True},
    "sam": {"momentum": 0.5, "sam_rho": 0.1, "weight_decay": 0.01, "clip_norm": 0.5},
    "adamw": {"optimizer": {"kind": "adamw", "keep_moments": True}, "lr": 0.01, "weight_decay": 0.01},
    "adamw-anew": {"optimizer": {"kind": "adamw", "beta2": 0.95}, "lr": 0.01, "sam_rho": 0.05},
    "quasi-global": {"optimizer": {"kind": "quasi-global"}, "momentum": 0.9, "sam_rho": 0.1},
    "quasi-global-slow": {"optimizer": {"kind": "quasi-global", "slow": 0.5}, "momentum": 0.8},
    "fedprox": {"optimizer": {"kind": "fedprox", "proximal": 0.5}, "momentum": 0.5},
    "fedspeed": {"optimizer": {"kind": "fedspeed"}, "sam_rho": 0.1},
}


@pytest.mark.parametrize("local", UPDATES.values(), ids=UPDATES)
def test_a_row_of_the_stack_is_what_its_node_does_over_rounds_with_unequal_steps(local) -> None:
    """Three peers, the second of which does two more steps, and whose models are mixed after every round."""
    training, model = training_of(module_of("mlp"), batch_size=8, steps=3, **local)
    peers, split = 3, training.forward.space.trained_size
    data = [samples(40, seed=k) for k in range(peers)]
    space = training.forward.space
    alone = [PeerState({"update": training.update}, space) for _ in range(peers)]
    table = PeerState({"update": training.update}, space, peers=peers)
    nodes = [
        model + 0.01 * torch.randn(len(model), generator=torch.Generator().manual_seed(k))
        for k in range(peers)
    ]
    stack = torch.stack(nodes)
    for round in (0, 1, 3):
        lr = torch.tensor(training.lr(round))
        for k in range(peers):
            state = training.start(nodes[k], alone[k].gather("update", [0]), rounds=[round])
            count = 5 if k == 1 else 3
            for step in range(count):
                at = slice(8 * step, 8 * step + 8)
                state = training.step(state, data[k][0][at], data[k][1][at], lr).state
            steps = torch.tensor([[float(count)]])
            trained, rows = training.end(state.trained[None], state.rows, [round], steps)
            alone[k].scatter("update", [0], rows)
            nodes[k] = torch.cat([trained[0], state.rest])
        order = [1, 0, 2]  # whoever does most steps first
        state = training.start(stack[order], table.gather("update", order), rounds=[round] * peers)
        for step in range(5):
            active = 1 if step >= 3 else 3
            part = type(state)(
                state.trained[:active], state.rest[:active], {n: r[:active] for n, r in state.rows.items()}
            )
            x = torch.stack([data[k][0][8 * step : 8 * step + 8] for k in order[:active]])
            y = torch.stack([data[k][1][8 * step : 8 * step + 8] for k in order[:active]])
            part = training.step_stacked(part, x, y, lr.expand(active)).state
            state = type(state)(
                torch.cat([part.trained, state.trained[active:]]),
                torch.cat([part.rest, state.rest[active:]]),
                {n: torch.cat([part.rows[n], r[active:]]) for n, r in state.rows.items()},
            )
        steps = torch.tensor([[5.0], [3.0], [3.0]])
        trained, rows = training.end(state.trained, state.rows, [round] * peers, steps)
        table.scatter("update", order, rows)
        stack = torch.cat([trained, state.rest], 1)[[order.index(k) for k in range(peers)]]
        for k in range(peers):
            assert torch.allclose(stack[k], nodes[k], rtol=1e-5, atol=1e-5)
        mean = stack.mean(0)
        stack, nodes = (stack + mean) / 2, [(node + mean) / 2 for node in nodes]
    for k in range(peers):
        for name, row in alone[k].export(0).items():
            assert torch.allclose(table.export(k)[name], row, rtol=1e-4, atol=1e-4), name
    assert len(stack[0]) == split


# --- quasi-global momentum -------------------------------------------------------------------------


def quasi_global(mu: float, slow: float | None = None) -> QuasiGlobal:
    local = LocalSettings.model_validate(
        {"momentum": mu, "optimizer": {"kind": "quasi-global", "slow": slow}}
    )
    return QuasiGlobal(local.optimizer, local)


class Space:
    trained_size = 3


def rounds_of(
    update: QuasiGlobal, gradient: torch.Tensor, rounds: range, *, steps: int, lr: float, mix=lambda y: y
):
    """Do local updates of one peer under a constant gradient; yields (model before, state after)."""
    model = torch.zeros(1, 3)
    state = {name: torch.zeros(1, row.length) for name, row in update.rows(Space()).items()}  # type: ignore[arg-type]
    for round in rounds:
        context = UpdateContext(torch.tensor([[float(round)]]), torch.tensor([[lr]]))
        state = update.begin(model, state, context)
        for _ in range(steps):
            model, state = update.step(lambda _: gradient, model, state, context.lr)
        model, state = update.end(model, state, context, torch.tensor([[float(steps)]]))
        yield model, state
        model = mix(model)


@given(st.floats(0.3, 0.8), st.integers(1, 6), st.floats(0.01, 0.5))
def test_a_constant_gradient_gives_one_over_one_less_momentum_whatever_the_number_of_steps(
    mu, steps, lr
) -> None:
    gradient = torch.tensor([[1.0, -2.0, 0.5]])
    # With one step what is missing falls by μ (2 - μ) a round: at μ = 0.8 to 0.002 of it.
    *_, (_, state) = rounds_of(quasi_global(mu), gradient, range(150), steps=steps, lr=lr)
    assert torch.allclose(state["slow"], gradient / (1 - mu), rtol=1e-2)


def test_what_mixing_made_of_the_round_is_the_momentum_and_not_the_own_steps() -> None:
    """Mixing undoes every own step: then there is no momentum, however long the own steps are."""
    gradient = torch.tensor([[1.0, -2.0, 0.5]])
    *_, (_, state) = rounds_of(quasi_global(0.9), gradient, range(5), steps=4, lr=0.1, mix=torch.zeros_like)
    assert torch.equal(state["slow"], torch.zeros(1, 3))


def test_a_model_from_elsewhere_is_no_displacement() -> None:
    gradient = torch.tensor([[1.0, -2.0, 0.5]])
    runs = [
        [
            state["slow"]
            for _, state in rounds_of(quasi_global(0.9), gradient, range(3), steps=2, lr=0.1, mix=mix)
        ]
        for mix in (lambda y: y - 1e4, lambda y: y * torch.nan)
    ]
    for slow in runs:
        assert torch.equal(slow[-1], torch.zeros(1, 3))


def test_rounds_that_were_missed_count_as_so_many_updates() -> None:
    gradient = torch.tensor([[1.0, -2.0, 0.5]])
    far = list(rounds_of(quasi_global(0.9), gradient, range(0, 8, 4), steps=2, lr=0.1))[-1][1]["slow"]
    near = list(rounds_of(quasi_global(0.9), gradient, range(2), steps=2, lr=0.1))[-1][1]["slow"]
    assert torch.allclose(far, near / 4)


# --- schedules -------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(0, 20), st.floats(0, 1), st.sampled_from(["cosine", "linear"]))
def test_schedules_end_where_they_should_and_never_rise_after_the_warm_up(
    rounds, warmup, final, schedule
) -> None:
    local = LocalSettings(lr=0.5, schedule=schedule, lr_final=final, lr_warmup=warmup)
    rates = [learning_rate(local, round, rounds) for round in range(rounds)]
    assert all(0 <= rate <= 0.5 + 1e-12 for rate in rates)
    after = rates[warmup:]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
    if len(after) > 1:
        assert after[0] == pytest.approx(0.5)
        assert after[-1] == pytest.approx(0.5 * final)
    if warmup and rounds > warmup:
        assert rates[0] < rates[warmup]


def test_the_exponential_schedule_is_the_one_of_before() -> None:
    local = LocalSettings(lr=0.3, lr_decay=0.9)
    assert [learning_rate(local, t, None) for t in range(3)] == [0.3 * 0.9**t for t in range(3)]


@pytest.mark.parametrize(
    ("local", "sentence"),
    [
        ({"optimizer": {"kind": "quasi-global"}}, "needs momentum"),
        ({"optimizer": {"kind": "adamw"}, "momentum": 0.9}, "momentum is not adamw's"),
        (
            {"optimizer": {"kind": "quasi-global"}, "momentum": 0.9, "keep_momentum": True},
            "keep_momentum is not",
        ),
        ({"schedule": "cosine", "lr_decay": 0.9}, "belongs to schedule"),
        ({"lr_final": 0.1}, "belongs to schedule"),
        ({"optimizer": {"kind": "adamww"}}, "did you mean 'adamw'"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(local, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        LocalSettings.model_validate(local)


# --- rows ------------------------------------------------------------------------------------------


def test_rows_go_out_and_come_back_and_foreign_ones_are_refused() -> None:
    training, _ = training_of(module_of(), momentum=0.9, keep_momentum=True)
    space = training.forward.space
    table = PeerState({"update": training.update}, space, peers=3)
    rows = {"velocity": torch.arange(2.0 * space.trained_size).reshape(2, -1)}
    table.scatter("update", [2, 0], rows)
    assert torch.equal(table.gather("update", [0])["velocity"][0], rows["velocity"][1])
    saved = table.export(2)
    table.zero(2)
    assert not table.gather("update", [2])["velocity"].any()
    table.restore(2, saved)
    assert torch.equal(table.export(2)["update.velocity"], rows["velocity"][0])
    table.restore(1, {})
    with pytest.raises(CheckpointError, match="use the settings it was made with"):
        table.restore(1, {"update.first": saved["update.velocity"]})
    with pytest.raises(CheckpointError, match="use the settings it was made with"):
        table.restore(1, {"update.velocity": saved["update.velocity"][:-1]})


# --- what a user's own update may do ---------------------------------------------------------------


class Begins(LocalUpdate):
    """Remembers nothing, and looks at what it begins with."""

    begun: ClassVar[list[int]] = []

    def begin(self, models, state, context):
        self.begun.append(len(models))
        return state

    def step(self, gradient, models, state, lr):
        return models - lr * gradient(models), state


class Backwards(Sgd):
    """Made of ours, with a step of its own."""

    def step(self, gradient, models, state, lr):
        return models + lr * gradient(models), state


class Twice(LocalUpdate):
    """Takes the gradient at two points."""

    def step(self, gradient, models, state, lr):
        return models - lr * (gradient(models) + gradient(models * 0)), state


def training_with(update: type[LocalUpdate], **local: object) -> tuple[LocalTraining, torch.Tensor]:
    training, model = training_of(module_of(), **local)
    training.update = update(training.settings.optimizer, training.settings)
    return training, model


def test_an_update_that_remembers_nothing_is_told_where_it_begins() -> None:
    training, model = training_with(Begins, steps=1)
    Begins.begun.clear()
    training.start(model)
    training.start(torch.stack([model, model]))
    assert Begins.begun == [1, 2]


def test_a_step_of_ones_own_is_done_where_one_model_is_trained_and_where_many_are() -> None:
    training, model = training_with(Backwards, steps=1, batch_size=16)
    x, y = samples(16)
    alone = training.run(model, x, y, seed=0, peer="a", round=0).model
    stack = training.start(model[None])
    both = training.step_stacked(stack, x[None], y[None], torch.tensor([training.lr(0)]))
    assert torch.allclose(alone, both.state.trained[0], atol=1e-6)
    plain, _ = training_of(module_of(), steps=1, batch_size=16)
    assert not torch.allclose(alone, plain.run(model, x, y, seed=0, peer="a", round=0).model)


def test_a_step_counts_only_if_all_its_gradients_are_finite_and_its_loss_is_that_where_it_begins() -> None:
    training, model = training_with(Twice, batch_size=4)
    x, y = samples(4)
    lr = torch.tensor(0.1)
    done = training.step(training.start(model), x, y, lr)
    assert float(done.loss) == float(training_of(module_of())[0].step(training.start(model), x, y, lr).loss)
    broken = model.clone()
    broken[0] = torch.inf  # the second gradient, at zero, is finite
    assert not training.step(training.start(broken), x, y, lr).applied
