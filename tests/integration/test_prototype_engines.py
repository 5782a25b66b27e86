"""Tables of prototypes beside the models: what they tell in both engines, and where they cannot be."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

import gossip
import scenarios
from gossip.channels.samples import PrototypeSamples, samples_of
from gossip.channels.settings import MEASURED
from gossip.errors import DataError, ExitCode, SettingError
from gossip.inference.prototypes import by_prototypes
from gossip.learning.task import Shard
from gossip.node.options import NodeOptions
from gossip.node.recorder import Recorder
from gossip.node.running import run_node
from gossip.node.setup import find_membership, load_learning
from gossip.protocols.tables import NUMBER_MAX, Row, Table
from gossip.storage.checkpoints import Belongs, CheckpointStore
from gossip.telemetry.accounting import Accounting
from scenarios.processes.averages import load_task
from scenarios.reports import page
from scenarios.scenario import load
from tests.integration.homes import make_homes

SMALL = {
    "scenario.peers": 5,
    "data.train_max": 400,
    "data.test_max": 100,
    "model.features": 60,
    "stop.rounds": 4,
}


def run(folder, engine="virtual", **overrides):
    told = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
    return scenarios.run("prototypes", out=folder, report=False, engine=engine, overrides=told)


def test_a_table_that_is_passed_on_tells_classes_that_the_own_model_has_never_seen(tmp_path):
    found = run(tmp_path / "a")
    summary = found.summary
    assert summary["accuracy"]["max"] < 0.4  # of two classes of ten
    assert summary["prototype_accuracy"]["min"] > 0.7
    assert summary["prototype_classes"] == 10
    rounds = [point["prototype_accuracy_mean"] for point in summary["curve"]]
    assert rounds[0] < rounds[-1]  # news goes a neighbour further in each round
    assert set(summary["bytes"]["by_type"]) == {"finished", "prototypes"}
    shown = page.document([page.read_run(tmp_path / "a")])
    assert shown["curve"]["prototypes"] == pytest.approx(rounds, rel=1e-3)
    (fact,) = (fact for fact in shown["facts"] if fact["what"] == "nearest prototypes")
    assert float(fact["value"]) == pytest.approx(100 * summary["prototype_accuracy"]["mean"], abs=0.05)


def test_real_nodes_pass_a_table_on_keep_it_and_leave_its_layer(tmp_path):
    told = {
        "scenario__algorithm": "dfedavg",  # with models they wait for one another
        "scenario__peers": 2,
        "data__partition": {"kind": "pathological", "classes_per_peer": 5},
        "topology__kind": "full",
        "stop__rounds": 2,
    }
    found = run(tmp_path / "a", "processes", **told)
    simulated = run(tmp_path / "b", **told).summary["prototype_accuracy"]
    summary = found.summary
    assert summary["prototype_accuracy"] == simulated
    assert summary["messages"]["by_type"]["prototypes"] > 0
    task = load_task(load("prototypes", values=SMALL))
    samples = PrototypeSamples(task, peers=2, run="", robust=False)
    for peer in range(2):
        home = tmp_path / "a" / "peers" / f"peer-{peer:02}"
        said = json.loads((home / "summary.json").read_text())
        layer = safetensors.torch.load_file(home / "prototypes.safetensors")
        outputs = task.features(task.dataset.x_test) @ layer["weight"].T + layer["bias"]
        accuracy = float((outputs.argmax(dim=1) == task.dataset.y_test).double().mean())
        assert accuracy == pytest.approx(said["prototype_accuracy"])
        own = gossip.load(home)
        by_table = by_prototypes(own).evaluate(task.dataset.x_test, task.dataset.y_test)
        assert by_table["accuracy"] == pytest.approx(said["prototype_accuracy"])
        assert own.evaluate(task.dataset.x_test, task.dataset.y_test)["accuracy"] == pytest.approx(
            said["accuracy"]
        )
        belongs = Belongs(peer=home.name, space_id=task.space.space_id, seed=0)
        checkpoint = CheckpointStore(home).load_newest(belongs, protocol="rounds")
        assert checkpoint is not None
        shape = replace(samples.shape, run=str(checkpoint.state["table_run"]))
        rows = Table(shape, lambda peer: {}, checkpoint.state).rows
        assert {row.label for row in rows} == set(range(10))
    answers = {path.read_bytes() for path in tmp_path.glob("b/peers/*/prototypes.safetensors")}
    assert len(answers) == 1  # all know all


def test_a_table_that_is_none_of_the_models_is_refused_in_a_sentence(tmp_path):
    run(tmp_path / "a", scenario__algorithm="dfedavg", stop__rounds=1)
    home = tmp_path / "a" / "peers" / "peer-00"
    own, file = gossip.load(home), home / "prototypes.safetensors"
    table = safetensors.torch.load_file(file)
    nobody = table["bias"].new_full((10,), -float("inf"))
    for wrong, sentence in (
        ({"weight": table["weight"]}, "no readable prototypes"),
        ({"weight": table["weight"] * float("nan"), "bias": table["bias"]}, "no readable prototypes"),
        ({"weight": table["weight"], "bias": table["bias"][:9]}, "no readable prototypes"),
        ({"weight": table["weight"], "bias": nobody}, "no class whose prototype is known"),
        (
            {"weight": table["weight"][:, 1:].contiguous(), "bias": table["bias"]},
            "of other samples or classes",
        ),
        (
            {"weight": table["weight"][1:].contiguous(), "bias": table["bias"][1:].clone()},
            "of other samples or classes",
        ),
    ):
        safetensors.torch.save_file(wrong, file)
        with pytest.raises(SettingError, match=sentence):
            by_prototypes(own)
    file.write_bytes(b"\x01")
    with pytest.raises(SettingError, match="no readable prototypes"):
        by_prototypes(own)
    file.unlink()
    with pytest.raises(SettingError, match=r"a node writes it where \[channel\] kind = 'prototypes'"):
        by_prototypes(own)


def test_models_are_learnt_as_without_a_table(tmp_path):
    settings = {"scenario__algorithm": "dfedavg", "stop__rounds": 2}
    beside = run(tmp_path / "a", **settings).summary
    alone = run(tmp_path / "b", **settings, channel__kind="none", channel__every=10).summary
    assert alone["model_digest"] == beside["model_digest"]
    assert alone["event_digest"] != beside["event_digest"]
    assert not {"prototype_accuracy", "prototype_classes"} & alone.keys()


def test_a_peer_that_comes_back_has_its_table_again(tmp_path):
    faults = [
        {"at": 0.02, "peers": [1], "do": "crash"},
        {"at": 0.03, "peers": [1], "do": "restart"},
    ]
    summary = run(tmp_path / "a", faults__list=faults, stop__rounds=8).summary
    assert summary["faults"]["restarted"] == 1
    assert summary["prototype_classes"] == 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"protocol.kind": "push"}, "valid: kind = 'rounds'"),
        (
            {"privacy.kind": "dp-sgd", "privacy.epsilon_max": 3.0},
            "sums of samples, which the ledger of [privacy] does not count",
        ),
        ({"data.standardise": "own"}, "standardise = 'own' that is"),
        ({"channel.kind": "logits"}, "'none' or 'prototypes'"),
        ({"channel.kind": "none", "channel.every": 3}, "every = 3 belongs to kind = 'prototypes'"),
    ],
)
def test_what_it_does_not_go_with_is_one_sentence(settings, words):
    with pytest.raises(SettingError) as caught:
        load("prototypes", values=settings).graphs()
    assert words in str(caught.value)
    assert "channel" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "peers", "words"),
    [
        ({"model.features": 5000}, 5, "are 5000 numbers, and a row of the table has at most 4096"),
        (
            {"model.features": 1},
            20_000,
            "a table of 200000 rows that every peer would hold; valid: at most 100000",
        ),
        ({}, 10_000, "a table of 23 MiB that every peer would hold; valid: at most 16 MiB"),
        (
            {"objective.kind": "regression", "data.partition": {"kind": "iid"}},
            5,
            "the objective 'regression' has none",
        ),
    ],
)
def test_samples_of_which_there_can_be_no_table_are_one_sentence(settings, peers, words):
    told = load("prototypes", values=SMALL | settings)
    with pytest.raises(SettingError) as caught:
        samples_of(told, load_task(told), peers=peers)
    assert words in str(caught.value)


@pytest.fixture
def samples():
    task = load_task(load("prototypes", values=SMALL))
    return PrototypeSamples(task, peers=2, run="", robust=False)


@pytest.mark.parametrize("large", [2 * NUMBER_MAX, -2 * NUMBER_MAX, 3e38, float("inf"), float("nan")])
def test_samples_whose_sum_others_would_refuse_are_one_sentence(samples, large):
    x = torch.zeros(1005, samples.shape.width)
    shard = Shard(x, torch.tensor([0] * 1000 + [1] * 5))
    said = samples.own(shard)
    assert {label: count for label, (count, _) in said.items()} == {0: 1000, 1: 5}
    x[1000:, 3] = large  # of few among many
    with pytest.raises(DataError, match="numbers beyond 1e"):
        samples.own(shard)
    x[1000:, 3] = NUMBER_MAX / 2
    for label, (count, sums) in samples.own(shard).items():
        assert samples.shape.fits(Row("ann", label, 1, count, sums, b""))


def test_a_table_that_was_measured_is_not_held_for_its_figures(samples):
    sums = np.ones(samples.shape.width, dtype="<f4").tobytes()
    rows = tuple(Row("ann", label, 1, 5, sums, b"") for label in range(10))
    before = [sys.getrefcount(row) for row in rows]
    told = samples.told(rows, length_max=1e9)
    assert [sys.getrefcount(row) for row in rows] == before
    assert samples.told(tuple(rows), length_max=1e9) is told
    assert samples.told(rows[:9], length_max=1e9)["prototype_classes"] == 9
    others = tuple(row._replace(samples=6) for row in rows)
    assert samples.told(others, length_max=1e9) is not told


def test_prototypes_that_a_kill_kept_from_the_disk_are_written_when_it_starts_again(tmp_path):
    x = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    y = np.repeat([0, 1], 10)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    overrides = (
        f"data.source={tmp_path / 'd.npz'}",
        "data.partition.kind=own",
        "model.hidden=[4]",
        "topology.kind=full",
        "node.linger_s=0.2",
        "stop.rounds=2",
        "channel.kind=prototypes",
    )
    options = NodeOptions(
        peers=make_homes(tmp_path, ("alice",)), home=tmp_path / "alice", overrides=overrides
    )
    assert run_node(load_learning(options, find_membership(options))) == ExitCode.DONE
    told, layer = (options.home / "summary.json"), (options.home / "prototypes.safetensors")
    before, content = json.loads(told.read_text()), layer.read_bytes()
    assert before["prototype_classes"] == 2
    for lost in ([layer], [layer, told, options.home / "model.safetensors"]):
        for path in lost:
            path.unlink()
        setup = load_learning(options, find_membership(options))
        Recorder(setup, Accounting()).complete(setup.checkpoint)
        assert layer.read_bytes() == content
        after = json.loads(told.read_text())
        assert {key: after[key] for key in MEASURED} == {key: before[key] for key in MEASURED}


def test_without_keys_nobody_can_sign_and_a_node_says_so(tmp_path):
    (tmp_path / "task.toml").write_text('[channel]\nkind = "prototypes"\n')
    options = NodeOptions(
        peers=tmp_path / "peers.txt", home=tmp_path, task=tmp_path / "task.toml", insecure=True
    )
    with pytest.raises(SettingError, match="with --insecure there are none; leave --insecure out"):
        find_membership(options)
