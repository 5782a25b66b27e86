"""Adapters: what they add to layers of any network, what learns, what travels, and what is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.learning import adapter_bases, adapters
from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.parameters import Role
from gossip.protocols.base import Contribution, GossipStep
from tests.laws import tried

OWN = """
import torch
from torch import nn

class Conv1D(nn.Module):
    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) / 4), nn.Parameter(torch.zeros(nf))
    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, groups=2)
        self.turned = Conv1D(8, 144)
        self.last = nn.Linear(8, classes)
    def forward(self, x):
        return self.last(torch.tanh(self.turned(self.deep(torch.relu(self.norm(self.conv(x)))).flatten(1))))

def net(shape, classes): return Net(classes)
"""


def task(
    folder: Path, *, seed: int = 0, name: str = "mlp", local: LocalSettings | None = None, **adapter: object
) -> Task:
    (folder / "own.py").write_text(OWN)
    model = {key: adapter.pop(key) for key in ("learned", "private", "frozen", "init") if key in adapter}
    return Task(
        data=DataSettings(train_max=60, test_max=30),
        model=ModelSettings(name=name, adapter=AdapterSettings(**{"kind": "lora", **adapter}), **model),
        local=local or LocalSettings(lr=0.3, epochs=2),
        seed=seed,
        folder=folder,
    )


def names(chosen: Task, role: Role) -> set[str]:
    return {slot.name for slot in chosen.space.slots_of(role)}


LAYERS = {
    "linear": (lambda: nn.Linear(5, 4), lambda: torch.randn(3, 5)),
    "no bias": (lambda: nn.Linear(5, 4, bias=False), lambda: torch.randn(2, 3, 5)),
    "embedding": (lambda: nn.Embedding(7, 4), lambda: torch.randint(7, (2, 3))),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2), lambda: torch.randn(2, 3, 9)),
    "conv2d": (
        lambda: nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"),
        lambda: torch.randn(2, 3, 6, 6),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, dilation=2), lambda: torch.randn(2, 2, 5, 5, 5)),
}


def with_weight(layer: nn.Module, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return what the layer would make of `x` with another weight."""
    kept = layer.weight.data
    try:
        layer.weight.data = weight
        return layer.base(x)
    finally:
        layer.weight.data = kept


