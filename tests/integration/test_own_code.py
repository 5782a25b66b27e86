"""A user's own network and data, from the command line: nothing of theirs goes wrong without a word, in no engine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn

import scenarios
from gossip import cli
from gossip.errors import SettingError
from gossip.learning.task import Shard
from gossip.node import own_data
from gossip.parameters import ParameterSpace, Role
from gossip.storage.models import encode_model
from scenarios import cli as scenario_cli
from scenarios.reports import page
from tests.integration.homes import make_homes

OWN = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
print("the file is read")

class Net(nn.Module):
    def __init__(self, shape, classes, kind):
        super().__init__()
        self.a, self.b = nn.Linear(int(np.prod(shape)), 16), nn.Linear(16, classes)
        self.kind = kind

    def middle(self, x):
        return torch.tanh(self.a(x))

    def forward(self, x):
        x = x.flatten(1)
        if self.kind == "talks":
            print("a pass")
        if self.training and self.kind == "numpy":
            x = x * torch.from_numpy(np.random.rand(*x.shape)).float()
        if self.training and self.kind == "random" and random.random() < 0.5:
            x = 0.5 * x
        return self.b(checkpoint(self.middle, x, use_reentrant=False) if self.kind == "again" else self.middle(x))

def plain(shape, classes): return Net(shape, classes, "plain")
def again(shape, classes): return Net(shape, classes, "again")
def talks(shape, classes):
    print("building", shape, classes)
    return Net(shape, classes, "talks")
def numpy(shape, classes): return Net(shape, classes, "numpy")
def random_(shape, classes): return Net(shape, classes, "random")

class Recurrent(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.read, self.out = nn.GRU(8, 12, batch_first=True), nn.Linear(12, classes)
    def forward(self, x):
        return self.out(self.read(x[:, 0])[0][:, -1])

def recurrent(shape, classes): return Recurrent(classes)

def normed(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))

def rows():
    print("loading")
    x = np.random.rand(420, 5)
    y = np.arange(420) % 11
    return x[:300], y[:300], x[300:], y[300:]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path


@pytest.fixture(autouse=True)
def _quiet_logs_afterwards() -> Iterator[None]:
    yield
    logging.getLogger("gossip").handlers.clear()


def scenario(folder: Path, network: str, **sections: str) -> Path:
    written = {
        "scenario": 'name = "own"\npeers = 2\nalgorithm = "dfedavg"',
        "data": "train_max = 60\ntest_max = 40",
        "model": f'name = "python:mine.py:{network}"',
        "topology": 'kind = "full"',
        "stop": "rounds = 2",
        **sections,
    }
    path = folder / f"{network}.toml"
    path.write_text("".join(f"[{name}]\n{text}\n" for name, text in written.items()))
    return path


@pytest.mark.parametrize("network", ["numpy", "random_"])
def test_equal_seeds_give_equal_runs_whatever_a_network_draws_from(folder: Path, network: str) -> None:
    first, again = (
        scenarios.run(scenario(folder, network), out=folder / f"{place}", report=False) for place in range(2)
    )
    assert first.metrics == again.metrics
    assert first.summary["model_digest"] == again.summary["model_digest"]


def test_layers_that_are_computed_again_in_the_backward_pass_learn_what_the_others_do(folder: Path) -> None:
    plain, again = (
        scenarios.run(
            scenario(folder, network), out=folder / network, report=False, overrides=["virtual.method=loop"]
        )
        for network in ("plain", "again")
    )
    assert plain.summary["model_digest"] == again.summary["model_digest"]


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_what_a_users_code_prints_is_no_result(
    folder: Path, engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = scenario(folder, "talks")
    assert (
        scenario_cli.call(
            ["run", str(path), "-q", "--json", "--engine", engine, "--out", str(folder / "run")]
        )
        == 0
    )
    said = capfd.readouterr()
    assert json.loads(said.out)["engine"] == engine
    assert "building" in said.err
    for lines in (folder / "run").rglob("progress.jsonl"):
        assert [json.loads(line)["round"] for line in lines.read_text().splitlines()] == [1, 2]
        assert "a pass" in lines.with_name("node.log").read_text()


def test_standard_output_is_ours_again_afterwards(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    assert (
        scenario_cli.call(
            ["run", str(scenario(folder, "talks")), "-q", "--json", "--out", str(folder / "run")]
        )
        == 0
    )
    capfd.readouterr()
    assert sys.stdout is before
    print("by Python", flush=True)
    os.write(1, b"by number\n")
    assert capfd.readouterr().out == "by Python\nby number\n"


def check(folder: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    peers = make_homes(folder, ("alice", "bob"))
    task = folder / "task.toml"
    task.write_text('[data]\nsource = "python:mine.py:rows"\n[model]\nname = "mlp"\n')
    argv = ["check", "--peers", str(peers), "--home", str(folder / "alice"), "--task", str(task), *arguments]
    assert cli.run(argv) == 3, "nobody is there"
    return capfd.readouterr().out


def test_what_a_loader_returns_is_this_machines_all_of_it_and_is_told(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = check(folder, capfd)
    assert "300 own samples (11 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 120 test samples" in said
    assert "batch_size" not in said


def test_where_division_is_asked_for_it_is_done(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "150 own samples" in check(folder, capfd, "--set", 'data.partition={kind="iid"}')


def test_doubts_are_in_what_check_says_to_scripts(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    about = json.loads(check(folder, capfd, "--json", "--set", "local.batch_size=301"))
    assert about["samples"] == 300
    (doubt,) = about["warnings"]
    assert "batch_size = 301 is more than the 300 training samples here" in doubt


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_a_notebooks_backend_keeps_nobody_from_drawing_and_stays_set(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os, scenarios.reports.figures; print(os.environ['MPLBACKEND'])"],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == backend


def test_a_run_whose_report_cannot_be_written_is_done_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(page, "write_report", fails)
    result = scenarios.run(scenario(folder, "plain"), out=folder / "run")
    assert result.summary["rounds"] == 2
    assert json.loads((folder / "run" / "summary.json").read_text())["rounds"] == 2
    assert "gossip-scenario report" in caplog.text


class _Exported(nn.Module):
    """All that a state dict has, and what it has not."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4).requires_grad_(False)
        self.c = nn.Linear(4, 4)
        self.c.weight = self.b.weight
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("passing", torch.arange(4.0), persistent=False)
        self.register_buffer("key", torch.tensor(2**40 + 1))


