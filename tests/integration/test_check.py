"""`gossip-node check` tells what a run with the same options would be and cost, and leaves everything as it is."""

from __future__ import annotations

import json
import logging
import socket

import numpy as np
import pytest
import typer

from gossip import cli
from gossip.config import load_task
from gossip.config.presets import PRESETS, SCENARIOS_ONLY, preset
from gossip.learning import pace
from gossip.learning.local_training import LocalTraining
from gossip.learning.task import Task
from gossip.protocols.settings import PROTOCOLS
from gossip.storage.checkpoints import Belongs, Checkpoint, CheckpointStore
from scenarios import api
from tests.integration.homes import make_homes

NAMES = ("peer-00", "peer-01", "peer-02")


@pytest.fixture(autouse=True)
def _quiet_logs_afterwards():
    yield
    logging.getLogger("gossip").handlers.clear()


@pytest.fixture
def where(tmp_path):
    make_homes(tmp_path, NAMES)
    return ["--peers", str(tmp_path / "peers.txt"), "--home", str(tmp_path / NAMES[0])]


def checked(capsys, where, *options):
    assert cli.run(["check", *where, "--json", *options]) == 3, "nobody answers"
    return json.loads(capsys.readouterr().out)


def test_check_is_told_all_that_a_run_is_told():
    group = typer.main.get_command(cli.app)
    run, check = ({param.name: param for param in each.params} for each in (group, group.commands["check"]))
    assert set(check) == set(run) - {"version", "install_completion", "show_completion"}
    for name, param in check.items():
        assert (param.opts, param.help, param.default) == (run[name].opts, run[name].help, run[name].default)


def test_the_options_of_a_run_decide_what_is_checked(where, capsys, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 6)).astype(np.float32), np.arange(30) % 3
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    options = ("--algorithm", "dfedavg", "--topology", "ring", "--rounds", "7", "--seed", "5")
    told = checked(capsys, where, *options, "--data", str(tmp_path / "own.npz"), "--set", "local.epochs=3")
    same = load_task(
        None,
        arguments={"algorithm": "dfedavg", "topology": {"kind": "ring"}, "stop": {"rounds": 7}, "seed": 5},
        overrides=("local.epochs=3", "data.partition.kind=own"),
    )
    assert told["run_id"] == same.run_id()
    assert (told["samples"], told["classes"], told["sample_shape"]) == (30, 3, [6])
    assert told["parameters"] == 6 * 64 + 64 + 64 * 3 + 3
    assert (told["model_bytes"], told["device"]) == (4 * told["parameters"], "cpu")
    assert told["measured"]["steps_per_round"] == 3 * 2
    assert cli.run(["check", *where, *options]) == 3
    shown = capsys.readouterr().out
    for words in (
        "4810 parameters (19.2 kB), by dfedavg, on cpu",
        "1 × 8 × 8, one of 10 classes",
        "2 neighbours",
    ):
        assert words in shown
    assert "s of training per round, by" in shown


@pytest.mark.parametrize(
    ("options", "kinds", "more"),
    [
        (("algorithm=dfedsam-mgs", "topology.kind=ring"), ("model",), 0.0),
        (("algorithm=dfedavg", "topology.kind=ring", "codec.kind=float16"), ("model",), 0.0),
        (("algorithm=gossip-learning", "topology.kind=full", "protocol.parts=3"), ("push",), 0.001),
        # Views travel with these models, once there is something to say.
        (("algorithm=modest", "protocol.sample_size=2"), ("modest-aggregate", "modest-train"), 0.02),
    ],
)
def test_a_run_sends_the_bytes_that_were_told(where, capsys, tmp_path, options, kinds, more):
    sets = [part for option in options for part in ("--set", option)]
    told = checked(capsys, where, *sets)
    scenario = tmp_path / "same.toml"
    scenario.write_text("[scenario]\npeers = 3\n[stop]\nrounds = 6\n")
    overrides = [option.replace("algorithm=", "scenario.algorithm=") for option in options]
    summary = api.run(scenario, overrides=overrides, out=tmp_path / "run", report=False).summary
    sent = sum(summary["bytes"]["by_type"][kind] for kind in kinds)
    models = sum(summary["messages"]["by_type"][kind] for kind in kinds)
    assert told["bytes_per_round"] / told["models_per_round"] == pytest.approx(sent / models, rel=more)
    if more == 0:
        assert told["bytes_per_round"] * 3 * 6 == sent
    assert told["neighbours_per_round"] == 2


