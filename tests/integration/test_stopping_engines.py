"""Runs that stop before `[stop] rounds`: simulated and real, what they keep and say, and what cannot stop so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import gossip
import scenarios
from gossip.errors import SettingError
from scenarios.scenario import load
from topologies import Topology

SMALL = {
    "scenario.peers": 4,
    "scenario.algorithm": "dfedavg",
    "data.train_max": 300,
    "data.test_max": 100,
    "local.epochs": 1,
    "topology.kind": "full",
    "stop.rounds": 30,
}


def run(tmp_path, name, engine="virtual", **overrides):
    told = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
    return scenarios.run("quickstart", out=tmp_path / name, report=False, engine=engine, overrides=told)


def started_again(folder, peer, *more):
    files = [
        "--peers",
        folder / "peers.txt",
        "--task",
        folder / "task.toml",
        "--home",
        folder / "peers" / peer,
    ]
    command = [sys.executable, "-m", "gossip.cli", *map(str, files), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def scores_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(line["peer"], line["round"]): line["score"] for line in lines}


def provenance(home):
    return gossip.load(home).provenance


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_a_target_ends_the_run_everywhere_and_the_best_model_is_kept(tmp_path, engine):
    summary = run(tmp_path, "a", engine, stop__target=0.3).summary
    assert summary["stopped"] == "target"
    first, last = summary["stopped_round"]["min"], summary["stopped_round"]["max"]
    assert 2 < first <= last < 10
    # In a full graph no two honest peers are more than one hop apart.
    assert last - first <= (0 if engine == "virtual" else 3)
    for peer in ("peer-00", "peer-03"):
        home = tmp_path / "a" / "peers" / peer
        best = provenance(home / "best.safetensors")
        scores = {round: score for (name, round), score in scores_of(tmp_path / "a").items() if name == peer}
        assert max(scores) in (first, last), "the last model is evaluated"
        assert best["score"] == scores[best["rounds"]] == max(scores.values())
        if engine == "processes":
            own = json.loads((home / "summary.json").read_text())
            assert (own["stopped"], own["stopped_round"]) == ("target", max(scores))
            assert (own["best_score"], own["best_round"]) == (best["score"], best["rounds"])
    if engine == "processes":
        again = started_again(tmp_path / "a", "peer-00")
        assert again.returncode == 0
        assert "upon which the peers agreed (target) are done already" in again.stderr
        refused = started_again(tmp_path / "a", "peer-00", "--insecure")
        assert refused.returncode == 2
        assert (
            "what peers want is signed with their keys, and with --insecure there are none" in refused.stderr
        )


def test_patience_ends_the_run_once_nothing_improves_by_as_much_as_asked(tmp_path):
    summary = run(tmp_path, "a", stop__patience=2, stop__min_delta=1.0).summary
    # The first score is an improvement on none; two evaluations later all want to stop, and are one hop apart.
    assert (summary["stopped"], summary["stopped_round"]) == ("patience", {"min": 5, "max": 5})
    every = run(tmp_path, "b", stop__patience=2, stop__min_delta=1.0, evaluate__every=3).summary
    assert every["stopped_round"] == {"min": 11, "max": 11}


def test_what_nobody_wants_ends_with_the_rounds_and_changes_no_model(tmp_path):
    plain = run(tmp_path, "a", stop__rounds=4).summary
    asked = run(tmp_path, "b", stop__rounds=4, stop__target=2.0).summary
    assert plain["stopped"] == asked["stopped"] == "rounds"
    assert asked["model_digest"] == plain["model_digest"]
    assert asked["bytes"]["total"] == plain["bytes"]["total"]
    assert not (tmp_path / "a" / "peers" / "peer-00" / "best.safetensors").exists()


def test_peers_judge_by_samples_that_were_set_aside_where_there_are_some(tmp_path):
    folder = tmp_path / "a"
    run(tmp_path, "a", stop__rounds=3, evaluate__keep_best=True, data__validation_per_class=3)
    best = provenance(folder / "peers" / "peer-01" / "best.safetensors")
    # A share of three samples of each class that it trains on, and not of the hundred test samples.
    assert best["score"] != scores_of(folder)["peer-01", best["rounds"]]


def test_who_chooses_by_the_test_samples_is_told_so():
    def notes(**options):
        return [note for note in load("quickstart", values=SMALL | options).notes if "flatters" in note]

    assert notes() == []
    assert len(notes(**{"stop.patience": 3})) == len(notes(**{"evaluate.keep_best": True})) == 1
    assert notes(**{"stop.patience": 3, "data.validation_per_class": 3}) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"scenario.algorithm": "modest", "stop.patience": 3},
            "kind = 'modest' has none that they could agree",
        ),
        (
            {"scenario.algorithm": "gossip-learning", "stop.target": 0.9},
            "kind = 'push' has none that they could",
        ),
        ({"scenario.algorithm": "local", "stop.target": 0.9}, "gossip_steps = 0 nobody waits"),
        ({"scenario.peers": 1200, "topology.kind": "ring", "stop.target": 0.9}, "valid: at most 1024"),
        ({"stop.target": 0.9, "stop.liars": 4}, "liars = 4 of 4 peers leaves nobody honest; valid: 0 to 3"),
        ({"stop.liars": 2}, "liars = 2 belongs to patience or target"),
        ({"stop.target": 0.9, "stop.min_delta": 0.1}, "min_delta = 0.1 belongs to patience"),
        ({"stop.patience": 0}, "patience = 0"),
    ],
)
def test_what_cannot_stop_early_is_refused_with_a_sentence(values, sentence):
    with pytest.raises(SettingError) as refused:
        load("quickstart", values=SMALL | values)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_few_peers_for_the_liars_are_a_caution():
    def notes(peers, liars):
        values = SMALL | {"scenario.peers": peers, "stop.patience": 3, "stop.liars": liars}
        return [note for note in load("quickstart", values=values).notes if "3·f + 1" in note]

    assert len(notes(3, 1)) == len(notes(6, 2)) == 1
    assert notes(4, 1) == notes(7, 2) == notes(2, 0) == []


def test_runs_that_do_not_ask_for_it_are_called_what_they_were():
    plain = load("quickstart", values=SMALL)
    assert plain.task().stop.compared() == {"rounds": 30}
    asked = load("quickstart", values=SMALL | {"stop.patience": 3}).task()
    assert asked.stop.compared() == {"rounds": 30, "patience": 3}
    assert asked.run_id() != plain.task().run_id()


@pytest.mark.parametrize(
    ("kind", "peers", "longest"),
    [("full", 5, 1), ("ring", 9, 4), ("star", 6, 2), ("torus", 16, 4), ("full", 1, 0)],
)
def test_the_longest_way_between_peers(kind, peers, longest):
    assert Topology(kind, peers).diameter() == longest
