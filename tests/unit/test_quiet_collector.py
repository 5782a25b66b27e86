"""While many peers run, what is there already is not looked through for garbage; afterwards all is as it was."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import scenarios
from scenarios.virtual import engine
from scenarios.virtual.quiet import quiet_collector

SMALL = {
    "scenario.peers": 3,
    "topology.kind": "full",
    "data.train_max": 60,
    "local.steps": 1,
    "stop.rounds": 1,
}


@pytest.fixture(autouse=True)
def nothing_aside() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_there_is_put_aside_for_as_long_as_it_is_asked_for(fails: bool) -> None:
    thresholds = gc.get_threshold()
    try:
        with quiet_collector():
            assert gc.get_freeze_count() > 10_000
            assert gc.get_threshold()[0] > thresholds[0]
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        assert fails
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize("many", [False, True])
def test_a_run_of_few_peers_leaves_aside_what_its_caller_has_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(engine, "MANY_PEERS", 3 if many else 4)
    gc.freeze()
    scenarios.run("quickstart", overrides=SMALL, out=tmp_path / "run", report=False)
    assert (gc.get_freeze_count() == 0) == many


ATTENTION = """
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.ask, self.out = nn.Linear(8, 8), nn.Linear(64, classes)
    def forward(self, x):
        asked = self.ask(x)
        return self.out(scaled_dot_product_attention(asked, asked, asked, is_causal=True).flatten(1))

def make(shape, classes): return Net(classes)
"""


def test_what_torch_asks_its_developers_for_is_nothing_a_user_is_told(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(ATTENTION)
    network = {"model.name": f"python:{tmp_path / 'net.py'}:make", "model.hidden": None}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scenarios.run("quickstart", overrides={**SMALL, **network}, out=tmp_path / "run", report=False)
    assert not [each for each in told if "performance drop" in str(each.message)]