def test_where_a_protocol_does_not_tell_what_it_sends_nothing_is_made_up(where, capsys, tmp_path):
    (tmp_path / "own.py").write_text(
        "from gossip.protocols.rounds import Rounds\n"
        "class Own(Rounds):\n"
        "    usual_messages = staticmethod(lambda settings, **counts: None)\n"
        "    @classmethod\n"
        "    def resume(cls, settings, **given):\n"
        "        raise NotImplementedError\n"
    )
    told = checked(capsys, where, "--set", f"protocol.kind=python:{tmp_path / 'own.py'}:Own")
    assert told["bytes_per_round"] is None
    assert told["seconds_per_round"] > 0


@pytest.mark.parametrize("step_s", [1e-5, 1e-3, 0.04, 0.3, 0.9, 5.0])
def test_measuring_keeps_to_its_budget_and_finds_the_pace(monkeypatch, tmp_path, step_s):
    now_s, steps = 0.0, []

    def run(self, model, x, y, **given):
        nonlocal now_s
        # The first of a process takes longer.
        now_s += step_s * self.settings.steps + (0 if steps else 0.2)
        steps.append(self.settings.steps)

    monkeypatch.setattr(LocalTraining, "run", run)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now_s)
    settings = load_task(None, overrides=("local.epochs=4",))
    task = Task(data=settings.data, model=settings.model, local=settings.local, seed=0, folder=tmp_path)
    measured = pace.measure(task, task.shard(0, 1), device=task.initial().device)
    assert now_s <= max(pace.BUDGET_S, step_s + 0.2)
    assert measured.steps_per_round == 4 * 88
    assert measured.seconds_per_round == pytest.approx(4 * 88 * (step_s if len(steps) > 1 else step_s + 0.2))
    assert measured.steps <= 4 * 88
    assert len(steps) > 1 or step_s + 0.2 > pace.BUDGET_S / 2


def test_nothing_of_the_home_is_touched_not_even_by_fresh(where, capsys, tmp_path):
    other = Checkpoint(
        belongs=Belongs(peer=NAMES[0], space_id="0" * 32, seed=0),
        protocol="rounds",
        state={"round": 3},
        vector=np.zeros(4, np.float32),
    )
    CheckpointStore(tmp_path / NAMES[0]).save(other)
    before = sorted(path for path in (tmp_path / NAMES[0]).rglob("*"))
    assert cli.run(["check", *where]) == 5
    capsys.readouterr()
    assert checked(capsys, where, "--fresh")["resume_round"] == 0
    assert sorted(path for path in (tmp_path / NAMES[0]).rglob("*")) == before


def test_an_address_for_metrics_is_tried(where, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.run(["check", *where, "--metrics", str(port)]) == 2
        assert f"--metrics {port}: cannot listen there" in capsys.readouterr().err
    assert cli.run(["check", *where, "--metrics", "nonsense"]) == 2
    assert "--metrics nonsense: must be HOST:PORT" in capsys.readouterr().err


def test_check_says_too_that_the_peers_file_is_missing(capsys):
    assert cli.run(["check"]) == 2
    assert (
        capsys.readouterr().err
        == "gossip-node: --peers FILE is missing; 'gossip-node --help' shows how to start\n"
    )


def test_the_help_of_algorithm_names_all_presets():
    help = {param.name: param.help for param in typer.main.get_command(cli.app).params}["algorithm"]
    assert all(name in help for name in PRESETS)
    only = {
        name
        for name in PRESETS
        if PROTOCOLS.settings_for(preset(name)["protocol"]["kind"])().load().scenarios_only
    }
    assert only == SCENARIOS_ONLY