def test_a_finished_model_is_the_modules_state_dict() -> None:
    module = _Exported()
    space = ParameterSpace.of(module)
    named = dict([*module.named_parameters(), *module.named_buffers()])
    frozen = {slot.name: named[slot.name].detach() for slot in space.slots_of(Role.FROZEN)}
    state = safetensors.torch.load(encode_model(space, space.flatten_module(module), peer="a", frozen=frozen))
    other = _Exported()
    other.load_state_dict(state)
    assert other.state_dict().keys() == state.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
        assert other.state_dict()[name].dtype is tensor.dtype


def test_data_that_have_grown_since_the_last_start_are_taken_up_and_told(tmp_path: Path) -> None:
    def start(samples: int, value: float = 0.0, *, resumes: bool = True) -> str | None:
        x = torch.full((samples, 3), value)
        learner = SimpleNamespace(shard=Shard(x, torch.zeros(samples, dtype=torch.int64)))
        return own_data.taken_up(tmp_path, SimpleNamespace(learner=learner, checkpoint=resumes or None))

    assert start(300, resumes=False) is None
    assert start(300) is None
    grown = str(start(350))
    assert grown.startswith("350 own samples, 300 at the last start; all of them are learnt from now on")
    assert "drawn anew, and the model may have learnt some of them" in grown
    assert start(350) is None
    assert "are other ones than at the last start" in str(start(350, 1.0))
    assert start(20, resumes=False) is None, "another run"
    (tmp_path / own_data.FILE).write_text("no JSON")
    assert start(20) is None


