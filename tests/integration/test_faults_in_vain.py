"""Faults that change nothing are told, and where they leave no peer the run ends with a sentence, in both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import scenarios
from scenarios import cli
from scenarios.errors import RunFailed

SMALL: dict[str, Any] = {
    "scenario.peers": 3,
    "scenario.algorithm": "dfedavg",
    "topology.kind": "full",
    "data.train_max": 120,
    "data.test_max": 60,
    "stop.rounds": 6,
}
ENGINES = ["virtual", "processes"]


def run(out: Path, engine: str, *faults: dict[str, Any], **more: Any) -> scenarios.Result:
    chosen = {**SMALL, "faults.list": list(faults), **more}
    return scenarios.run("quickstart", engine=engine, out=out, report=False, overrides=chosen)


def entry(number: int, what: str, why: str) -> str:
    return f"[faults] list, entry {number} ({what} s) had no effect: {why}"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fault_without_effect_is_told_and_one_with_an_effect_is_not(tmp_path: Path, engine: str) -> None:
    told = run(
        tmp_path / "run",
        engine,
        {"at": 1e9, "do": "crash", "peers": [1]},
        {"at": 0.0, "do": "restart", "peers": [1]},
        {"at": 0.0, "do": "pause", "peers": [2]},
        {"at": 0.0, "do": "resume", "peers": [1, 2]},
        {"at": 0.0, "do": "resume"},
    ).summary
    assert told["warnings"] == [
        entry(1, "crash at 1e+09", "the run was over before"),
        entry(2, "restart at 0", "all of its peers were running then, or there were none to start again"),
        entry(5, "resume at 0", "none of its peers was paused then"),
    ]
    assert (told["faults"]["crashed"], told["faults"]["restarted"]) == (0, 0)


def test_each_kind_of_fault_may_be_in_vain(tmp_path: Path) -> None:
    kinds = ("crash", "leave", "pause", "join", "restart", "resume", "partition", "heal")
    late = [{"at": 0.002, "do": each, **({} if each == "heal" else {"peers": [1]})} for each in kinds[:3]]
    told = run(
        tmp_path / "run",
        "virtual",
        {"at": 0.001, "do": "crash", "peers": [1]},
        *late,
        {"at": 0.002, "do": "resume", "peers": [1]},
        {"at": 0.002, "do": "heal"},
        {"at": 0.002, "do": "partition", "peers": [0, 1, 2]},
        {"at": 0.003, "do": "join", "peers": [2]},
        {"at": 0.004, "do": "join", "peers": [2]},
        {"at": 0.005, "do": "restart"},
        {"at": 0.006, "do": "restart"},
        {"at": 0.007, "do": "partition", "peers": [0]},
        {"at": 0.008, "do": "heal"},
        {"at": 0.009, "do": "heal"},
    ).summary["warnings"]
    numbers = [int(each.removeprefix("[faults] list, entry ").split()[0]) for each in told]
    assert numbers == [2, 3, 4, 5, 6, 7, 9, 11, 14]


def test_of_many_faults_without_effect_the_first_are_told_and_the_rest_are_counted(tmp_path: Path) -> None:
    many = [{"at": 1e9, "do": "crash", "peers": [1]}] * 25
    told = run(tmp_path / "run", "virtual", *many).summary["warnings"]
    assert (len(told), told[-1]) == (11, "[faults] list: 15 more of its entries had no effect")


@pytest.mark.parametrize("engine", ENGINES)
def test_where_faults_leave_no_honest_peer_the_run_ends_with_a_sentence_and_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    out = tmp_path / "run"
    # One that nobody wants to be honest stays.
    attacker = {"attack.kind": "sign-flip", "attack.peers": [3], "scenario.peers": 4}
    for faults, more in (
        ([{"at": 0.01, "do": "crash", "peers": [0, 1, 2]}], {}),
        ([{"at": 0.01, "do": "leave", "peers": [0, 1, 2]}], attacker),
    ):
        with pytest.raises(RunFailed, match="no honest peer is left: ") as failed:
            run(out, engine, *faults, **{"stop.rounds": 500, "evaluate.every": 100, **more})
        assert str(failed.value).endswith(f"is in {out / 'partial.json'}")
        partial = json.loads((out / "partial.json").read_text())
        assert (partial["stopped"], partial["score"]["mean"]) == ("nobody left", None)
        assert (out / "events.jsonl").exists()
        assert not (out / "summary.json").exists()
    told = 'faults.list=[{at=0.01, do="crash", peers=[0, 1, 2]}]'
    sets = [f"{key}={json.dumps(value)}" for key, value in {**SMALL, "stop.rounds": 500}.items()] + [told]
    argv = ["run", "quickstart", "--engine", engine, "--out", str(out)]
    assert cli.call([*argv, *(part for each in sets for part in ("--set", each))]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("gossip-scenario: no honest peer is left: ")


@pytest.mark.parametrize("engine", ENGINES)
def test_peers_that_are_all_away_are_waited_for_where_one_comes_back(tmp_path: Path, engine: str) -> None:
    everybody = [0, 1, 2]
    # Real ones must not be done before the engine has looked at them once.
    rounds = 300 if engine == "processes" else 8
    found = run(
        tmp_path / "run",
        engine,
        {"at": 0.001, "do": "crash", "peers": everybody},
        {"at": 0.5, "do": "restart"},
        **{"stop.rounds": rounds},
    )
    assert {(peer["state"], peer["rounds"]) for peer in found.peers} == {("finished", rounds)}
    assert found.summary["faults"]["restarted"] == 3
    assert found.summary["warnings"] == []
