"""Unequal steps and unequal data: FedProx's and FedSpeed's fixed points, normalised displacements, networks without
normalisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gossip.config import load_task
from gossip.config.graphs import build_topology
from gossip.errors import SettingError
from gossip.learning import models
from gossip.learning.normalised import normalised
from gossip.learning.settings import LocalSettings, ModelSettings
from gossip.learning.standardised import WSConv2d
from gossip.learning.updates.base import UpdateContext
from gossip.parameters import ParameterSpace
from gossip.stages import PeerState
from tests.laws import tried
from tests.virtual_learners import assert_rounds_agree, task_of, write_task_files

CURVATURE = torch.tensor([[1.0], [4.0], [0.5]])
BOTTOM = torch.tensor([[1.0], [-2.0], [3.0]])
"""Peer i learns f_i(y) = a_i/2 · (y − b_i)²."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task_files(tmp_path_factory.mktemp("task"))


def fixed_point(**local: object) -> float:
    """Return where three peers that average fully end up, with ten steps of 0.05 a round."""
    settings = LocalSettings.model_validate(local)
    update = settings.optimizer.load()(settings.optimizer, settings)
    space = ParameterSpace.of(torch.nn.Linear(1, 1, bias=False))
    table = PeerState({"update": update}, space, peers=3)
    x, lr = torch.zeros(3, 1), torch.full((3, 1), 0.05)
    for round in range(400):
        context = UpdateContext(torch.full((3, 1), float(round)), lr)
        state = update.begin(x, table.gather("update", [0, 1, 2]), context)
        y = x
        for _ in range(10):
            y, state = update.step(lambda y: CURVATURE * (y - BOTTOM), y, state, lr)
        y, state = update.end(y, state, context, torch.full((3, 1), 10.0))
        table.scatter("update", [0, 1, 2], state)
        x = y.mean(0, keepdim=True).expand(3, 1)
    return float(x[0])


OPTIMUM = float((CURVATURE * BOTTOM).sum() / CURVATURE.sum())


def test_fedspeed_ends_at_the_optimum_of_all_and_fedprox_does_not():
    assert fixed_point(optimizer={"kind": "fedspeed", "proximal": 1.0}) == pytest.approx(OPTIMUM, abs=1e-4)
    prox = fixed_point(optimizer={"kind": "fedprox", "proximal": 1.0})
    plain = fixed_point()
    assert abs(plain - OPTIMUM) > abs(prox - OPTIMUM) > 0.1, "the term helps, and has a bias"


def test_a_dual_of_a_round_that_is_past_is_none():
    settings = LocalSettings.model_validate({"optimizer": {"kind": "fedspeed"}})
    update = settings.optimizer.load()(settings.optimizer, settings)
    rows = {"dual": torch.ones(3, 1), "previous": torch.tensor([[5.0], [4.0], [0.0]])}
    at = UpdateContext(torch.tensor([[5.0], [5.0], [0.0]]), torch.ones(3, 1))
    assert update.begin(torch.zeros(3, 1), rows, at)["dual"].flatten().tolist() == [1.0, 0.0, 0.0]


@tried(1)
@given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 2**32))
@example(41, 41, 0)  # 41 · (1 / 41) is not 1
def test_normalised_displacements_keep_their_direction_and_are_bounded(steps, usual, seed):
    draws = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, 1, 7, generator=draws)
    if not steps:
        after = before
    found = normalised(before, after, torch.tensor([[float(steps)]]), usual=usual)
    factor = min(2.0, max(0.5, usual / max(1, steps)))
    assert torch.allclose(found - before, factor * (after - before), atol=1e-5)
    if steps == usual:
        assert torch.equal(found, after)


@pytest.mark.parametrize("method", ["linear-stack", "loop"])
def test_normalised_updates_of_a_stack_are_each_peers_own(folder, method):
    assert_rounds_agree(task_of(folder, steps=None, epochs=2, normalise=3), method, rounds=2)


def test_standardised_weights_have_no_scale_and_gradients_are_at_right_angles_to_them():
    draws = torch.Generator().manual_seed(0)
    layer = WSConv2d(3, 5, 3, padding=1)
    x = torch.randn(4, 3, 6, 6, generator=draws)
    out = layer(x)
    out.square().sum().backward()
    weight, slope = layer.weight.detach().flatten(1), layer.weight.grad.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(weight, slope)
    assert cosine.abs().max() < 1e-4
    with torch.no_grad():
        layer.weight *= torch.tensor([0.5, 1.0, 2.0, 10.0, 3.0])[:, None, None, None]
        assert torch.allclose(layer(x), out, atol=1e-4)


def test_networks_without_normalisation_keep_the_variance_of_what_they_are_given():
    module = models.build(ModelSettings(name="resnet18-ws"), (3, 8, 8), 10, seed=1, folder=Path())
    assert not any("norm" in type(part).__name__.lower() for part in module.modules())
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = module[:-3](x)
    assert 0.03 < float(features.var()) < 3, "the last planes are single pixels, in a frame of zeros"


def test_a_standardised_network_learns_in_stacks_what_each_peer_does(folder):
    assert_rounds_agree(task_of(folder, "cnn-ws", steps=2), "vmap")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["merge.kind=ubar"], "fedspeed.* judges each by own samples"),
        (["protocol.order=combine-then-adapt"], "fedspeed.*combine-then-adapt"),
        (["protocol.gossip_steps=0"], "fedspeed.*gossip_steps = 0"),
        (["protocol.kind=push", "protocol.variant=random-walk"], "fedspeed.*random-walk"),
        (["local.normalise=3"], "normalise.*fedspeed"),
        (["local.consolidate=familiar"], "fedspeed.*familiar"),
        (
            ["local.optimizer.kind=sgd", "model.name=cnn-ws", "merge.kind=variance-corrected"],
            "variance-corrected.*cnn-ws",
        ),
    ],
)
def test_what_does_not_compose_is_refused_with_a_sentence(overrides, said):
    def load() -> None:
        task = load_task(
            arguments={"algorithm": "dfedavg"}, overrides=["local.optimizer.kind=fedspeed", *overrides]
        )
        build_topology(task, names=[f"p{k}" for k in range(6)])

    with pytest.raises(SettingError, match=said):
        load()


def test_fedspeed_says_that_duals_are_rare_where_samples_train():
    task = load_task(arguments={"algorithm": "modest"}, overrides=["local.optimizer.kind=fedspeed"])
    build_topology(task, names=[f"p{k:02}" for k in range(40)])
    assert any("begins its dual anew" in note for note in task.notes)
