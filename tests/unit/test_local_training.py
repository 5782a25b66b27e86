"""Laws of the local update: SGD, heavy-ball, SAM (S1–S7), one step under vmap, batch order, skipped batches."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from gossip.learning import batches, models
from gossip.learning.forward import Forward
from gossip.learning.generators import Generators
from gossip.learning.local_training import LocalState, LocalTraining
from gossip.learning.sam import sam_perturbation
from gossip.learning.settings import LocalSettings, ModelSettings
from gossip.parameters import ParameterSpace, Role
from tests.laws import tried

LR = torch.tensor(0.1)
VARIANTS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "sam": {"sam_rho": 0.05},
    "adaptive-sam": {"sam": "adaptive", "sam_rho": 0.5},
    "everything": {"momentum": 0.5, "sam_rho": 0.1, "weight_decay": 0.01, "clip_norm": 0.5},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(n: int, *shape: int, seed: int = 0, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(seed)
    return torch.randn(n, *shape, generator=g), torch.randint(0, classes, (n,), generator=g)


def build(name: str = "mlp", shape: tuple[int, ...] = (1, 8, 8)) -> nn.Module:
    return models.build(ModelSettings(name=name), shape, 10, seed=1, folder=Path())


def update_of(module: nn.Module, loss=cross_entropy, **keywords) -> tuple[LocalTraining, torch.Tensor]:
    options = {key: keywords.pop(key) for key in ("draws", "batch_min") if key in keywords}
    space = ParameterSpace.of(module)
    update = LocalTraining(Forward(module, space), LocalSettings(**keywords), loss=loss, **options)
    return update, space.flatten_module(module)


def with_batch_norm() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10)
        )


class Quadratic(nn.Module):
    """Gives its weights as "logits", for losses f(w)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w


# --- SAM -------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30), st.floats(1e-3, 10))
def test_s1_the_perturbation_has_norm_rho_and_is_zero_for_a_zero_gradient(values, rho):
    g = torch.tensor(values)
    norm = float(torch.linalg.vector_norm(sam_perturbation(g, rho).double()))
    if float(torch.linalg.vector_norm(g)) > 1e-5:
        assert norm == pytest.approx(rho, rel=2e-6)
    assert norm <= rho * (1 + 2e-6)
    assert torch.equal(sam_perturbation(torch.zeros_like(g), rho), torch.zeros_like(g))


@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=20), st.floats(0.01, 100))
def test_s6_the_perturbation_does_not_depend_on_the_scale_of_the_loss(values, scale):
    g = torch.tensor(values)
    if torch.linalg.vector_norm(g) < 1e-3:
        return
    assert torch.allclose(sam_perturbation(g, 0.3), sam_perturbation(scale * g, 0.3), atol=1e-6)


def test_s2_rho_zero_is_sgd_bit_by_bit():
    module = build()
    x, y = samples(40, 1, 8, 8)
    update, model = update_of(module, sam_rho=0.0, epochs=2)
    trained = update.run(model, x, y, seed=0, peer="a", round=0)
    plain = copy.deepcopy(module)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1)
    by_hand, rest = model, model[:0]
    for epoch in batches.epochs(40, update.settings, seed=0, peer="a", round=0):
        for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
            optimiser.zero_grad()
            cross_entropy(plain(x[chosen]), y[chosen]).backward()
            optimiser.step()
            g, _, _ = update.gradient_of_batch(by_hand, rest, x[chosen], y[chosen])
            by_hand = torch.addcmul(by_hand, g, LR, value=-1)
    assert torch.equal(trained.model, by_hand)
    assert torch.allclose(trained.model, update.forward.space.flatten_module(plain), rtol=1e-5, atol=1e-6)


def test_s3_the_step_is_taken_from_the_unperturbed_weights_bit_by_bit():
    update, model = update_of(build(), sam_rho=0.5)
    x, y = samples(8, 1, 8, 8)
    assert torch.equal(update.step(update.start(model), x, y, torch.tensor(0.0)).state.trained, model)


