"""Privacy in both worlds and on disk: what is spent is written before it is used, told, and never forgotten."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import scenarios
from gossip.config import load_task
from gossip.config.graphs import build_topology
from gossip.errors import CheckpointError, SettingError
from gossip.node.options import NodeOptions
from gossip.node.setup import find_membership, load_learning
from gossip.privacy.accountant import epsilon
from gossip.privacy.ledger import FILE
from gossip.storage.run_record import read_lines
from tests.integration.homes import Running, all_ended, eventually, make_homes

STEPS = 3
PRIVATE = {
    "privacy.kind": "dp-sgd",
    "privacy.noise": 2.0,
    "privacy.delta": 1e-3,
    "privacy.epsilon_max": 40.0,
    "local.steps": STEPS,
    "local.batch_size": 16,
}
ALONE = (
    "--algorithm",
    "local",
    *(
        part
        for setting in (
            "privacy.kind=dp-sgd",
            "privacy.delta=1e-3",
            "privacy.epsilon_max=50.0",
            f"local.steps={STEPS}",
            "local.epochs=",
            "model.hidden=[4]",
            "data.test_max=20",
            "node.neighbours_min=0",
            "node.linger_s=0.0",
        )
        for part in ("--set", setting)
    ),
)

STUCK = """
import pathlib, time
import gossip.learning.local_training as module
run = module.LocalTraining.run
def stuck(self, *given, **more):
    done = run(self, *given, **more)
    if more["round"] == 2:
        pathlib.Path({marker!r}).touch()
        time.sleep(600)
    return done
