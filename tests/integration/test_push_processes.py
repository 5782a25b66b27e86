"""Gossip learning with real nodes over TLS: they learn, whoever is killed, and send what the virtual engine counts."""

from __future__ import annotations

import json

import pytest

import scenarios
from gossip.errors import SettingError

SMALL = {
    "scenario.peers": 4,
    "scenario.algorithm": "gossip-learning",
    "data.train_max": 600,
    "model.hidden": (16,),
    "local.epochs": 2,
    "local.lr": 0.2,
    "protocol.kind": "push",
    "protocol.period_s": 0.1,
    "protocol.fanout": 0,
    "topology.kind": "ring",
    "stop.rounds": 20,
    "node.linger_s": 60.0,
    "node.linger_down_s": 60.0,
    "evaluate.every": 10,
}


def run(tmp_path, engine, **overrides):
    return scenarios.run(
        "quickstart",
        engine=engine,
        out=tmp_path / engine,
        report=False,
        seed=1,
        overrides=SMALL | {key.replace("__", "."): value for key, value in overrides.items()},
    )


def test_both_engines_count_the_same_bytes_for_each_message(tmp_path):
    """How many messages there are depends on who is done first; what one takes does not."""
    of_one = {}
    for engine in ("virtual", "processes"):
        summary = run(tmp_path, engine, protocol__parts=4).summary
        pushes = summary["messages"]["by_type"]["push"]
        # Two neighbours for each own update; those who are done push on until the slowest is.
        assert 0.9 * 4 * 2 * 20 <= pushes <= 1.5 * 4 * 2 * 20
        assert summary["messages"]["by_type"]["finished"] == 8
        of_one[engine] = summary["bytes"]["payload"] / pushes
        assert summary["accuracy"]["mean"] > 0.6
    learned = 64 * 16 + 16 + 16 * 10 + 10
    assert of_one == {engine: pytest.approx(4 * learned / 4, rel=0.01) for engine in of_one}


@pytest.mark.parametrize(("variant", "killed"), [("random-walk", [3]), ("update-merge", [])])
def test_models_that_walk_learn_in_both_engines_and_a_node_that_is_killed_goes_on_with_them(
    tmp_path, variant, killed
):
    faults = [{"at": 0.5, "do": "crash", "peers": killed}, {"at": 1.0, "do": "restart", "peers": killed}]
    chosen = {"scenario__peers": 4 if killed else 2, "topology__kind": "full", "protocol__fanout": 1}
    # One peer at a time learns what walks: as much in an update as others in five.
    chosen |= {"local__epochs": 5, "local__lr": 0.1}
    for engine in ("virtual", "processes"):
        result = run(
            tmp_path, engine, protocol__variant=variant, faults__list=faults if killed else [], **chosen
        )
        assert {(peer["state"], peer["rounds"]) for peer in result.peers} == {("finished", 20)}
        assert result.summary["accuracy"]["min"] > 0.4
        assert result.summary["faults"]["restarted"] == len(killed)


def test_real_processes_come_and_go_as_a_trace_says_and_obey_no_speeds(tmp_path):
    path = tmp_path / "machines.csv"
    path.write_text('up,down,online\n1,1,""\n1,1,0-0.5;1-\n1,1,""\n1,1,0.8-\n')
    chosen = {"topology__kind": "full", "stop__rounds": 30, "peers__trace": str(path)}
    with pytest.raises(
        SettingError, match=r"the trace says 'up', and real processes .* columns = \[\"online\"\]"
    ):
        run(tmp_path, "processes", **chosen)
    result = run(tmp_path, "processes", peers__columns=("online",), **chosen)
    faults = result.summary["faults"]
    assert (faults["crashed"], faults["restarted"], faults["joined"]) == (1, 1, 1)
    assert {(peer["state"], peer["rounds"]) for peer in result.peers} == {("finished", 30)}


def test_nodes_that_are_killed_and_come_back_hold_nobody_up(tmp_path):
    faults = [
        {"at": 0.5, "do": "crash", "peers": [2, 3]},
        {"at": 1.0, "do": "restart", "peers": [2, 3]},
    ]
    result = run(tmp_path, "processes", faults__list=faults, topology__kind="full", stop__rounds=30)
    states = {}
    for name in (f"peer-{index:02d}" for index in range(4)):
        said = json.loads((tmp_path / "processes" / "peers" / name / "summary.json").read_text())
        states[name] = (said["state"], said["rounds"])
    assert set(states.values()) == {("finished", 30)}
    assert result.summary["accuracy"]["min"] > 0.4
