"""Attacked runs in the virtual engine: what honest peers make of them, what is counted, and that they repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip.errors import SettingError
from scenarios.attacks.settings import ATTACKS

TEXT = """
[scenario]
name = "attacked"
peers = 9
algorithm = "d-psgd"
[data]
source = "digits"
train_max = 600
[model]
name = "logistic"
[local]
lr = 0.5
steps = 4
[topology]
kind = "full"
[stop]
rounds = 8
[evaluate]
every = 4
[attack]
kind = "none"
count = 2
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    path = tmp_path / "attacked.toml"
    path.write_text(TEXT)
    runs = iter(range(100))

    def go(kind: str = "none", **values: Any) -> scenarios.Result:
        given = {"attack.kind": kind, **{name.replace("__", "."): value for name, value in values.items()}}
        return scenarios.run(path, overrides=given, out=tmp_path / str(next(runs)), report=False)

    return go


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_every_kind_runs_counts_the_honest_only_and_repeats_itself(run: Any, kind: str) -> None:
    values = {"merge__kind": "trimmed-mean", "merge__f": 2, "stop__rounds": 4, "evaluate__every": 2}
    first, second = (run(kind, **values).summary for _ in range(2))
    honest = 9 if kind == "none" else 7
    assert (first["peers"], first["honest_peers"]) == (9, honest)
    assert {point["peers"] for point in first["curve"]} == {honest}
    assert first["model_digest"] == second["model_digest"]
    assert first["event_digest"] == second["event_digest"]
    assert 0 <= first["accuracy"]["min"] <= first["accuracy"]["mean"] + 1e-9 <= 1
    assert (first["attack"] is None) == (kind == "none")


def test_an_average_falls_to_label_flippers_and_a_trimmed_mean_does_not(run: Any) -> None:
    clean = run("none").summary["accuracy"]["mean"]
    assert clean > 0.85
    assert run("label-flip").summary["accuracy"]["mean"] < 0.5
    assert (
        run("label-flip", merge__kind="trimmed-mean", merge__f=2).summary["accuracy"]["mean"] > clean - 0.05
    )


@pytest.mark.parametrize(
    ("kind", "reason"), [("nan", "non-finite"), ("inf", "non-finite"), ("huge-norm", "norm")]
)
def test_what_no_honest_peer_sends_is_refused_counted_and_its_sender_muted(
    run: Any, kind: str, reason: str
) -> None:
    result = run(kind)
    summary = result.summary
    # Two attackers, seven victims; three models are looked at, the other five rounds are muted.
    assert summary["faults"]["rejected_messages"] == {"muted": 2 * 7 * 5, reason: 2 * 7 * 3}
    assert summary["attack"]["attackers_models"] == {"muted": 70, reason: 42}
    assert summary["attack"]["honest_models"] == {}
    assert summary["accuracy"]["mean"] > 0.85
    told = {
        entry["round"]: entry["verdicts"]["peer-08"] for entry in result.metrics if entry["peer"] == "peer-00"
    }
    assert told == {4: [0.0, reason], 8: [0.0, "muted"]}


def test_old_messages_are_no_news(run: Any) -> None:
    summary = run("replay", attack__age=2).summary
    # From round 2 on, to seven victims each; those of the last round find everybody finished.
    assert summary["faults"]["rejected_messages"] == {"stale": 2 * 7 * 5}
    assert summary["accuracy"]["mean"] > 0.85


def test_an_attack_that_begins_late_leaves_the_rounds_before_alone(run: Any) -> None:
    clean, late = run("none"), run("sign-flip", attack__from_round=4, attack__merges=True)
    honest = [entry for entry in clean.metrics if entry["peer"] not in ("peer-07", "peer-08")]
    before = [entry["accuracy"] for entry in honest if entry["round"] == 4]
    assert before == [entry["accuracy"] for entry in late.metrics if entry["round"] == 4]
    assert late.summary["accuracy"]["mean"] < clean.summary["accuracy"]["mean"]


def test_a_backdoor_is_learnt_with_its_trigger_and_leaves_the_rest_as_it_was(run: Any) -> None:
    clean = run("none").summary["accuracy"]["mean"]
    summary = run("backdoor", attack__boost=3.0).summary
    assert summary["attack"]["success_rate"]["mean"] > 0.5
    assert summary["accuracy"]["mean"] > clean - 0.05
    without = run("backdoor", attack__boost=3.0, attack__from_round=100, attack__share=0.01).summary
    assert without["attack"]["success_rate"]["mean"] < 0.3


def test_the_rules_verdicts_on_every_model_are_in_the_records(run: Any) -> None:
    result = run("sign-flip", merge__kind="krum", merge__f=2, attack__of="mean")
    counted = result.summary["attack"]
    models = sum(counted["attackers_models"].values())
    assert models == 2 * 7 * 8
    assert counted["attackers_models"].get("accepted", 0) == 0
    assert counted["honest_models"]["accepted"] > 0
    for entry in result.metrics:
        assert set(entry["verdicts"]) <= {f"peer-{k:02}" for k in range(9)} - {entry["peer"]}
        assert all(0 <= weight <= 1 for weight, _ in entry["verdicts"].values())
    assert json.loads((result.folder / "summary.json").read_text())["attack"] == counted


@pytest.mark.parametrize("algorithm", ["modest", "gossip-learning"])
def test_attacks_work_whatever_the_protocol(run: Any, algorithm: str) -> None:
    summary = run("nan", scenario__algorithm=algorithm, stop__rounds=10).summary
    assert summary["honest_peers"] == 7
    rejected = summary["faults"]["rejected_messages"]
    assert rejected.get("non-finite", 0) > 0
    assert summary["accuracy"]["mean"] > 0.5


def test_who_attacks_stays_when_the_kind_is_changed_and_a_sentence_says_what_is_wrong(run: Any) -> None:
    assert run("gaussian", attack__std=1.0, stop__rounds=1).summary["attack"]["attackers"] == [
        "peer-07",
        "peer-08",
    ]
    with pytest.raises(SettingError, match="unknown kind 'sign-flop'; did you mean 'sign-flip'"):
        run("sign-flop")
    with pytest.raises(SettingError, match="leave nobody honest"):
        run("nan", attack__count=9)