module.LocalTraining.run = stuck
"""
"""Its third local update is computed, noise and all, and not sent."""


def ledger_of(home: Path) -> dict:
    return json.loads((home / FILE).read_text())


def test_whatever_kills_a_node_between_its_ledger_and_its_next_message_nothing_is_forgotten(
    tmp_path: Path,
) -> None:
    make_homes(tmp_path, ["n0"])
    marker = tmp_path / "marker"
    prelude = STUCK.format(marker=str(marker))
    started = [Running(tmp_path, "n0", *ALONE, "--rounds", "4", prelude=prelude)]
    with all_ended(started):
        eventually(marker.exists, "it is in its third local update")
        assert started[0].status()["privacy"]["steps"] == 3 * STEPS
        assert started[0].signal(signal.SIGKILL) == -signal.SIGKILL
        home = started[0].home
        assert ledger_of(home)["steps"] == 3 * STEPS
        assert "4 updates come to ε =" in started[0].said()
        started.append(Running(tmp_path, "n0", *ALONE, "--rounds", "4"))
        assert started[-1].process.wait(60) == 0, started[-1].said()
    # Two before, the one that was killed, and two after: what was done again was spent again.
    assert ledger_of(home)["steps"] == 5 * STEPS
    summary = json.loads((home / "summary.json").read_text())
    rate, noise = (ledger_of(home)["spent"][0][key] for key in ("rate", "noise"))
    assert summary["privacy"]["epsilon"] == pytest.approx(epsilon(rate, noise, 5 * STEPS, 1e-3))
    told = [entry["epsilon"] for entry in read_lines(home / "metrics.jsonl")]
    assert told == sorted(set(told))
    assert told[-1] == pytest.approx(summary["privacy"]["epsilon"])


@pytest.fixture
def options(tmp_path: Path) -> NodeOptions:
    peers = make_homes(tmp_path, ("alice",))
    overrides = (
        "data.partition.kind=own",
        "topology.kind=full",
        "local.sam_rho=0.0",
        "local.epochs=",
        "local.steps=2",
        "data.train_max=100",
        "data.test_max=20",
        "privacy.kind=dp-sgd",
        "privacy.epsilon_max=50.0",
        "privacy.delta=1e-3",
        "stop.rounds=2",
        "model.hidden=[4]",
        "node.linger_s=0.0",
        "node.neighbours_min=0",
    )
    return NodeOptions(peers=peers, home=tmp_path / "alice", overrides=overrides)


def test_a_ledger_that_is_lost_or_older_than_the_checkpoint_starts_nothing_and_fresh_keeps_it(
    options: NodeOptions,
) -> None:
    from gossip.node.running import run_node

    def load(options: NodeOptions):
        return load_learning(options, find_membership(options))

    assert run_node(load(options)) == 0
    path = options.home / FILE
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(CheckpointError, match="there is no ledger"):
        load(options)
    told = json.loads(whole)
    told["spent"][0]["steps"] -= 1
    path.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="is an older one"):
        load(options)
    path.write_bytes(whole)
    assert load(options).learner.budget.steps == json.loads(whole)["steps"]
    # What was spent belongs to the samples, not to the run.
    assert load(replace(options, fresh=True)).learner.budget.steps == json.loads(whole)["steps"]


def test_a_checkpoint_that_was_made_without_privacy_is_not_gone_on_from(options: NodeOptions) -> None:
    from gossip.node.own_data import cautions
    from gossip.node.running import run_node

    plain = replace(options, overrides=tuple(o for o in options.overrides if "privacy" not in o))
    assert run_node(load_learning(plain, find_membership(plain))) == 0
    with pytest.raises(CheckpointError, match="made without \\[privacy\\]"):
        load_learning(options, find_membership(options))
    (options.home / FILE).write_text("{}")
    assert any("bound nothing" in each for each in cautions(load_learning(plain, find_membership(plain))))


def test_simulated_peers_stop_training_at_the_budget_and_go_on_merging(tmp_path: Path) -> None:
    run = {
        **PRIVATE,
        "scenario.peers": 4,
        "stop.rounds": 8,
        "data.train_max": 400,
        "data.partition": {"kind": "iid"},
        # What four updates of 100 samples each cost, and not what five do.
        "privacy.epsilon_max": 1.0001 * epsilon(0.16, 2.0, 4 * STEPS, 1e-3),
    }
    digests = []
    for name in ("one", "other"):
        result = scenarios.run(
            "ring-dfedavg", engine="virtual", overrides=run, report=False, out=tmp_path / name
        )
        private = result.summary["privacy"]
        assert private["spent"] == 4
        assert private["epsilon"]["max"] == pytest.approx(run["privacy.epsilon_max"], rel=1e-3)
        assert result.summary["rounds"] == 8
        rounds = {
            entry["round"]: entry
            for entry in result.metrics
            if entry["peer"] == "peer-00" and "epsilon" in entry
        }
        assert rounds[1]["epsilon"] < rounds[2]["epsilon"] <= private["epsilon"]["max"]
        assert rounds[3]["epsilon"] < rounds[4]["epsilon"] == rounds[5]["epsilon"] == rounds[8]["epsilon"]
        assert rounds[8]["loss"] is None
        digests.append(result.summary["model_digest"])
    assert digests[0] != digests[1]
    plain = {key: value for key, value in run.items() if not key.startswith("privacy.")}
    same = [
        scenarios.run(
            "ring-dfedavg", engine="virtual", overrides=plain, report=False, out=tmp_path / name
        ).summary["model_digest"]
        for name in ("plain", "again")
    ]
    assert same[0] == same[1]


def test_real_nodes_learn_privately_and_say_what_they_spent(tmp_path: Path) -> None:
    run = {**PRIVATE, "scenario.peers": 2, "stop.rounds": 2, "node.linger_s": 1.0, "data.test_max": 20}
    result = scenarios.run(
        "ring-dfedavg", engine="processes", overrides=run, report=True, out=tmp_path / "run"
    )
    private = result.summary["privacy"]
    assert 0 < private["epsilon"]["max"] <= 40
    home = tmp_path / "run" / "peers" / "peer-00"
    assert ledger_of(home)["steps"] == 2 * STEPS
    assert all(torch.isfinite(tensor).all() for tensor in load_file(home / "model.safetensors").values())
    assert "privacy spent" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("local.sam_rho=0.1", "two gradients a step"),
        ("model.adapter.kind=seed-space local.optimizer.kind=spsa", "goes by losses"),
        ("model.adapter.kind=lora model.adapter.train=AB", "not the noise of their product"),
        ("local.consolidate=familiar", "of what classes"),
        ("local.precision=bfloat16", "shortened"),
        ("local.compile=true", "one by one"),
        ("merge.kind=ubar", "judges models by own samples"),
        ("merge.kind=bristle", "judges models by own samples"),
        ("codec.kind=top-change", "the most noise"),
        ("stop.patience=3", "rounds"),
        ("data.standardise=own", "each sample changes"),
        ("data.missing=mean", "each sample changes"),
        ("privacy.epsilon_max=", "epsilon_max is missing"),
        ("privacy.noise=0.0", "greater than 0"),
        ("privacy.kind=dp", "dp-sgd"),
    ],
)
def test_what_the_ledger_cannot_count_is_refused_with_one_sentence(setting: str, said: str) -> None:
    overrides = ["algorithm=dfedavg", "privacy.kind=dp-sgd", "privacy.epsilon_max=8.0", *setting.split()]
    with pytest.raises(SettingError, match=said) as refused:
        build_topology(load_task(overrides=overrides), names=["a", "b", "c", "d", "e"])
    assert str(refused.value).count("\n") == 0
    assert "privacy" in str(refused.value)


@pytest.mark.parametrize(
    "setting",
    [
        "local.optimizer.kind=adamw",
        "outer.kind=heavy-ball",
        "codec.kind=int8",
        "codec.kind=choco",
        "merge.kind=nnm+trimmed-mean",
        "protocol.parts=2",
        "protocol.kind=push",
        "protocol.kind=modest",
        "local.micro_batch=4",
    ],
)
def test_what_comes_after_the_noise_goes_with_it(setting: str) -> None:
    overrides = ["algorithm=dfedavg", "privacy.kind=dp-sgd", "privacy.epsilon_max=8.0", *setting.split()]
    overrides += ["merge.f=1"] if "merge" in setting else []
    task = load_task(overrides=overrides)
    build_topology(task, names=["a", "b", "c", "d", "e"])
    assert task.run_id() == load_task(overrides=["algorithm=dfedavg", *overrides[3:]]).run_id()


def test_noise_on_models_is_no_privacy_and_says_so_and_leaves_the_own_model(tmp_path: Path) -> None:
    task = load_task(overrides=["algorithm=dfedavg", "outgoing.kind=noise"])
    build_topology(task, names=["a", "b", "c"])
    assert any("no differential privacy" in note for note in task.notes)
    stage = task.outgoing.load()(task.outgoing)
    models = torch.zeros(2, 20_000)
    (one, _), (other, _) = stage.send(models, {}, []), stage.send(models, {}, [])
    assert not torch.equal(one, other)
    assert float(one.std()) == pytest.approx(0.01, rel=0.05)
    assert not models.any()
    corrected = load_task(
        overrides=["algorithm=dfedavg", "outgoing.kind=noise", "merge.kind=variance-corrected"]
    )
    with pytest.raises(SettingError, match="variance of its own"):
        build_topology(corrected, names=["a", "b", "c"])
    digests = [
        scenarios.run(
            "ring-dfedavg",
            engine="virtual",
            overrides={"scenario.peers": 3, "stop.rounds": 1, "data.train_max": 60, **noise},
            report=False,
            out=tmp_path / name,
        ).summary["model_digest"]
        for name, noise in {
            "a": {},
            "b": {},
            "c": {"outgoing.kind": "noise"},
            "d": {"outgoing.kind": "noise"},
        }.items()
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
