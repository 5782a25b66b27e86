"""Tuning, targets and early stopping compare whatever the objective scores by, in its own direction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scenarios
from scenarios import cli
from scenarios.tuning.search import tune
from scenarios.tuning.study import Study
from tests.integration.test_objective_engines import SCORES, TASKS, scenario

LABELS = {"r2": "R²", "f1": "F1"}


def tuned(path: Path, out: Path, values: str) -> Study:
    pytest.importorskip("optuna")
    return tune(
        path,
        trials=2,
        overrides=["stop.rounds=1"],
        space=[f"local.lr={values}"],
        tuning_seeds=[0],
        held_out_seeds=[1],
        out=out,
        jobs=1,
    )


@pytest.mark.parametrize("kind", list(TASKS))
def test_the_best_trial_is_the_one_with_the_best_score_in_its_direction(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tuned(scenario(tmp_path, kind), tmp_path / "study", "1e-6,1e-7")
    method, scored = study.asked.methods[0].name, study.asked.scored
    best, other = study.best(method), study.of(method)[1]
    assert scored.name == SCORES[kind]
    assert best is not None
    assert best.score is not None
    assert other.score is not None
    assert best.number == 0
    assert scored.better(best.score, other.score)
    assert cli.call(["report", str(tmp_path / "study"), "--out", str(tmp_path / "page.html")]) == 0
    for told in (capsys.readouterr().out, (tmp_path / "page.html").read_text()):
        assert f"ean final {LABELS.get(SCORES[kind], SCORES[kind])}" in told
        assert "ccuracy" not in told


def test_a_trial_of_which_some_models_diverge_is_not_the_better_for_it(tmp_path: Path) -> None:
    study = tuned(scenario(tmp_path, "regression"), tmp_path / "study", "1e30,1e31")
    assert study.trials[1].score is None
    assert "no finite score: they diverged" in str(study.trials[1].error)
    assert study.best("dfedavg") == study.trials[0]


@pytest.mark.parametrize("kind", ["regression", "python:own.py:Quantile"])
def test_a_target_is_reached_in_the_direction_of_the_score(tmp_path: Path, kind: str) -> None:
    path = scenario(tmp_path, kind)
    curve = scenarios.run(path, out=tmp_path / "run", report=False).summary["curve"]
    target = curve[1]["score_mean"]
    again = scenarios.run(
        path, out=tmp_path / "again", report=False, overrides=[f"stop.target_score={target!r}"]
    ).summary
    better = max if again["objective"]["higher_is_better"] else min
    reached = [
        point["round"] for point in curve if better(point["score_mean"], target) == point["score_mean"]
    ]
    assert again["rounds_to_target"] == reached[0]


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("regression", "processes"), ("python:own.py:Quantile", "virtual"), ("sequence", "virtual")],
)
def test_patience_stops_where_own_validation_scores_are_no_better_in_their_direction(
    tmp_path: Path, kind: str, engine: str
) -> None:
    path = scenario(tmp_path, kind, stop="rounds = 9\npatience = 2\nmin_delta = 1e6", evaluate="every = 1")
    summary = scenarios.run(
        path, engine=engine, out=tmp_path / "run", report=False, overrides=["data.own_validation=0.2"]
    ).summary
    assert summary["stopped"] == "patience"
    assert summary["stopped_round"]["max"] < 9
    assert not [said for said in summary["warnings"] if "flatters" in said]
    learns = scenarios.run(
        path, out=tmp_path / "on", report=False, overrides=["stop.min_delta=0", "data.own_validation=0.2"]
    ).summary
    assert learns["stopped_round"]["max"] > summary["stopped_round"]["max"]


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_an_extractor_is_pretrained_for_what_is_no_class(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario(tmp_path, kind)
    monkeypatch.chdir(tmp_path)
    asked = ["pretrain", "e.safetensors", "--data", f"python:own.py:{TASKS[kind][0]}", "--objective", kind]
    assert cli.call([*asked, "--lr", "0.01", "--epochs", "5", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["accuracy"] is None
    assert made["objective"] == SCORES[kind]
    assert made["score"] > 0.3
    assert cli.call([*asked, "--lr", "1e-6", "--epochs", "1"]) == 2
    assert "it has learnt nothing" in capsys.readouterr().err
