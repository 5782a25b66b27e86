"""How stacks of networks are computed: which method is chosen, and the gradient by hand."""

from __future__ import annotations

import time
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gossip.errors import SettingError
from gossip.learning.local_training import PADDING
from gossip.learning.settings import (
    IidPartition,
)
from gossip.merging.settings import MERGES, AverageSettings
from gossip.parameters import ParameterSpace
from scenarios.virtual.learning import methods
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.linear_stack import LinearStack
from tests.virtual_learners import (
    PEERS,
    assert_close,
    assert_rounds_agree,
    batched,
    deferred_round,
    learners,
    names_of,
    task_of,
    write_task_files,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples (1, 4, 4) of 3 classes and a user's networks."""
    return write_task_files(tmp_path_factory.mktemp("task"))


# --- choosing the method ---------------------------------------------------------------------------


def test_the_method_suits_the_network(folder):
    expected = {
        "mlp": "linear-stack",
        "logistic": "linear-stack",
        "python:user.py:with_batch_norm": "vmap",
        "python:user.py:with_dropout": "loop",
        "python:user.py:branching": "loop",
    }
    for model, method in expected.items():
        learning = batched(task_of(folder, model))
        assert learning.method == method, learning.reason
        assert learning.reason
    assert batched(task_of(folder, "mlp"), "vmap").method == "vmap"


def test_networks_that_vmap_cannot_run_learn_as_their_nodes_do(folder):
    for model in ("branching", "with_dropout"):
        assert_rounds_agree(task_of(folder, f"python:user.py:{model}"), "auto", rounds=2)


@pytest.mark.parametrize(("limit", "method"), [(1e9, "vmap"), (1e3, "loop")])
def test_with_convolutions_arithmetic_decides_and_no_clock(folder, monkeypatch, limit, method):
    monkeypatch.setattr(methods, "MULTIPLICATIONS_MAX", limit)
    for clock in ("time", "perf_counter", "monotonic", "process_time"):
        monkeypatch.setattr(time, clock, lambda: pytest.fail("somebody looked at a clock"))
    learning = batched(task_of(folder, "cnn"))
    assert learning.method == method
    assert f"{8 * methods.multiplications(task_of(folder, 'cnn')) / 1e6:.1f} M" in learning.reason


def test_what_vmap_computes_one_by_one_is_left_to_the_loop(folder, monkeypatch):
    agrees = methods._agrees

    def slowly(*given) -> bool:
        warnings.warn(f"{methods.SLOW} the batching rule for aten::something", UserWarning, stacklevel=1)
        return agrees(*given)

    monkeypatch.setattr(methods, "_agrees", slowly)
    assert batched(task_of(folder, "cnn")).method == "loop"


@pytest.mark.parametrize(
    ("batch_size", "peers", "size"), [(8, 20, 20), (8, 400, 58), (512, 20, 10), (512, 100, 12), (512, 7, 7)]
)
def test_stacks_of_convolutions_are_cut_by_their_arithmetic_and_alike(
    folder, monkeypatch, batch_size, peers, size
):
    monkeypatch.setattr(methods, "chunk_peers", lambda *_: 60)
    found = methods.stack_size(
        task_of(folder, "cnn"), "vmap", device=torch.device("cpu"), batch_size=batch_size, peers=peers
    )
    assert found == size


def test_choosing_leaves_no_trace(folder):
    task = task_of(folder, "cnn")
    before = task.initial()
    methods.choose(task, "auto", device=torch.device("cpu"), batch_size=8)
    assert torch.equal(task.initial(), before)
    assert not any(module._forward_hooks for module in task.module.modules())


def test_multiplications_of_convolutions_are_counted(folder):
    # 3×3 filters: 16 on a channel of 4×4 pixels, then 32 on 16 channels of 2×2.
    assert methods.multiplications(task_of(folder, "cnn")) == 16 * (16 * 9) + 4 * (32 * 16 * 9)
    assert methods.multiplications(task_of(folder, "mlp")) == 0


@pytest.mark.parametrize(
    ("model", "method"),
    [("mlp", "fast"), ("cnn", "linear-stack"), ("python:user.py:with_dropout", "vmap")],
)
def test_a_method_that_cannot_be_is_refused(folder, model, method):
    with pytest.raises(SettingError, match=f"method = '{method}'"):
        batched(task_of(folder, model), method)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card here")
@pytest.mark.parametrize("kind", ["average", "variance-corrected", "median", "ubar"])
def test_peers_on_a_card_learn_what_they_learn_on_the_cpu(folder, kind):
    merge = MERGES.validate({"kind": kind, **({"f": 1} if kind == "median" else {})})
    found = []
    for device in ("cpu", "cuda"):
        learning = BatchedLearning(task_of(folder), names_of(), merge, device=device)
        models = deferred_round(learning, [learning.initial(peer) for peer in range(PEERS)], 0)
        found.append(learning.stack(deferred_round(learning, models, 1)).cpu())
    assert_close(*found)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(folder, device):
    with pytest.raises(SettingError, match=f"device = '{device}'") as caught:
        BatchedLearning(task_of(folder), names_of(), AverageSettings(), device=device)
    assert "\n" not in str(caught.value)


# --- the gradient by hand --------------------------------------------------------------------------


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    models=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    seed=st.integers(0, 2**32),
    bias=st.booleans(),
)
def test_the_gradient_by_hand_is_the_gradient(widths, models, sizes, seed, bias):
    module = mlp(*widths, 3, bias=bias)
    space = ParameterSpace.of(module)
    stack = LinearStack.of(module, space)
    assert stack is not None
    g = torch.Generator().manual_seed(seed)
    trained = torch.randn(models, space.size, generator=g)
    x = torch.randn(models, max(sizes), widths[0], generator=g)
    y = torch.randint(0, 3, (models, max(sizes)), generator=g)
    for k in range(models):
        y[k, sizes[k] :] = PADDING
    gradients, losses, _ = stack.gradient(trained, trained[:, :0], x, y)
    for k in range(models):
        leaf = trained[k].clone().requires_grad_()
        logits = torch.func.functional_call(module, space.unflatten(leaf), (x[k, : sizes[k]],))
        loss = nn.functional.cross_entropy(logits, y[k, : sizes[k]])
        (expected,) = torch.autograd.grad(loss, leaf)
        assert torch.allclose(gradients[k], expected, rtol=1e-4, atol=1e-6)
        assert float(losses[k]) == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-6)


def test_only_plain_linear_networks_have_a_gradient_by_hand():
    hooked = mlp(4, 3)
    hooked[1].register_forward_hook(lambda *_: None)
    with_dropout = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 3))
    frozen = mlp(4, 3, 3)
    frozen[1].weight.requires_grad_(False)
    tied = mlp(4, 4, 4)
    tied[3].weight = tied[1].weight
    for module in (hooked, with_dropout, frozen, tied, nn.Linear(4, 3)):
        assert LinearStack.of(module, ParameterSpace.of(module)) is None
    assert LinearStack.of(mlp(4, 3), ParameterSpace.of(mlp(4, 3))) is not None


def test_shards_of_one_sample_and_of_two_share_a_stack(folder):
    task = task_of(folder, partition=IidPartition(), steps=2, batch_size=4)
    peers = 40  # 60 samples: one or two each
    learning, group = batched(task, peers=peers), learners(task, peers=peers)
    handles = [learning.train(learning.initial(k), k, round=0) for k in range(peers)]
    for learner, vector in zip(group, learning.stack(handles), strict=True):
        assert_close(vector, learner.train(learner.initial(), round=0).model)