def test_what_vmap_cannot_evaluate_is_evaluated_one_after_another(folder: Path) -> None:
    result = scenarios.run(scenario(folder, "recurrent"), out=folder / "run", report=False)
    assert result.summary["rounds"] == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ('model.frozen=["2.running_var"]', "tensor '2.running_var' is frozen, and the network changes it"),
        ("local.micro_batch=4", "micro_batch = 4: BatchNorm would see a part of each mini-batch only"),
        ("node.device=cuda", "device = 'cuda' is for real nodes; here it is [virtual] device"),
    ],
)
def test_what_would_be_ignored_or_wrong_is_refused(folder: Path, override: str, sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        scenarios.run(scenario(folder, "normed"), out=folder / "run", overrides=[override], report=False)
    assert sentence in str(caught.value)


def test_a_run_that_diverges_tells_no_distance_of_models_that_are_not_finite(folder: Path) -> None:
    overrides = ["local.lr=1e30", "local.weight_decay=0.01"]
    summary = scenarios.run(
        scenario(folder, "plain"), out=folder / "run", overrides=overrides, report=False
    ).summary
    assert summary["consensus_distance"] is None
    assert summary["divergence"] is not None


def test_pages_and_traces_are_not_written_over_other_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = folder / "mine.csv"
    mine.write_text("a,b\n1,2\n")
    scenarios.run(scenario(folder, "plain"), out=folder / "run", report=False)
    assert scenario_cli.call(["report", str(folder / "run"), "--out", str(mine)]) == 2
    assert scenario_cli.call(["trace", str(mine), "--peers", "2"]) == 2
    assert mine.read_text() == "a,b\n1,2\n"
    assert scenario_cli.call(["trace", str(folder / "new.csv"), "--peers", "2"]) == 0
    assert scenario_cli.call(["trace", str(folder / "new.csv"), "--peers", "3"]) == 0
    for text in ("{}", "[]"):
        (folder / "run" / "summary.json").write_text(text)
        capsys.readouterr()
        assert scenario_cli.call(["report", str(folder / "run")]) == 2
        assert "cannot be read as a run" in capsys.readouterr().err


LEAVES = """
import sys
from torch import nn

PASSES = [0]

class Leaves(nn.Module):
    def __init__(self, classes, when, how=SystemExit):
        super().__init__()
        self.out, self.when, self.how = nn.Linear(64, classes), when, how
    def forward(self, x):
        PASSES[0] += 1
        if self.when == "always" or (self.when == "training" and self.training) or (
            self.when == "later" and PASSES[0] > 40
        ):
            raise self.how(3)
        return self.out(x.flatten(1))

def always(shape, classes): return Leaves(classes, "always")
def training(shape, classes): return Leaves(classes, "training")
def later(shape, classes): return Leaves(classes, "later")
def interrupted(shape, classes): return Leaves(classes, "always", KeyboardInterrupt)
"""


@pytest.mark.parametrize("network", ["always", "training", "later"])
def test_a_network_that_leaves_the_process_is_told_of_as_one_that_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], network: str
) -> None:
    (folder / "mine.py").write_text(LEAVES)
    path = scenario(folder, network, stop="rounds = 50")
    assert scenario_cli.call(["run", str(path), "--out", str(folder / "run")]) == 2
    assert f"mine.py:{network}'" in capsys.readouterr().err.splitlines()[-1]
    peers = make_homes(folder, ("alice",))
    given = ["--peers", str(peers), "--home", str(folder / "alice"), "--rounds", "50"]
    given += ["--set", f"model.name=python:{folder / 'mine.py'}:{network}", "--set", "data.train_max=60"]
    for command in ([], ["check"]) if network != "later" else ([],):
        assert cli.run([*command, *given]) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gossip-node: ")]
        assert (f"mine.py:{network}'" in said, "SystemExit: 3" in said) == (True, True), said


def test_a_network_in_which_somebody_presses_a_key_is_interrupted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(LEAVES)
    path = scenario(folder, "interrupted")
    assert scenario_cli.call(["run", str(path), "--out", str(folder / "run")]) == 130
