"""Networks that people bring: each learns what it learns in plain torch, or is refused in one sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from gossip.errors import SettingError
from gossip.learning import self_test
from gossip.learning.generators import Generators
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from tests.integration.conftest import importing

with importing("reproduce") as tool:
    zoo = tool("own_modules")

REFUSED = {
    "complex_parameter": "is complex",
    "float64_by_default": "sets torch's default dtype to float64",
    "graph_kept_from_pass_to_pass": "RuntimeError: Trying to backward through the graph a second time",
    "hook_of_a_weight": "the gradient of '1.weight' differs",
    "torchscript": "returned a TorchScript module",
    "traced": "returned a TorchScript module",
    "two_outputs": "gives tuple for 2 samples",
    "weight_kept_in_a_list": "'out.weight' has a gradient not then",
}


@pytest.mark.parametrize("kind", list(zoo.KINDS))
def test_a_network_learns_as_in_plain_torch_or_is_refused(kind: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        outcome = zoo.compare(kind)
    if kind in REFUSED:
        assert outcome.refused is not None
        assert REFUSED[kind] in outcome.refused
        assert "\n" not in outcome.refused
    else:
        assert outcome.refused is None
        assert outcome.error <= zoo.EQUAL
        assert outcome.stacked_error <= 10 * zoo.EQUAL
        assert outcome.cautions == ()
    assert torch.get_default_dtype() is torch.float32


def test_there_are_sixty_kinds_at_least() -> None:
    assert len(zoo.KINDS) - len(REFUSED) >= 60
    assert set(REFUSED) <= set(zoo.KINDS)


OWN = """
import os
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.out = nn.Linear(64, 10)
        self.register_buffer("key", torch.tensor(2**40))
    def forward(self, x):
        x = x.flatten(1)
        if self.kind == "draws" and self.training:
            x = x * int.from_bytes(os.urandom(1), "big")
        if self.kind == "changes" and self.training:
            self.key += 1
        if self.kind == "binds" and self.training:
            self.key = self.key + 1
        return self.out(x)

def draws(shape, classes): return Odd("draws")
def changes(shape, classes): return Odd("changes")
def binds(shape, classes): return Odd("binds")
"""


def own(folder: Path, name: str) -> Task:
    (folder / "mine.py").write_text(OWN)
    return Task(
        data=DataSettings(train_max=40, test_max=20),
        model=ModelSettings(name=f"python:mine.py:{name}"),
        local=LocalSettings(),
        seed=0,
        folder=folder,
    )


@pytest.mark.parametrize("alike", range(self_test.REPEATS))
def test_a_network_whose_draws_no_seed_fixes_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: int
) -> None:
    """However often chance has its plain passes come out alike: here `alike` times after the first, by one bit."""
    task = own(tmp_path, "draws")
    task.draws  # noqa: B018 - what it takes to see which generators there are draws, too
    plain, ours, other = b"\x01", b"\x00", b"\x00"
    bits = iter([plain, ours, *[plain] * alike, other])
    monkeypatch.setattr("os.urandom", lambda count: next(bits))
    (said,) = task.cautions
    assert "computes differently each time" in said
    assert "runs with equal seeds will differ" in said
    assert next(bits, None) is None  # and it has stopped at the first that differs


@pytest.mark.parametrize("name", ["changes", "binds"])
def test_what_is_frozen_must_not_change_while_it_trains(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="tensor 'key' is frozen, and the network changes it"):
        own(tmp_path, name).check()


def test_the_comparison_leaves_the_networks_own_values_as_they_were(tmp_path: Path) -> None:
    for kind in (
        "batch_norm",
        "counting_buffer",
        "moving_average_that_is_bound_anew",
        "embedding_of_bounded_norm",
    ):
        task = Task(
            data=DataSettings(source=zoo.KINDS[kind].samples),
            model=ModelSettings(name=zoo.KINDS[kind].model),
            local=LocalSettings(),
            seed=0,
            folder=tmp_path,
        )
        before = task.space.flatten_module(task.module)
        frozen = {name: tensor.clone() for name, tensor in task.frozen.items()}
        task.check()
        assert torch.equal(task.space.flatten_module(task.module), before)
        assert all(torch.equal(task.frozen[name], tensor) for name, tensor in frozen.items())
        assert all(parameter.grad is None for parameter in task.module.parameters())


def test_a_comparison_of_unequal_passes_names_the_tensor() -> None:
    one = self_test._Pass({"w": torch.ones(3)}, {"count": torch.zeros(1)})
    assert self_test._difference(one, one) is None
    other = self_test._Pass({"w": torch.ones(3) * 1.01}, {"count": torch.zeros(1)})
    assert self_test._difference(one, other) is not None
    later = self_test._Pass({"w": torch.ones(3)}, {"count": torch.ones(1)})
    assert "'count' is left otherwise" in str(self_test._difference(one, later))


def test_draws_of_every_generator_are_noticed() -> None:
    assert {
        kind: drawn(kind)
        for kind in ("noise_of_torch", "noise_of_numpy", "layers_left_out_by_random", "linear")
    } == {
        "noise_of_torch": Generators(torch=True),
        "noise_of_numpy": Generators(others=True),
        "layers_left_out_by_random": Generators(others=True),
        "linear": Generators(),
    }


def drawn(kind: str) -> Generators:
    return Task(
        data=DataSettings(source=zoo.KINDS[kind].samples),
        model=ModelSettings(name=zoo.KINDS[kind].model),
        local=LocalSettings(),
        seed=0,
        folder=Path(zoo.__file__).parent,
    ).draws


MADE = """
import os
import torch
from torch import nn

ONE = nn.Linear(64, 10)

def made_at_import(shape, classes): return nn.Sequential(nn.Flatten(), ONE)

def from_the_system(shape, classes):
    torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def seeded(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.mark.parametrize(("name", "told"), [("made_at_import", 0), ("seeded", 0), ("from_the_system", 1)])
def test_whether_peers_begin_with_the_same_values_is_told(tmp_path: Path, name: str, told: int) -> None:
    (tmp_path / "made.py").write_text(MADE)

    def task() -> Task:
        model = ModelSettings(name=f"python:made.py:{name}")
        return Task(data=DataSettings(), model=model, local=LocalSettings(), seed=0, folder=tmp_path)

    one, other = task(), task()
    said = [sentence for sentence in one.cautions if "begins with other values each time" in sentence]
    assert len(said) == told
    assert torch.equal(one.initial(), other.initial()) == (not told)