def test_s4_on_a_quadratic_the_sam_gradient_is_the_closed_form():
    root = torch.randn(5, 5, generator=generator(4))
    A = root @ root.T + torch.eye(5)
    w = torch.randn(5, generator=generator(5))
    rho = 0.3
    update, _ = update_of(Quadratic(5), loss=lambda v, _: 0.5 * v @ A @ v, sam_rho=rho)
    after = update.step(update.start(w), torch.zeros(1), torch.zeros(1), torch.tensor(1.0)).state.trained
    g = A @ w
    assert torch.allclose(w - after, g + rho * (A @ g) / g.norm(), rtol=1e-5, atol=1e-5)


@given(st.integers(0, 20), st.floats(1e-3, 2))
@tried(0.25)
def test_s5_the_perturbation_never_lowers_a_convex_loss_and_gains_rho_times_the_norm(seed, rho):
    update, model = update_of(build("logistic"))
    x, y = samples(16, 1, 8, 8, seed=seed)
    rest = model[len(model) :]
    g, loss, _ = update.gradient_of_batch(model, rest, x, y)

    def at(r: float) -> float:
        return float(cross_entropy(update.forward(model + sam_perturbation(g, r), rest, x), y))

    assert at(rho) >= float(loss) - 1e-6
    assert at(1e-2) - float(loss) == pytest.approx(1e-2 * float(g.norm()), rel=0.1)


class _Counted(torch.autograd.Function):
    backwards = 0

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        _Counted.backwards += 1
        return gradient


@pytest.mark.parametrize(("rho", "passes"), [(0.0, 1), (0.05, 2)])
def test_s7_a_step_has_that_many_passes_and_counts_one_batch(rho, passes):
    module = with_batch_norm()
    update, model = update_of(module, loss=lambda a, b: _Counted.apply(cross_entropy(a, b)), sam_rho=rho)
    x, y = samples(8, 1, 8, 8)
    forwards: list[int] = []
    handle = module.register_forward_hook(lambda *_: forwards.append(1))
    _Counted.backwards = 0
    state = update.step(update.start(model), x, y, LR).state
    handle.remove()
    assert (len(forwards), _Counted.backwards) == (passes, passes)
    space = update.forward.space
    tensors = space.unflatten(torch.cat([state.trained, state.rest]))
    assert tensors["2.num_batches_tracked"] == 1
    # Statistics are those of one plain pass at the unperturbed weights.
    plain = copy.deepcopy(module).train()
    plain(x)
    assert torch.allclose(tensors["2.running_mean"], plain[2].running_mean)
    assert torch.allclose(tensors["2.running_var"], plain[2].running_var)


def test_clipping_weight_decay_and_momentum_act_on_the_sam_gradient_in_this_order():
    w = torch.tensor([3.0, 4.0])
    update, _ = update_of(
        Quadratic(2),
        loss=lambda v, _: 0.5 * v @ v,
        sam_rho=5.0,
        clip_norm=1.0,
        weight_decay=0.1,
        momentum=0.5,
    )
    x = torch.zeros(1)
    state = update.step(update.start(w), x, x, LR).state
    # δ = 5·w/5 = w, g~ = 2w, clipped to w/5, plus 0.1·w.
    assert torch.allclose(state.rows["velocity"][0], 0.3 * w)
    assert torch.allclose(state.trained, w - 0.1 * 0.3 * w)
    second = update.step(state, x, x, LR).state
    y = state.trained
    assert torch.allclose(second.rows["velocity"][0], 0.5 * 0.3 * w + y / y.norm() + 0.1 * y)


def test_frozen_slots_are_neither_moved_nor_in_the_norm_and_private_ones_are_trained():
    module = build()
    module[1].weight.requires_grad_(False)
    space = ParameterSpace.of(module, roles={"3.bias": "private"})
    update = LocalTraining(Forward(module, space), LocalSettings(sam_rho=0.1))
    model = space.flatten_module(module)
    x, y = samples(16, 1, 8, 8)
    frozen = module[1].weight.clone()
    after = update.run(model, x, y, seed=0, peer="a", round=0).model
    for slot in space.slots_of(Role.LEARNED, Role.PRIVATE):
        assert not torch.equal(model[slot.offset : slot.end], after[slot.offset : slot.end]), slot.name
    assert torch.equal(module[1].weight, frozen)
    assert len(update.start(model).trained) == space.trained_size == space.size
    assert space.size == sum(tensor.numel() for tensor in module.parameters()) - 64 * 64


