"""The parameter vector: layout, round trip, roles, identity."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from gossip.errors import SettingError
from gossip.learning import models
from gossip.learning.forward import Forward
from gossip.learning.settings import ModelSettings
from gossip.parameters import COUNT_MAX, ParameterSpace, Role


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def mixed() -> nn.Module:
    """One tensor of every role and several dtypes, the learned ones not first."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fixed = nn.Parameter(torch.randn(3), requires_grad=False)
            self.norm = nn.BatchNorm1d(4)
            self.short = nn.Parameter(torch.randn(2, 2, dtype=torch.bfloat16))
            self.wide = nn.Parameter(torch.randn(3, dtype=torch.float32).double())
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.head = nn.Linear(4, 2)
            self.register_buffer("mask", torch.tensor([True, False]))
            self.register_buffer("seen", torch.tensor(COUNT_MAX))

    return seeded(Mixed)


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def assert_same(module: nn.Module) -> None:
    space = ParameterSpace.of(module)
    state = tensors_of(module)
    vector = space.flatten(state)
    assert vector.dtype is torch.float32
    assert vector.shape == (space.size,)
    back = space.unflatten(vector)
    frozen = {slot.name for slot in space.slots_of(Role.FROZEN)}
    assert back.keys() == state.keys() - frozen
    for name in back:
        tensor = state[name]
        assert back[name].dtype is tensor.dtype, name
        assert torch.equal(back[name], tensor), name
    assert torch.equal(space.flatten(back), vector)


@pytest.mark.parametrize("name", list(models.MODELS))
def test_flatten_then_unflatten_is_the_identity_for_every_model(name):
    assert_same(models.build(ModelSettings(name=name), (1, 8, 8), 10, seed=1, folder=Path()))


def test_flatten_then_unflatten_is_the_identity_for_every_dtype_and_role():
    assert_same(mixed())


def test_what_travels_comes_first_and_slots_are_contiguous():
    space = ParameterSpace.of(mixed(), roles={"scale": "private"})
    assert [slot.offset for slot in space.slots[1:]] == [slot.end for slot in space.slots[:-1]]
    order = [slot.role for slot in space.slots]
    assert order == sorted(order, key=list(Role).index)
    roles = {slot.name: slot.role for slot in space.slots}
    assert roles["fixed"] is Role.FROZEN
    assert roles["norm.running_var"] is Role.STATISTIC
    assert roles["norm.num_batches_tracked"] is Role.COUNTER
    assert roles["mask"] is Role.COUNTER
    assert roles["scale"] is Role.PRIVATE
    assert space.learned_size == sum(slot.size for slot in space.slots if slot.role is Role.LEARNED)
    assert space.trained_size == space.learned_size + 1
    vector = torch.zeros(space.size)
    assert vector[: space.learned_size].data_ptr() == vector.data_ptr()


def test_float32_slots_are_views():
    space = ParameterSpace.of(nn.Linear(2, 2))
    vector = torch.zeros(space.size)
    space.unflatten(vector)["weight"].fill_(3)
    assert vector.sum() == 12


def test_the_vector_is_differentiable_and_batches():
    space = ParameterSpace.of(nn.Linear(3, 2))
    vector = torch.arange(float(space.size))

    def total(v):
        tensors = space.unflatten(v)
        return (tensors["weight"] ** 2).sum() + 3 * tensors["bias"].sum()

    expected = torch.cat([2 * vector[:6], torch.full((2,), 3.0)])
    assert torch.equal(torch.func.grad(total)(vector), expected)
    stacked = torch.stack([vector, 2 * vector])
    assert torch.equal(torch.vmap(torch.func.grad(total))(stacked)[0], expected)
    assert torch.equal(torch.vmap(lambda v: space.flatten(space.unflatten(v)))(stacked), stacked)


def test_tied_parameters_share_one_slot():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    module = nn.Sequential(first, second)
    space = ParameterSpace.of(module)
    assert space.size == 16 + 4 + 4
    assert space.slot("0.weight").aliases == ("1.weight",)
    assert_same(module)
    x = torch.ones(1, 4)
    vector = space.flatten_module(module)
    assert torch.equal(Forward(module, space)(vector, vector[:0], x), module(x))
    doubled = copy.deepcopy(module)
    with torch.no_grad():
        doubled[0].weight.mul_(2)
        expected = doubled(x)
    vector[:16] *= 2
    assert torch.allclose(Forward(module, space)(vector, vector[:0], x), expected)


