"""Two scores, told apart: on the common test samples, and on those that each peer keeps of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip import cli as node_cli
from scenarios import cli

SMALL = {
    "scenario.algorithm": "dfedavg",
    "scenario.peers": 3,
    "stop.rounds": 2,
    "topology.kind": "full",
    "local.epochs": 1,
    "logger.kind": "csv",
    "data.partition": {"kind": "pathological", "classes_per_peer": 5},
}


def run(folder: Path, **more: Any) -> Any:
    engine = more.pop("engine", "virtual")
    overrides = {**SMALL, **{key.replace("_", ".", 1): value for key, value in more.items()}}
    return scenarios.run("quickstart", engine=engine, overrides=overrides, out=folder)


def test_both_engines_tell_the_same_of_own_test_samples_beside_the_common_ones(
    tmp_path: Path, capsys: Any
) -> None:
    virtual = run(tmp_path / "virtual", data_own_test=0.3)
    real = run(tmp_path / "real", data_own_test=0.3, engine="processes")
    keys = ("peer", "round", "score", "own_score", "own_accuracy", "own_test_samples")
    told = [{key: entry[key] for key in keys} for entry in virtual.metrics]
    assert told == [{key: entry[key] for key in keys} for entry in real.metrics]
    assert any(entry["own_score"] != entry["score"] for entry in told)
    for name in ("own_score", "own_accuracy", "own_test_samples"):
        assert virtual.summary[name] == pytest.approx(real.summary[name])
    last = [entry["own_score"] for entry in told if entry["round"] == 2]
    assert virtual.summary["own_score"]["worst"] == min(last)
    assert virtual.summary["curve"][-1]["own_score_min"] == min(last)

    node = json.loads((tmp_path / "real" / "peers" / "peer-00" / "summary.json").read_text())
    assert {node["own_score"]} == {
        each["own_score"] for each in told if (each["peer"], each["round"]) == ("peer-00", 2)
    }
    log = (tmp_path / "real" / "peers" / "peer-00" / "node.log").read_text()
    assert f"{node['own_test_samples']} own test samples" in log
    assert "kept to be tested on" in (tmp_path / "real" / "peers" / "peer-00" / "MODEL.md").read_text()
    for folder in ("virtual", "real/peers/peer-00"):
        header, row, *_ = (tmp_path / folder / "metrics.csv").read_text().splitlines()
        assert header.endswith(",own_score,own_test_loss")
        assert len(row.split(",")) == len(header.split(","))
    for folder in ("virtual", "real"):
        home = str(tmp_path / folder / "peers" / "peer-00")
        for asked in ([], ["--data", "digits"]):
            capsys.readouterr()
            assert node_cli.run(["evaluate", "--home", home, "--json", *asked]) == 0
            both = json.loads(capsys.readouterr().out)
            assert both["accuracy"] == pytest.approx(node["score"])
            assert both["own_test"]["accuracy"] == pytest.approx(node["own_score"])
            assert both["own_test"]["samples"] == node["own_test_samples"]
        assert node_cli.run(["evaluate", "--home", home]) == 0
        assert f"{node['own_test_samples']} own test samples" in capsys.readouterr().out
        assert "on own tests" in (tmp_path / folder / "report.html").read_text()


def test_the_terminal_has_a_column_and_a_line_for_own_tests(tmp_path: Path, capsys: Any) -> None:
    settings = ["scenario.peers=3", "stop.rounds=1", "local.epochs=1", "topology.kind=full"]
    told = [part for setting in settings for part in ("--set", setting)]
    asked = ["run", "quickstart", "--engine", "virtual", "--quiet", *told]
    assert cli.call([*asked, "--set", "data.own_test=0.2", "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("on own tests") == 2


def test_without_own_test_samples_nothing_says_anything_of_them(tmp_path: Path) -> None:
    found = run(tmp_path / "run")
    files = ("summary.json", "metrics.jsonl", "peers.json", "metrics.csv")
    for name in files:
        assert "own_" not in (tmp_path / "run" / name).read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    told = page.partition('id="document">')[2].partition("</script>")[0]
    assert told
    assert "own tests" not in told
    assert "own_score" not in found.summary


def test_who_does_not_say_which_data_is_told_to(tmp_path: Path, capsys: Any) -> None:
    run(tmp_path / "run")
    home = tmp_path / "run" / "peers" / "peer-00"
    (home / "source.json").write_text("[1")
    assert node_cli.run(["evaluate", "--home", str(home)]) == 2
    assert "source.json: is damaged; say --data" in capsys.readouterr().err
    (home / "source.json").unlink()
    assert node_cli.run(["evaluate", "--home", str(home)]) == 2
    assert "does not say which data its node learnt from; say --data" in capsys.readouterr().err