# --- one definition, two ways to run it ------------------------------------------------------------


def stacked(states: list[LocalState]) -> LocalState:
    return LocalState(
        torch.stack([state.trained for state in states]),
        torch.stack([state.rest for state in states]),
        {name: torch.cat([state.rows[name] for state in states]) for name in states[0].rows},
    )


def assert_batched_equals_single(module: nn.Module, variant: dict, steps: int = 5, peers: int = 3) -> None:
    update, model = update_of(module, **variant)
    module.train()
    noise = 0.01 * torch.randn(peers, len(model), generator=generator(9))
    noise[:, update.forward.space.trained_size :] = 0
    starts = [update.start(model + noise[k]) for k in range(peers)]
    data = [[samples(8, 1, 8, 8, seed=100 * s + k) for k in range(peers)] for s in range(steps)]
    single = list(starts)
    for s in range(steps):
        single = [update.step(state, *data[s][k], LR).state for k, state in enumerate(single)]
    batched = stacked(starts)
    for s in range(steps):
        x, y = (torch.stack(parts) for parts in zip(*data[s], strict=True))
        result = update.step_stacked(batched, x, y, LR.expand(peers))
        assert result.applied.all()
        batched = result.state
    for k, state in enumerate(single):
        pairs = [(state.trained, batched.trained[k]), (state.rest, batched.rest[k])]
        pairs += [(row[0], batched.rows[name][k]) for name, row in state.rows.items()]
        for one, many in pairs:
            scale = float(one.abs().max()) if one.numel() else 1.0
            assert torch.allclose(one, many, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("name", ["logistic", "mlp", "cnn", "lenet-gn"])
def test_a_batch_of_peers_under_vmap_equals_each_peer_alone(name, variant):
    assert_batched_equals_single(build(name), variant)


def test_batch_norm_statistics_under_vmap_equal_each_peers_alone():
    assert_batched_equals_single(with_batch_norm(), VARIANTS["sam"])


def test_the_step_size_may_differ_between_batched_peers():
    update, model = update_of(build("logistic"))
    x, y = samples(8, 1, 8, 8)
    state = update.start(model)
    rates = torch.tensor([0.1, 0.2])
    result = update.step_stacked(stacked([state, state]), x.expand(2, *x.shape), y.expand(2, *y.shape), rates)
    for k, lr in enumerate(rates):
        assert torch.allclose(result.state.trained[k], update.step(state, x, y, lr).state.trained, atol=1e-6)


# --- a round ---------------------------------------------------------------------------------------


def test_a_round_is_a_pure_function_and_changes_none_of_its_inputs():
    update, model = update_of(with_batch_norm(), batch_min=2, momentum=0.9, sam_rho=0.05)
    x, y = samples(33, 1, 8, 8)
    before = [t.clone() for t in (model, x, y)]
    in_module = update.forward.space.flatten_module(update.forward.module)
    first = update.run(model, x, y, seed=0, peer="a", round=3)
    again = update.run(model, x, y, seed=0, peer="a", round=3)
    assert torch.equal(first.model, again.model)
    assert not torch.equal(first.model, update.run(model, x, y, seed=0, peer="b", round=3).model)
    assert all(torch.equal(a, b) for a, b in zip(before, (model, x, y), strict=True))
    assert torch.equal(update.forward.space.flatten_module(update.forward.module), in_module)
    assert (first.steps, first.skipped, first.samples) == (2, 0, 33)


def test_the_step_size_decays_per_round():
    update, model = update_of(build(), lr=0.5, lr_decay=0.9, steps=1, batch_size=100)
    assert update.lr(3) == pytest.approx(0.5 * 0.9**3)
    x, y = samples(20, 1, 8, 8)
    moved = [update.run(model, x, y, seed=0, peer="a", round=r).model - model for r in (0, 3)]
    assert torch.allclose(moved[1], moved[0] * 0.9**3, atol=1e-6)


def test_the_momentum_buffer_starts_anew_each_round():
    update, model = update_of(build(), momentum=0.9, steps=1, batch_size=100)
    plain, _ = update_of(build(), steps=1, batch_size=100)
    x, y = samples(20, 1, 8, 8)
    for r in range(2):
        results = [u.run(model, x, y, seed=0, peer="a", round=r).model for u in (update, plain)]
        assert torch.equal(*results)
        model = results[0]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_batch_with_a_gradient_that_is_not_finite_is_skipped_and_counted(variant):
    update, model = update_of(with_batch_norm(), batch_min=2, batch_size=8, **variant)
    x, y = samples(24, 1, 8, 8)
    x[5] = torch.inf
    trained = update.run(model, x, y, seed=0, peer="a", round=0)
    assert (trained.steps, trained.skipped, trained.samples) == (3, 1, 16)
    assert torch.isfinite(trained.model).all()
    assert trained.loss == pytest.approx(2.3, abs=0.8)
    x[:] = torch.nan
    trained = update.run(model, x, y, seed=0, peer="a", round=0)
    assert (trained.skipped, trained.samples) == (3, 0)
    assert torch.equal(trained.model, model)


def test_dropout_is_seeded_per_step_shared_by_both_passes_and_leaves_the_global_generator_alone():
    masks: list[torch.Tensor] = []
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))
    module[2].register_forward_hook(lambda _m, _i, output: masks.append(output.detach() == 0))
    update, model = update_of(module, draws=Generators(torch=True), sam_rho=0.05, batch_size=8, epochs=1)
    x, y = samples(16, 1, 8, 8)
    state = torch.get_rng_state()
    first = update.run(model, x, y, seed=0, peer="a", round=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])
    torch.rand(3)  # whatever others draw
    assert torch.equal(update.run(model, x, y, seed=0, peer="a", round=0).model, first.model)
    masks.clear()
    update.run(model, x, y, seed=0, peer="a", round=1)
    update.run(model, x, y, seed=0, peer="a", round=0)
    assert not torch.equal(masks[0], masks[4])
    torch.set_rng_state(state)