@tried(1)
@given(
    kind=st.sampled_from(sorted(LAYERS)),
    train=st.sampled_from(["R", "B", "AB"]),
    rank=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_a_layer_with_an_adapter_is_the_layer_with_another_weight(
    kind: str, train: str, rank: int, seed: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        make, sample = LAYERS[kind]
        network = nn.Sequential(make())
        x = sample()
        before = network(x)
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        settings = AdapterSettings(kind="lora", train=train, rank=rank, targets=("*",), scale=1.5)
        learns = adapters.adapt(network, settings, seed=seed)
        assert torch.equal(network(x), before), "factors begin at the base"
        assert {name.rpartition(".")[2] for name in learns} <= {"bias", *(f"lora_{each}" for each in train)}
        assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in state.items())
        layer = network[0]
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in learns and "lora" in name:
                    parameter.normal_()
            there = with_weight(layer, layer.weight + layer.change(), x)
        torch.testing.assert_close(network(x), there, rtol=1e-4, atol=1e-4)


@tried(1)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    rank=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
def test_frozen_factors_are_orthonormal_and_begin_where_the_weight_is_largest(
    shape: tuple[int, int], rank: int, seed: int
) -> None:
    rank = min(rank, *shape)
    rng = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(shape[0], rank, generator=rng, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(shape[1], rank, generator=rng, dtype=torch.float64))
    weight = (u * torch.arange(1, rank + 1)) @ v.T
    left, right = adapter_bases.of_weight(weight.float(), rank, seed=seed, name="x")
    for columns in (left, right.T, adapter_bases.orthonormal(12, rank, seed=seed, name="x")):
        torch.testing.assert_close(columns.T @ columns, torch.eye(rank), atol=1e-3, rtol=0)
    spanned = left @ (left.T @ weight.float() @ right.T) @ right
    torch.testing.assert_close(spanned, weight.float(), atol=5e-3, rtol=0)


def test_what_learns_is_factors_biases_and_the_output_layer_and_all_else_is_frozen(tmp_path: Path) -> None:
    chosen = task(tmp_path, rank=4)
    chosen.check()
    assert names(chosen, Role.LEARNED) == {"1.lora_R", "1.bias", "3.weight", "3.bias"}
    assert names(chosen, Role.FROZEN) == {"1.weight", "1.lora_A", "1.lora_L"}
    alone = task(
        tmp_path, rank=4, train="B", bias=False, output=False, learned=["3.bias"], private=["1.bias"]
    )
    assert names(alone, Role.LEARNED) == {"1.lora_B", "3.bias"}
    assert names(alone, Role.PRIVATE) == {"1.bias"}
    everywhere = task(tmp_path, rank=16, targets=["*"])
    assert everywhere.space.slot("3.lora_R").shape == (10, 10), "no more than the layer has"
    assert task(tmp_path, rank=16, targets=["*"], train="B").space.slot("3.lora_B").shape == (10, 16)


def test_convolutions_turned_layers_and_norms_of_a_users_network(tmp_path: Path) -> None:
    chosen = task(tmp_path, name="python:own.py:net", rank=2)
    assert chosen.cautions == ()
    assert names(chosen, Role.LEARNED) == {
        "conv.lora_R", "conv.bias", "turned.lora_R", "turned.bias", "last.weight", "last.bias"
    }  # fmt: skip
    assert {"norm.running_mean", "norm.num_batches_tracked", "deep.weight"} <= names(chosen, Role.FROZEN)
    assert chosen.batch_min == 1
    trained = chosen.local_training().run(
        chosen.initial(), chosen.x_train, chosen.dataset.y_train, seed=0, peer="a", round=0
    )
    again = task(tmp_path, name="python:own.py:net", rank=2)
    assert {name: tensor.sum() for name, tensor in chosen.frozen.items()} == {
        name: tensor.sum() for name, tensor in again.frozen.items()
    }
    assert trained.loss < chosen.evaluate(chosen.initial()).loss


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"targets": ["4"]}, "targets = '4' matches no linear, convolution or embedding layer"),
        ({"name": "logistic"}, "finds no linear or convolution layer before the last linear one"),
        ({"name": "python:own.py:net", "targets": ["deep"]}, "'deep' is a convolution in groups"),
        ({"learned": ["*"]}, "matches '1.lora_A', which .* has frozen"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(tmp_path: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        task(tmp_path, **settings).check()


def test_r_only_is_one_thing_with_one_name() -> None:
    assert AdapterSettings(kind="r-only").train == "R"
    with pytest.raises(ValidationError, match="is not kind"):
        AdapterSettings(kind="r-only", train="B")


def test_peers_agree_on_base_factors_and_scale_whoever_starts_where(tmp_path: Path) -> None:
    chosen = task(tmp_path)
    same = task(tmp_path, init="independent")
    assert chosen.space.space_id == same.space.space_id
    factor = same.space.slot("1.lora_R")
    assert not same.initial("a")[factor.offset : factor.end].any(), "R is zero for everybody"
    for other in (task(tmp_path, seed=1), task(tmp_path, scale=1.0), task(tmp_path, basis="base")):
        assert other.space.space_id != chosen.space.space_id
    built = chosen.initial("a")
    chosen.forget_initial()
    assert torch.equal(chosen.initial("a"), built)


@pytest.mark.parametrize("train", ["R", "B"])
def test_a_merge_of_what_travels_is_a_merge_of_weights(tmp_path: Path, train: str) -> None:
    chosen = task(tmp_path, train=train, rank=4, targets=["*"])
    learner = Learner(
        chosen, peer="p0", position=0, peers=3, merge=AverageSettings().load()(AverageSettings())
    )
    models = [
        chosen.initial() + torch.randn(chosen.space.size, generator=torch.Generator().manual_seed(n))
        for n in range(3)
    ]
    merged = learner.merge(
        models[0],
        0.5,
        [Contribution("p1", models[1], 0.3), Contribution("p2", models[2], 0.2)],
        at=GossipStep(0),
    )

    def weights(model: torch.Tensor) -> list[torch.Tensor]:
        forward = chosen.forward_on()
        with forward.holding(forward.pieces(model), model[:0], chosen.x_test[:1]):
            return [layer.weight + layer.change() for layer in adapters.adapted(chosen.module).values()]

    for found, *each in zip(weights(merged), *map(weights, models), strict=True):
        expected = 0.5 * each[0] + 0.3 * each[1] + 0.2 * each[2]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_base_in_half_precision_is_half_as_large_and_learns_nearly_the_same(tmp_path: Path) -> None:
    full, half = (
        task(tmp_path, name="python:own.py:net", rank=4, dtype=dtype) for dtype in (None, "bfloat16")
    )
    half.check()
    assert half.frozen["conv.weight"].dtype is half.frozen["turned.weight"].dtype is torch.bfloat16
    assert half.space.slot("last.weight").dtype is torch.float32, "what learns keeps its bits"
    losses = [
        each.local_training().run(
            each.initial(), each.x_train, each.dataset.y_train, seed=0, peer="a", round=0
        ).loss
        for each in (full, half)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    logits = half.forward_on()(half.initial(), half.initial()[:0], half.x_test)
    assert logits.dtype is torch.float32
    assert functional.cross_entropy(logits, half.dataset.y_test).isfinite()
