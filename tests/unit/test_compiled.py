"""A compiled network: the same local update but for rounding, the same names, and no end of learning where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gossip.config import load_task
from gossip.errors import SettingError
from gossip.learning import compiled
from gossip.learning.forward import Forward
from gossip.learning.generators import Generators
from gossip.learning.local_training import LocalTraining
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.parameters import ParameterSpace
from scenarios.virtual.learning.methods import choose

WAYS = (
    {"momentum": 0.9},
    {"sam_rho": 0.05, "clip_norm": 0.5},
    {"optimizer": {"kind": "adamw"}},
    {"micro_batch": 5},
)


class Net(nn.Module):
    """Layers that count, that draw, and that share a tensor."""

    def __init__(self, *, norm: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 12), nn.BatchNorm1d(12) if norm else nn.Identity()
        self.drop, self.second, self.out = nn.Dropout(dropout), nn.Linear(12, 12), nn.Linear(12, 3)
        self.second.weight = nn.Parameter(self.second.weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.second(self.drop(self.norm(self.first(x)).relu())).tanh())


def made(net: Callable[[], nn.Module], **local: object) -> tuple[LocalTraining, nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    module = net()
    space = ParameterSpace.of(module)
    settings = LocalSettings.model_validate({"lr": 0.05, "batch_size": 8, "epochs": 2, **local})
    training = LocalTraining(Forward(module, space), settings, draws=Generators(torch=True), batch_min=2)
    return training, module, space.flatten_module(module)


def trained(net: Callable[[], nn.Module], **local: object) -> tuple[torch.Tensor, nn.Module, LocalTraining]:
    """Return what 21 samples in batches of 8 make of a network: the last batch is smaller."""
    training, module, start = made(net, **local)
    draw = torch.Generator().manual_seed(5)
    x, y = torch.randn(21, 6, generator=draw), torch.randint(0, 3, (21,), generator=draw)
    return training.run(start, x, y, seed=2, peer="a", round=0).model, module, training


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gossip.learning"]


@pytest.fixture(autouse=True)
def _anew() -> None:
    """What one test has had compiled is nothing to the next."""
    torch._dynamo.reset()


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_compiled_update_is_the_same_but_for_rounding(
    way: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    def net() -> nn.Module:
        return Net(norm="micro_batch" not in way)

    plain, module, _ = trained(net, **way)
    names = list(module.state_dict())
    fast, module, training = trained(net, **way, compile=True)
    assert torch.allclose(plain, fast, atol=1e-4)
    assert list(module.state_dict()) == names
    assert [name for name, _ in module.named_modules()] == [name for name, _ in net().named_modules()]
    assert training.passes._compiled is not None
    assert told(caplog) == []


def test_what_cannot_be_compiled_is_told_once_and_trained_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def refuses(graph: torch.fx.GraphModule, samples: object) -> Callable[..., object]:
        nonlocal calls
        calls += 1
        if calls == 1:
            return graph.forward
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiled, "BACKEND", refuses)
    monkeypatch.setattr(compiled, "OPTIONS", _None())

    def net() -> nn.Module:
        return Net(norm=True, dropout=0.4)

    with caplog.at_level(logging.WARNING, "gossip.learning"):
        fast, _, _ = trained(net, compile=True)
    plain, _, _ = trained(net)
    assert torch.allclose(
        plain, fast, atol=1e-5
    )  # statistics, dropout masks and gradients of the failed pass are gone
    (line,) = told(caplog)
    assert line.startswith(
        "[local] compile: torch.compile cannot be used here, and learning goes on without it: "
    )
    assert "no compiler here" in line
    assert calls == 2


class _None(dict[object, object]):
    def get(self, key: object, default: object = None) -> None:
        return None


@pytest.mark.usefixtures("_fast")
def test_a_mistake_of_the_network_stays_its_own(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trained(lambda: Broken(norm=False), compile=True)
    assert told(caplog) == []


def test_each_peer_decides_for_itself() -> None:
    plain, fast = (load_task(overrides=(f"local.compile={value}",)) for value in ("false", "true"))
    assert plain.agreement() == fast.agreement()
    assert plain.run_id() == load_task().run_id()


def test_stacks_leave_it_to_each_peer() -> None:
    task = Task(
        data=DataSettings(train_max=40, test_max=20),
        model=ModelSettings(),
        local=LocalSettings(compile=True),
        seed=0,
        folder=Path(),
    )
    device = torch.device("cpu")
    assert choose(task, "auto", device=device, batch_size=16).method == "loop"
    with pytest.raises(SettingError, match="compile are each peer's alone"):
        choose(task, "vmap", device=device, batch_size=16)
