"""A run that diverges says so once, with its likely cause, in both engines; one that is well says nothing."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import scenarios
from gossip import cli
from gossip.errors import ExitCode
from gossip.learning.divergence import Watch
from gossip.node.node import Node
from gossip.node.options import NodeOptions
from gossip.node.report import status_of
from gossip.node.running import run_node
from gossip.node.setup import find_membership, load_learning
from gossip.storage.run_record import read_lines
from scenarios.reports.page import write_report
from scenarios.reports.terminal import print_result
from scenarios.scenario import library
from tests.integration.homes import make_homes
from tests.unit.test_run_folder import Page

ENGINES = ("virtual", "processes")

SMALL = {"scenario.peers": 4, "scenario.algorithm": "dfedavg", "stop.rounds": 3, "local.epochs": 1}


@pytest.fixture
def unscaled(tmp_path: Path) -> str:
    """Three columns that tell the classes apart, and one of incomes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=400)
    x = rng.normal(size=(400, 4)) + 3 * np.eye(3, 4)[y]
    x[:, 3] = 40_000 + 9_000 * rng.normal(size=400)
    np.savez(tmp_path / "incomes.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return str(tmp_path / "incomes.npz")


def run(
    out: Path, *, name: str = "quickstart", engine: str = "virtual", report: bool = False, **values: Any
) -> Any:
    overrides = {key.replace("__", "."): value for key, value in values.items()}
    return scenarios.run(name, engine=engine, out=out, report=report, overrides=SMALL | overrides)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_size_of_a_million_is_named_once_and_everywhere(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(
        tmp_path / "run", engine=engine, report=True, local__lr=1e6, scenario__peers=2, stop__rounds=2
    )
    summary = result.summary
    assert summary["divergence"]["peers"] == ["peer-00", "peer-01"]
    first = summary["divergence"]["first"]
    assert (first["round"], first["cause"], first["own"]) == (1, "learning-rate", True)
    assert first["sentence"].startswith(f"{first['peer']} diverges in round 1: ")
    assert "[local] lr = 1e+06" in first["sentence"]
    assert summary["skipped"] == sum(peer["skipped"] for peer in result.peers) > 0
    # Said when it happens: whose update is computed first need not be the first by name.
    assert len(said(caplog)) == 1
    assert "diverges in round 1: " in said(caplog)[0]
    assert len(summary["warnings"]) == 1
    assert summary["warnings"][0].startswith("2 of 2 peers diverged; ")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert (
        sorted(event["peer"] for event in events if event["event"] == "diverged")
        == summary["divergence"]["peers"]
    )
    assert first["sentence"] in (tmp_path / "run" / "report.html").read_text()
    shown = io.StringIO()
    print_result(Console(file=shown, width=300), summary, result.peers, report="r")
    assert first["sentence"] in shown.getvalue()


def test_columns_that_are_not_scaled_are_told_of_at_the_start_and_as_the_cause(
    unscaled: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(tmp_path / "run", data__source=unscaled, model__name="logistic")
    at_the_start, later = said(caplog)
    assert "the inputs are not scaled: column 3 reaches |x| = " in at_the_start
    assert "the likely cause is inputs that are not scaled: column 3 reaches |x| = " in later
    assert result.summary["divergence"]["first"]["cause"] == "inputs"
    assert result.summary["warnings"][0] == at_the_start


def test_one_step_per_round_shows_at_the_first_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The mean loss of such an update is that of the model before it."""
    result = run(
        tmp_path / "run", scenario__algorithm="d-psgd", local__steps=1, local__lr=1e6, stop__rounds=1
    )
    first = result.summary["divergence"]["first"]
    assert (first["reason"], first["round"], first["own"]) == ("test-loss", 1, False)
    assert "[local] lr = 1e+06" in said(caplog)[0]


def test_what_attackers_have_ruined_is_not_put_down_to_the_step_size(tmp_path: Path) -> None:
    attack = {
        "attack__kind": "gaussian",
        "attack__count": 2,
        "attack__std": 30.0,
        "sanitise__norm_factor": 1e6,
    }
    result = run(tmp_path / "run", **attack, topology__kind="full", stop__rounds=4)
    first = result.summary["divergence"]["first"]
    assert first["cause"] == "received"
    assert "what the merge rule let through of 2 that attack" in first["sentence"]
    assert not {"peer-02", "peer-03"} & set(result.summary["divergence"]["peers"])


def test_a_rule_that_bears_attackers_has_nothing_to_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attack = {"attack__kind": "gaussian", "attack__count": 1, "attack__std": 30.0}
    result = run(tmp_path / "run", **attack, merge__kind="median", topology__kind="full", stop__rounds=4)
    assert (result.summary["warnings"], said(caplog)) == ([], [])


def test_a_run_that_is_well_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = run(tmp_path / "run", report=True)
    summary = result.summary
    assert (summary["divergence"], summary["skipped"], summary["warnings"]) == (None, 0, [])
    assert said(caplog) == []
    assert Page((tmp_path / "run" / "report.html").read_text(encoding="utf-8")).document["warnings"] == []


def test_the_page_of_many_runs_names_those_that_diverged(tmp_path: Path) -> None:
    for name, lr in (("well", 0.1), ("wild", 1e6)):
        run(tmp_path / name, local__lr=lr, stop__rounds=1)
    write_report([tmp_path / "well", tmp_path / "wild"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "In 1 of 2 runs models diverged" in page
    assert f"{tmp_path.name}/wild" in page


@pytest.mark.parametrize("name", sorted(library()))
def test_no_scenario_of_the_library_warns(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All in small: a few rounds, as many peers as the attackers and the samples need, no faults."""
    peers = 14 if name == "attacked-nodes" else 10
    values: dict[str, Any] = {
        "scenario.peers": peers,
        "stop.rounds": 4,
        "evaluate.every": 1,
        "faults.list": [],
    }
    result = scenarios.run(name, out=tmp_path / "run", report=False, overrides=values)
    assert result.summary["warnings"] == []
    assert said(caplog) == []


# --- a node ---


@pytest.fixture
def options(tmp_path: Path) -> NodeOptions:
    """A peer that is alone in its file."""
    return NodeOptions(
        peers=make_homes(tmp_path, ("alice",)),
        home=tmp_path / "alice",
        overrides=(
            "data.train_max=64",
            "data.partition.kind=own",
            "node.start_timeout_s=1.0",
            "node.linger_s=0.1",
        ),
    )


def run_alone(options: NodeOptions, *more: str, make: Callable[[Any], Node] = Node) -> dict[str, Any]:
    options = replace(options, overrides=(*options.overrides, *more))
    assert run_node(load_learning(options, find_membership(options)), make) == ExitCode.DONE
    return json.loads((options.home / "summary.json").read_text())  # type: ignore[no-any-return]


def test_a_node_says_once_a_process_that_its_model_diverges_and_keeps_it_for_whoever_asks(
    options: NodeOptions, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    class Asked(Node):
        async def _linger(self) -> None:
            asked.append(status_of(self)["divergence"])
            await super()._linger()

    summary = run_alone(options, "stop.rounds=3", "local.lr=1e6", make=Asked)
    (sentence,) = said(caplog)
    assert sentence.startswith("alice diverges in round 1: ")
    assert "[local] lr = 1e+06" in sentence
    assert summary["divergence"]["sentence"] == asked[0]["sentence"] == sentence
    assert summary["skipped"] > 0
    caplog.clear()
    summary = run_alone(options, "stop.rounds=4", "local.lr=1e6")
    assert summary["divergence"]["sentence"] == sentence
    assert len(said(caplog)) <= 1
    events = read_lines(options.home / "events.jsonl")
    assert next(event["round"] for event in events if event["event"] == "diverged") == 1


def test_a_watch_that_fails_ends_nothing(options: NodeOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Watch, "trained", broken)
    monkeypatch.setattr(Watch, "evaluated", broken)
    assert run_alone(options, "stop.rounds=2")["rounds"] == 2


def test_a_line_that_does_not_tell_the_whole_of_a_divergence_is_none(options: NodeOptions) -> None:
    (options.home / "events.jsonl").write_text('{"event":"diverged"}\n[]\n"diverged"\n{"event":"dive')
    assert run_alone(options, "stop.rounds=1")["divergence"] is None


def test_a_node_that_is_well_says_nothing(options: NodeOptions, caplog: pytest.LogCaptureFixture) -> None:
    summary = run_alone(options, "stop.rounds=3")
    assert (summary["divergence"], summary["skipped"], said(caplog)) == (None, 0, [])


def test_a_node_whose_weights_blow_up_with_a_harmless_loss_says_so(
    options: NodeOptions, caplog: pytest.LogCaptureFixture
) -> None:
    """Layers that normalise what comes in do not mind how large their weights are."""
    (options.home.parent / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer, self.norm = nn.Linear(64, 10, bias=False), nn.LayerNorm(10, elementwise_affine=False)\n"
        "    def forward(self, x):\n"
        "        return self.norm(self.layer(x.flatten(1)))\n"
        "def make(input_shape, classes):\n"
        "    return Net()\n"
    )
    summary = run_alone(
        options,
        f"model.name=python:{options.home.parent / 'net.py'}:make",
        "stop.rounds=2",
        "local.lr=1e4",
        "local.weight_decay=0.0",
        "local.sam_rho=0.0",
    )
    assert summary["divergence"]["reason"] == "weights"
    assert summary["divergence"]["loss"] < 10
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_node_tells_of_unscaled_columns_before_it_learns(
    command: str, unscaled: str, options: NodeOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--peers", str(options.peers), "--home", str(options.home)]
    for setting in (*options.overrides, f"data.source={unscaled}", "model.name=logistic", "stop.rounds=1"):
        arguments += ["--set", setting]
    assert cli.run(arguments if command == "run" else ["check", *arguments]) == 0
    shown = capsys.readouterr()
    assert "the inputs are not scaled: column 3 reaches |x| = " in shown.out + shown.err
