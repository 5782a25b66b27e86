"""Attacked runs in the virtual engine: what honest peers make of them, what is counted, and that they repeat."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import scenarios
from gossip.errors import SettingError
from gossip.learner import Learner
from scenarios.attacks import formulas, kinds
from scenarios.attacks.old_messages import OldMessages
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

    def go(kind: str = "none", *, engine: str = "virtual", **values: Any) -> scenarios.Result:
        given = {"attack.kind": kind, **{name.replace("__", "."): value for name, value in values.items()}}
        return scenarios.run(
            path, overrides=given, engine=engine, out=tmp_path / str(next(runs)), report=False
        )

    return go


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_every_kind_runs_counts_the_honest_only_and_repeats_itself(run: Any, kind: str) -> None:
    values = {"merge__kind": "trimmed-mean", "merge__f": 2, "stop__rounds": 4, "evaluate__every": 4}
    values |= {"local__steps": 1, "data__train_max": 200, "data__test_max": 100}
    if kind == "foreign-swap":
        values["attack__broadcast"] = True  # all classes are familiar to everybody here
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


def test_fang_attacks_hurt_the_rules_that_they_are_made_for(run: Any) -> None:
    """Five of eleven, which the rules are told: it is below half, and costs them most of what is learnt."""

    def accuracy(kind: str, rule: str) -> float:
        values = {"merge__kind": rule, "merge__f": 5, "attack__count": 5, "scenario__peers": 11}
        return float(run(kind, **values).summary["accuracy"]["mean"])

    assert accuracy("fang-krum", "krum") < accuracy("none", "krum") - 0.4
    assert accuracy("fang-trimmed-mean", "trimmed-mean") < accuracy("none", "trimmed-mean") - 0.2


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
    without = run("backdoor", attack__boost=3.0, attack__from_round=7, attack__share=0.01).summary
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


TARGETED = {"attack.kind": "backdoor"}
SWAP = {"attack.kind": "foreign-swap"}
MIXED = {"attack.kind": "mixed"}


@pytest.mark.parametrize("engine", ["virtual", "processes"])
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({**TARGETED, "attack.target": 10}, "[attack] target = 10: there is no such class; valid: 0 to 9"),
        (
            {"attack.kind": "nan", "attack.from_round": 8},
            "[attack] from_round = 8: the run ends after 8 rounds; valid: 0 to 7",
        ),
        (
            {"attack.kind": "replay", "attack.age": 8},
            "[attack] age = 8: nothing gets so old in a run of 8 rounds; valid: 1 to 7",
        ),
        ({"attack.kind": "replay", "stop.rounds": 1}, "replay needs two rounds or more"),
        (
            {"attack.kind": "huge-norm", "attack.scale": 1.0},
            "[attack] scale = 1.0: must be greater than 1",
        ),
        (
            {**MIXED, "stop.rounds": 3, "attack.kinds": ["replay"]},
            "[attack] kinds = ['replay']: replay: age = 3: nothing gets so old",
        ),
        (
            {**MIXED, "attack.kinds": ["nan", "inf", "sign-flip"]},
            "3 kinds for 2 attackers; valid: at most one for each",
        ),
    ],
)
def test_a_setting_that_would_crash_the_run_or_be_no_attack_is_one_sentence_before_anything_runs(
    run: Any, engine: str, values: dict[str, Any], sentence: str
) -> None:
    refused(
        run, sentence, engine=engine, **{name.replace(".", "__"): value for name, value in values.items()}
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {**TARGETED, "attack.size": 9},
            "[attack] size = 9: the square does not fit into samples of shape (1, 8, 8); valid: 1 to 8",
        ),
        (SWAP, "[attack] broadcast = false: permutes the classes that a victim has no samples of"),
        (
            {**SWAP, "attack.broadcast": True, "attack.classes": [0, 99]},
            "[attack] classes = [0, 99]: there is no class 99; valid: 0 to 9",
        ),
        ({**SWAP, "attack.classes": [0, 1]}, "classes = [0, 1] belongs to broadcast = true"),
        (
            {"attack.kind": "mimic", "attack.target": 7},
            "[attack] target = 7: there are 7 honest peers; valid: 0 to 6",
        ),
        ({"attack.kind": "alie", "attack.z": 0.0}, "[attack] z = 0.0: must not be 0"),
        (
            {"attack.kind": "alie", "scenario.peers": 10},
            "[attack] z is missing: with 2 attackers of 10 peers the largest that hides is 0",
        ),
        ({"attack.kind": "alie", "attack.count": 1}, "with 1 attackers of 9 peers the largest"),
        ({"attack.kind": "ipm", "attack.epsilon": -1.0}, "[attack] epsilon = -1.0: must be greater than 0"),
        (
            {"attack.kind": "min-max", "attack.count": 8},
            "[attack] kind = 'min-max' needs at least 2 honest peers",
        ),
        *(
            (
                {"attack.kind": "spectral", "scenario.algorithm": algorithm},
                f"[attack] kind = 'spectral' is made of the graph of neighbours, and protocol '{algorithm}' has none; "
                "valid with rounds and push",
            )
            for algorithm in ("modest", "fedavg")
        ),
        (
            {**MIXED, "attack.kinds": ["nan", "spectral"], "scenario.algorithm": "modest"},
            "[attack] kinds = ['nan', 'spectral']: spectral: kind = 'spectral' is made of",
        ),
    ],
)
def test_so_is_one_that_the_virtual_engine_is_asked_alone(
    run: Any, values: dict[str, Any], sentence: str
) -> None:
    refused(run, sentence, **{name.replace(".", "__"): value for name, value in values.items()})


def refused(run: Any, sentence: str, *, attack__kind: str, **values: Any) -> None:
    with pytest.raises(SettingError) as error:
        run(attack__kind, **values)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def sent_honestly(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note of every crafted model for an honest victim whether it is the attacker's honest one."""
    noted: list[bool] = []
    for name in ("Mimic", "Dissensus", "Spectral", "Sybil"):
        kind = getattr(kinds, name)

        def craft(self: Any, known: Any, of: Any = kind.craft) -> Any:
            crafted = of(self, known)
            if known.victim not in self.scene.attackers and known.attacker != min(self.scene.attackers):
                noted.append(torch.equal(crafted, known.own))
            return crafted

        monkeypatch.setattr(kind, "craft", craft)
    return noted


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        *product(["mimic", "dissensus", "sybil"], ["modest", "fedavg", "gossip-learning"]),
        ("spectral", "gossip-learning"),
    ],
)
def test_who_does_not_send_in_a_step_is_known_by_what_it_sent_last(
    run: Any, monkeypatch: pytest.MonkeyPatch, algorithm: str, kind: str
) -> None:
    noted = sent_honestly(monkeypatch)
    sampled = {} if algorithm == "gossip-learning" else {"protocol__sample_size": 6}
    run(kind, scenario__algorithm=algorithm, stop__rounds=20, evaluate__every=20, attack__count=3, **sampled)
    assert len(noted) >= 8
    # The first that speak know nobody yet.
    assert sum(noted) / len(noted) < 0.2