def test_recurrent_layers_take_their_weights_from_the_vector():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    module, other = seeded(Recurrent), Recurrent()
    space = ParameterSpace.of(module)
    vector = space.flatten_module(other).requires_grad_()
    x = torch.randn(2, 5, 3)
    logits = Forward(module, space)(vector, vector[:0], x)
    assert torch.allclose(logits, other(x))
    (gradient,) = torch.autograd.grad(logits.sum(), vector)
    assert all(gradient[slot.offset : slot.end].abs().sum() > 0 for slot in space.slots)


def test_the_space_id_is_equal_for_equal_spaces_whatever_is_learned():
    assert ParameterSpace.of(nn.Linear(2, 2)).space_id == ParameterSpace.of(nn.Linear(2, 2)).space_id


def test_the_space_id_changes_with_layout_names_roles_frozen_content_and_salt():
    def frozen(value: float) -> nn.Module:
        module = nn.Linear(2, 2)
        module.bias = nn.Parameter(torch.full((2,), value), requires_grad=False)
        return module

    spaces = [
        ParameterSpace.of(nn.Linear(2, 2)),
        ParameterSpace.of(nn.Linear(2, 3)),
        ParameterSpace.of(nn.Linear(3, 2)),
        ParameterSpace.of(nn.Linear(2, 2).double()),
        ParameterSpace.of(nn.Sequential(nn.Linear(2, 2))),
        ParameterSpace.of(nn.Linear(2, 2), roles={"bias": Role.PRIVATE}),
        ParameterSpace.of(frozen(0.0)),
        ParameterSpace.of(frozen(1.0)),
        ParameterSpace.of(nn.Linear(2, 2), salt="a"),
        ParameterSpace.of(nn.Linear(2, 2), salt=b"b"),
    ]
    assert len({space.space_id for space in spaces}) == len(spaces)


@pytest.mark.parametrize(
    ("make", "roles", "word"),
    [
        (lambda: nn.Linear(2, 2), {"wieght": "frozen"}, "did you mean 'weight'"),
        (lambda: nn.Linear(2, 2), {"weight": "lerned"}, "did you mean 'learned'"),
        (lambda: nn.BatchNorm1d(2), {"running_mean": "learned"}, "no gradient"),
        (lambda: nn.BatchNorm1d(2), {"num_batches_tracked": "statistic"}, "int64"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), {}, "complex"),
        (lambda: nn.LazyLinear(2), {}, "lazy"),
        (lambda: nn.ReLU(), {}, "no parameter to learn"),
        (lambda: nn.Linear(2**16, 2**15, device="meta"), {}, "at most 1,073,741,824"),
    ],
)
def test_what_cannot_be_a_vector_is_refused_with_a_sentence(make, roles, word):
    with pytest.raises(SettingError, match=word):
        ParameterSpace.of(make(), roles=roles)


def test_whole_numbers_that_float32_cannot_hold_are_constant_and_no_counter():
    def keyed(key: int) -> nn.Module:
        module = nn.Linear(2, 2)
        module.register_buffer("key", torch.tensor([key]))
        return module

    spaces = [
        ParameterSpace.of(keyed(key)) for key in (COUNT_MAX + 1, COUNT_MAX + 2, -COUNT_MAX - 1, COUNT_MAX)
    ]
    assert [space.slot("key").role for space in spaces] == [Role.FROZEN] * 3 + [Role.COUNTER]
    assert len({space.space_id for space in spaces}) == 4
    with pytest.raises(SettingError, match="cannot be a counter: it holds integers above 2\\^24"):
        ParameterSpace.of(keyed(COUNT_MAX + 1), roles={"key": "counter"})


def test_flatten_names_what_is_wrong():
    space = ParameterSpace.of(nn.Linear(2, 2))
    state = tensors_of(nn.Linear(2, 2))
    with pytest.raises(SettingError, match="'bias' of the model is missing"):
        space.flatten({"weight": state["weight"]})
    with pytest.raises(SettingError, match="did you mean 'bias'"):
        space.flatten({**state, "bais": state["bias"]})
    with pytest.raises(SettingError, match=r"\(1, 4\); the model's is \(2, 2\)"):
        space.flatten({**state, "weight": torch.zeros(1, 4)})
