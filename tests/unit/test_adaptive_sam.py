"""Adaptive SAM: the perturbation of its paper, what it promises, and who may ask for it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from gossip.config import load_task
from gossip.errors import SettingError
from gossip.learning import in_place
from gossip.learning.forward import Forward
from gossip.learning.local_training import LocalTraining
from gossip.learning.sam import asam_perturbation, sam_perturbation
from gossip.learning.settings import LocalSettings
from gossip.parameters import ParameterSpace

finite = st.floats(-100, 100, width=32)
pairs = st.lists(st.tuples(finite, finite), min_size=1, max_size=20)
radii = st.floats(1e-3, 10)


def samples(n: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 6, generator=g), torch.randint(0, 3, (n,), generator=g)


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def rescaled(module: nn.Sequential, factor: float) -> nn.Sequential:
    """Return a network that computes the same: ReLU(a·h) = a·ReLU(h)."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[0].weight *= factor
        other[0].bias *= factor
        other[2].weight /= factor
    return other


def update_of(module: nn.Module, **local: object) -> tuple[LocalTraining, torch.Tensor]:
    space = ParameterSpace.of(module)
    return LocalTraining(Forward(module, space), LocalSettings(**local)), space.flatten_module(module)


def loss_after_climbing(module: nn.Module, rho: float, eta: float | None) -> float:
    update, model = update_of(module)
    (x, y), rest = samples(), model[len(model) :]
    g, _, _ = update.gradient_of_batch(model, rest, x, y)
    delta = sam_perturbation(g, rho) if eta is None else asam_perturbation(g, model, rho, eta)
    return float(cross_entropy(update.forward(model + delta, rest, x), y))


def test_the_perturbation_of_two_weights_by_hand():
    w, g = torch.tensor([3.0, -4.0]), torch.tensor([1.0, 2.0])
    # T g = (3, 8), T² g = (9, 32)
    assert torch.allclose(asam_perturbation(g, w, 0.5, 0.0), torch.tensor([9.0, 32.0]) * 0.5 / math.sqrt(73))
    # T = (4, 5)
    assert torch.allclose(asam_perturbation(g, w, 1.0, 1.0), torch.tensor([16.0, 50.0]) / math.sqrt(116))


@given(pairs, radii, st.floats(0, 1))
def test_measured_in_the_weights_sizes_it_is_as_long_as_the_radius(values, rho, eta):
    w, g = (torch.tensor(column) for column in zip(*values, strict=True))
    size = w.abs() + eta
    delta = asam_perturbation(g, w, rho, eta)
    kept = size > 0
    if float(torch.linalg.vector_norm((size * g).double())) > 1e-3:
        assert float(torch.linalg.vector_norm((delta / size)[kept].double())) == pytest.approx(rho, rel=1e-4)
    assert torch.equal(asam_perturbation(torch.zeros_like(g), w, rho, eta), torch.zeros_like(g))
    assert not delta[~kept].any()


@given(pairs, radii, st.floats(0.1, 10))
def test_with_weights_of_one_size_it_is_sam_with_a_radius_so_many_times_as_large(values, rho, size):
    signs, g = (torch.tensor(column) for column in zip(*values, strict=True))
    if float(torch.linalg.vector_norm(g)) < 1e-3:
        return
    w = torch.where(signs < 0, -size, size)
    wanted = sam_perturbation(g, rho * size)
    assert torch.allclose(asam_perturbation(g, w, rho, 0.0), wanted, rtol=1e-4, atol=1e-5 * rho * size)


@given(st.integers(0, 20), st.floats(0.02, 1), st.floats(0.05, 20))
def test_scaling_that_leaves_the_network_as_it_is_leaves_the_loss_it_maximises_as_it_is(seed, rho, factor):
    module = network(seed)
    losses = [loss_after_climbing(each, rho, 0.0) for each in (module, rescaled(module, factor))]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_without_the_sizes_scaling_does_change_that_loss():
    module = network(0)
    losses = [loss_after_climbing(each, 0.5, None) for each in (module, rescaled(module, 10.0))]
    assert losses[1] > 1.5 * losses[0]


@pytest.mark.parametrize("way", ["one step at a time", "in place"])
@pytest.mark.parametrize("block", [7, 1 << 18])
def test_three_steps_are_those_of_a_loop_in_plain_numpy(way, block, monkeypatch):
    monkeypatch.setattr(in_place, "BLOCK", block)  # of 75 weights
    rho, eta, lr = 0.5, 0.01, 0.2
    update, model = update_of(network(3), sam="adaptive", sam_rho=rho, lr=lr, steps=3, batch_size=99)
    x, y = samples()
    w = model.double().numpy()
    for _ in range(3):
        size = np.abs(w) + eta
        g = numpy_gradient(w, x.double().numpy(), y.numpy())
        delta = rho * size**2 * g / np.linalg.norm(size * g)
        w = w - lr * numpy_gradient(w + delta, x.double().numpy(), y.numpy())
    if way == "in place":
        after = update.run(model.clone(), x, y, seed=0, peer="a", round=0, in_place=True).model
    else:
        state = update.start(model)
        for _ in range(3):
            state = update.step(state, x, y, torch.tensor(lr)).state
        after = state.trained
    assert np.allclose(after.numpy(), w, rtol=1e-5, atol=1e-6)
    standard, _ = update_of(network(3), sam_rho=rho, lr=lr, steps=3, batch_size=99)
    other = standard.run(model.clone(), x, y, seed=0, peer="a", round=0).model
    assert not np.allclose(other.numpy(), w, atol=1e-3)


def numpy_gradient(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the gradient of the mean cross-entropy of `network` at the vector w, by hand."""
    first, bias, second, last = np.split(w, np.cumsum([48, 8, 24]))
    first, second = first.reshape(8, 6), second.reshape(3, 8)
    h = np.maximum(x @ first.T + bias, 0)
    logits = h @ second.T + last
    p = np.exp(logits - logits.max(1, keepdims=True))
    delta = (p / p.sum(1, keepdims=True) - np.eye(3)[y]) / len(y)
    below = delta @ second * (h > 0)
    return np.concatenate([(below.T @ x).ravel(), below.sum(0), (delta.T @ h).ravel(), delta.sum(0)])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["algorithm=dfedavg", "local.sam=adaptive"],
            'local.sam=adaptive: [local] sam = "adaptive" needs a radius',
        ),
        (
            ["local.sam=adaptive", "local.sam_rho=0"],
            'local.sam_rho=0: [local] sam = "adaptive" needs a radius',
        ),
        (["local.sam_eta=0.1"], '[local] sam_eta = 0.1 belongs to sam = "adaptive"'),
        (["local.sam=adaptive", "local.sam_eta=-1"], "sam_eta = -1: must be greater than or equal to 0"),
        (["local.sam=adaptiv"], "sam = 'adaptiv': must be 'standard' or 'adaptive'"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(overrides, sentence):
    with pytest.raises(SettingError) as caught:
        load_task(overrides=overrides)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_peers_agree_on_it_and_those_without_it_agree_as_they_did_before_there_was_a_choice():
    plain = load_task().agreement()
    assert plain["local"] == "8321a2b8f5473755"
    assert load_task(overrides=["local.sam=standard"]).agreement() == plain
    adaptive = load_task(overrides=["local.sam=adaptive"]).agreement()
    other = load_task(overrides=["local.sam=adaptive", "local.sam_eta=0"]).agreement()
    assert len({found["local"] for found in (plain, adaptive, other)}) == 3