def test_under_modest_the_newest_message_that_is_old_enough_is_sent_again(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages: list[int] = []
    again = OldMessages.again

    def watched(self: OldMessages, message: Any, attack: Any) -> Any:
        old = again(self, message, attack)
        ages.append(message.round - old.round)
        return old

    monkeypatch.setattr(OldMessages, "again", watched)
    run("replay", scenario__algorithm="modest", protocol__sample_size=3, stop__rounds=20, attack__age=2)
    assert set(ages) - {0}
    assert min(set(ages) - {0}) >= 2
    assert ages.count(0) < len(ages) / 2


def test_what_is_sent_again_may_be_from_before_the_attack(run: Any) -> None:
    # Rounds 5 to 7; those of the last find everybody finished.
    summary = run("replay", attack__age=4, attack__from_round=5).summary
    assert summary["faults"]["rejected_messages"] == {"stale": 2 * 7 * 2}


def test_the_search_for_the_worst_parameter_tries_a_victim_that_hears_an_attacker(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    damages: list[set[float]] = []
    search = formulas.worst_parameter

    def watched(damage: Any, **values: Any) -> float:
        damages.append({damage(parameter) for parameter in (0.1, 1.0, 10.0)})
        return search(damage, **values)

    monkeypatch.setattr(formulas, "worst_parameter", watched)
    ring = {"topology__kind": "ring", "stop__rounds": 2, "evaluate__every": 2}
    run("optimal-ipm", attack__count=None, attack__peers=[4], **ring)
    assert damages
    assert all(len(each) == 3 for each in damages)


def test_a_trial_of_hardened_bristle_is_told_what_everybody_declares(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, list[Any]] = {True: [], False: []}
    trying: list[bool] = []
    merge, craft = Learner.merge, kinds.OptimalIpm.craft

    def watched(self: Learner, *arguments: Any, declared: Any = None, **values: Any) -> Any:
        seen[bool(trying)].append(declared)
        return merge(self, *arguments, declared=declared, **values)

    def crafting(self: Any, known: Any) -> Any:
        trying.append(True)
        try:
            return craft(self, known)
        finally:
            trying.pop()

    monkeypatch.setattr(Learner, "merge", watched)
    monkeypatch.setattr(kinds.OptimalIpm, "craft", crafting)
    by_class = {"kind": "shards", "shards_per_peer": 3}
    run(
        "optimal-ipm",
        scenario__algorithm="bristle",
        data__partition=by_class,
        model__name="linear",
        stop__rounds=2,
        attack__evaluations=3,
    )
    assert seen[True]
    assert seen[False]
    assert all(told == seen[False][0] for told in (*seen[True], *seen[False]))
    assert 0 < len(seen[False][0]["peer-00"]) < 10
    assert seen[False][0]["peer-08"] == frozenset(range(10))