# --- batch order -----------------------------------------------------------------------------------


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.one_of(st.tuples(st.integers(1, 4), st.none()), st.tuples(st.none(), st.integers(1, 20))),
    st.integers(1, 2),
)
def test_every_epoch_holds_every_sample_once_in_batches_of_the_right_size(n, size, length, least):
    epochs_wanted, steps = length
    options = LocalSettings(batch_size=size, epochs=epochs_wanted, steps=steps)
    plan = list(batches.epochs(n, options, seed=0, peer="a", round=0, batch_min=least))
    if steps is None:
        assert len(plan) == epochs_wanted
    else:
        assert sum(len(epoch.sizes) for epoch in plan) == steps
    for place, epoch in enumerate(plan):
        assert sum(epoch.sizes) == len(epoch.order) == len(set(epoch.order.tolist()))
        if steps is None or place < len(plan) - 1:
            assert sorted(epoch.order.tolist()) == list(range(n))
    sizes = batches.batch_sizes(n, size, batch_min=least)
    assert sum(sizes) == n
    assert all(s == size for s in sizes[:-1])
    assert sizes[-1] <= size + least - 1
    assert n == 1 or size == 1 or min(sizes) >= least


def test_batch_order_depends_on_seed_peer_and_round_and_on_nothing_else():
    def order(seed: int, peer: str, round: int, epochs: int = 1) -> list[int]:
        plan = batches.epochs(50, LocalSettings(epochs=epochs), seed=seed, peer=peer, round=round)
        return next(plan).order.tolist()

    assert order(0, "a", 0) == order(0, "a", 0) == order(0, "a", 0, epochs=3)
    assert len({tuple(order(*key)) for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]}) == 4
