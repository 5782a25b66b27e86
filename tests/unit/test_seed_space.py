"""Laws of the seed space: K numbers are a model, their averages are averages of models, and steps need no gradient."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from gossip.config import load_task
from gossip.config.graphs import build_topology
from gossip.errors import SettingError
from gossip.learning import adapters, models, seed_space
from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.forward import Forward
from gossip.learning.local_training import LocalTraining
from gossip.learning.settings import LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.parameters import ParameterSpace, Role
from tests.virtual_learners import assert_rounds_agree, task_of, write_task_files

SHAPE = (1, 4, 4)
SIZE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task_files(tmp_path_factory.mktemp("task"))


def base() -> torch.nn.Module:
    return models.build(ModelSettings(hidden=(6,)), SHAPE, 3, seed=1, folder=Path())


def in_space(seed: int = 5) -> torch.nn.Module:
    network = base()
    adapters.adapt(network, AdapterSettings(kind="seed-space", size=SIZE), seed=seed)
    return network


def samples(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(n, *SHAPE, generator=draws), torch.randint(0, 3, (n,), generator=draws)


def built(a: torch.Tensor) -> torch.nn.Module:
    """The base, moved by hand."""
    network, signs = base(), in_space().seed_signs
    move = sum(a[k] * signs._made(slice(k, k + 1))[0] for k in range(SIZE))
    vector = torch.nn.utils.parameters_to_vector(network.parameters()) + move
    torch.nn.utils.vector_to_parameters(vector.detach(), network.parameters())
    return network


def test_directions_are_the_same_on_every_machine_and_have_length_one():
    signs = seed_space.Signs(seed=0, count=2, length=100)
    first = signs._made(slice(0, 2))
    assert torch.allclose(first.norm(dim=1), torch.ones(2))
    assert [int(sign) for sign in first[:, :8].sign().flatten()] == GOLDEN
    assert not torch.equal(first, seed_space.Signs(seed=1, count=2, length=100)._made(slice(0, 2)))


GOLDEN = [1, -1, -1, 1, 1, 1, 1, -1, -1, 1, 1, 1, -1, 1, 1, -1]
"""The first eight signs of z_0 and z_1."""


def test_zero_is_the_base_and_averages_of_numbers_are_averages_of_models():
    network, (x, _) = in_space(), samples()
    assert torch.equal(network(x), base()(x))
    space = ParameterSpace.of(network)
    assert [slot.size for slot in space.slots_of(Role.LEARNED)] == [SIZE]
    assert space.learned_size == space.trained_size == SIZE
    draws = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, SIZE, generator=draws)
    forward = Forward(network, space)
    for coefficients in (a, b, 0.3 * a + 0.7 * b):
        assert torch.allclose(forward(coefficients, torch.empty(0), x), built(coefficients)(x), atol=1e-5)
    parts = [torch.nn.utils.parameters_to_vector(built(each).parameters()) for each in (a, b)]
    merged = torch.nn.utils.parameters_to_vector(built(0.3 * a + 0.7 * b).parameters())
    assert torch.allclose(merged, 0.3 * parts[0] + 0.7 * parts[1], atol=1e-5)
    assert torch.equal(network(x), base()(x)), "the base is as it was"
    assert copy.deepcopy(network).seed_signs is network.seed_signs


def test_gradients_are_those_of_the_weights_along_the_directions(monkeypatch):
    x, y = samples()
    network = in_space()
    cross_entropy(network(x), y).backward()
    plain = base()
    cross_entropy(plain(x), y).backward()
    slope = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()])
    wanted = torch.stack([network.seed_signs._made(slice(k, k + 1))[0] @ slope for k in range(SIZE)])
    assert torch.allclose(network.seed_coefficients.grad, wanted, atol=1e-6)
    monkeypatch.setattr(seed_space, "NUMBERS_MAX", 500)
    few_at_a_time = in_space()
    assert few_at_a_time.seed_signs._kept is None
    cross_entropy(few_at_a_time(x), y).backward()
    assert torch.allclose(few_at_a_time.seed_coefficients.grad, wanted, atol=1e-6)


def training_of(**local: object) -> tuple[LocalTraining, torch.Tensor]:
    network = in_space()
    space = ParameterSpace.of(network)
    return (
        LocalTraining(Forward(network, space), LocalSettings.model_validate(local)),
        space.flatten_module(network),
    )


def test_steps_without_autograd_need_none_and_lower_the_loss():
    training, model = training_of(optimizer={"kind": "spsa", "epsilon": 1e-2}, lr=3.0, steps=60)
    x, y = samples(40)
    with torch.inference_mode():
        trained = training.run(model, x, y, seed=0, peer="a", round=0)
        before = cross_entropy(training.forward(model, model[:0], x), y)
        after = cross_entropy(training.forward(trained.model, model[:0], x), y)
    assert after < 0.9 * before
    assert not trained.model.requires_grad


def test_a_slope_from_two_losses_is_the_gradients_entry():
    training, model = training_of(optimizer={"kind": "spsa", "epsilon": 1e-2}, lr=1.0, steps=1, batch_size=64)
    x, y = samples(40)
    moved = training.run(model, x, y, seed=0, peer="a", round=0).model - model
    network = in_space()
    cross_entropy(network(x), y).backward()
    place = int(moved.abs().argmax())
    assert int((moved != 0).sum()) == 1
    assert float(-moved[place]) == pytest.approx(float(network.seed_coefficients.grad[place]), abs=1e-3)


def test_a_step_that_is_not_finite_is_undone():
    training, model = training_of(optimizer={"kind": "spsa"}, steps=2)
    x, y = samples(40)
    trained = training.run(model, x * torch.inf, y, seed=0, peer="a", round=0)
    assert torch.equal(trained.model, model)
    assert trained.skipped == 2


@pytest.mark.parametrize(
    "local", [{"momentum": 0.5}, {"optimizer": {"kind": "spsa", "epsilon": 0.05}, "lr": 1.0}]
)
@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_a_stack_is_each_peers_own(folder: Path, method: str, local):
    task = task_of(folder, steps=3, **local)
    settings = task.model_settings.model_copy(
        update={"adapter": AdapterSettings(kind="seed-space", size=SIZE)}
    )
    task = Task(
        data=task.data_settings, model=settings, local=task.local_settings, seed=1, folder=task.folder
    )
    # A difference of two losses, over 2ε: their last bits weigh ten times as much.
    assert_rounds_agree(task, method, rounds=2, tolerance=1e-4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (['model.adapter={kind="seed-space", rank=3}'], "rank = 3 belongs to factors"),
        (['model.adapter={kind="lora", size=3}'], "size = 3 belongs to kind = 'seed-space'"),
        (["local.optimizer.kind=spsa"], "spsa.*seed-space"),
        (
            [
                "local.optimizer.kind=spsa",
                'model.adapter={kind="seed-space"}',
                "local.momentum=0.9",
            ],
            "momentum = 0.9 acts on gradients",
        ),
    ],
)
def test_what_does_not_compose_is_refused_with_a_sentence(overrides, said):
    def load() -> None:
        task = load_task(arguments={"algorithm": "dfedavg"}, overrides=overrides)
        build_topology(task, names=[f"p{k}" for k in range(6)])

    with pytest.raises(SettingError, match=said):
        load()


def tied() -> torch.nn.Module:
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    network[1].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (torch.nn.GRU(3, 2), "recurrent layers"),
        (torch.nn.Flatten(), "no float32 parameters"),
        (tied(), "the network ties some"),
        (torch.nn.Linear(9, 10), r"size = 4: its directions in 100 numbers .* at most 3"),
    ],
)
def test_networks_whose_weights_cannot_move_are_refused(network, said, monkeypatch):
    monkeypatch.setattr(seed_space, "BITS_MAX", 399)
    with pytest.raises(SettingError, match=said):
        seed_space.put_into(network, size=4, seed=0)
