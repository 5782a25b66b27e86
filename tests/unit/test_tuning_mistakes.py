"""Tuning: every mistake is one sentence and leaves nothing behind; a search that is broken off says what is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gossip.errors import DataError, UserError
from scenarios import cli
from scenarios.tuning import runs, search
from scenarios.tuning.runs import Measured, Run
from scenarios.tuning.study import read_study
from tests.tuned import TINY, formula, small_data


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Replace runs by a formula; what was run is noted."""
    noted: list[Run] = []
    monkeypatch.setattr(runs, "measure", formula(noted))
    return noted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--trials", "0"], "--trials 0: must be 1 to 10000"),
        (["--validation", "1"], "--validation 1.0: must be a share"),
        (["--set", "local.lr=x"], "--set local.lr=x: [local] lr = 'x'"),
        (["--set", "data.test_from_train=0.1"], "tuning sets samples aside itself"),
        (
            ["--space", "local.lrr=0.1..1"],
            "--space local.lrr=0.1..1: [local] unknown key 'lrr'; did you mean 'lr'?",
        ),
        (
            ["--space", "local.lr=1..0.1"],
            "--space local.lr=1..0.1: the lower bound 1 is not below the upper, 0.1",
        ),
        (["--space", "local.lr=0..1:log"], "a logarithm needs a lower bound above 0"),
        (["--space", "local.lr=0..1"], "--space local.lr=0..1: [local] lr = 0.0: must be greater than 0"),
        (["--space", "local.lr=0.1..1:cubic"], "unknown scale 'cubic'"),
        (["--space", "local.lr=0.1..inf"], "both bounds must be finite"),
        (["--space", "local.lr=a..b"], "--space local.lr=a..b: must look like KEY=LOW..HIGH"),
        (["--space", "local.lr"], "--space local.lr: must look like KEY=LOW..HIGH"),
        (["--space", "local.lr=0.1"], "one value is no choice"),
        (["--space", "local.batch_size=8,8"], "with different values"),
        (["--space", "local.batch_size=8,x"], "--space local.batch_size=8,x: [local] batch_size = 'x'"),
        (["--space", "protocol.gossip_steps=1.5..4"], "is a whole number, and so must its bounds be"),
        (["--space", "model.name=1..2"], "model.name is no number; list its values"),
        (["--space", "local.lr=0.1..1", "--space", "local.lr=0.2..1"], "--space: the same key stands twice"),
        (["--space", "scenario.seed=1..2"], "the seeds are given by --seeds"),
        (
            ["--set", "local.sam_rho=0", "--space", "local.sam_rho=0.01..1"],
            "'dfedsam-mgs' trains without SAM (sam_rho = 0); leave it out",
        ),
        (
            ["--algorithms", "dfedavg", "modest", "--space", "protocol.gossip_steps=1..3,"],
            "--space protocol.gossip_steps=1..3,: must look like",
        ),
        (["--algorithms", "modest", "--space", "protocol.gossip_steps=1..3"], "'modest' has no gossip steps"),
        (
            ["--algorithms", "dfedavg", "dfedsam", "--space", "local.sam_rho=0.01..1"],
            "--space: leaves nothing to tune of 'dfedavg'",
        ),
        (["--algorithms", "dfedavg", "dfedsm"], "unknown algorithm 'dfedsm'; did you mean 'dfedsam'?"),
        (["--algorithms", "dfedavg,dfedavg"], "'dfedavg' stands twice"),
        (
            ["--algorithms", "dfedavg", "--set", "local.sam_rho=0.1"],
            "--set local.sam_rho: 'dfedavg' is told from",
        ),
        (["--algorithms", "dfedavg", "--set", "scenario.algorithm=modest"], "the algorithms are those of"),
        (["--seeds", "0-1", "--held-out-seeds", "1-3"], "--held-out-seeds: seed 1 is a tuning seed"),
        (["--seeds", "x"], "--seeds x: must look like"),
        (["--held-out-seeds", "x"], "--held-out-seeds x: must look like"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    arguments, sentence, tiny, tmp_path, monkeypatch, capsys, done
):
    monkeypatch.chdir(tmp_path)
    assert cli.call(["tune", tiny, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gossip-scenario: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]
    assert not done


def test_without_optuna_a_sentence_says_how_to_get_it(tiny, tmp_path, monkeypatch, capsys, done):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.call(["tune", tiny]) == 2
    said = capsys.readouterr().err
    assert "tune needs the package optuna, which is not installed; pip install 'gossip-node[tune]'" in said
    assert said.count("\n") == 1
    assert not done


def test_a_start_that_cannot_be_run_ends_the_search_with_its_own_sentence_and_exit_code(tiny, tmp_path):
    with pytest.raises(UserError) as caught:
        search.tune(tiny, trials=2, overrides=["model.name=resnet19"], out=tmp_path / "s", jobs=1)
    assert "as it stands, seed 0: " in str(caught.value)
    assert not read_study(tmp_path / "s").trials
    with pytest.raises(UserError, match=r"no file .*absent.npz") as caught:
        search.tune(tiny, trials=2, overrides=["data.source=absent.npz"], out=tmp_path / "t", jobs=1)
    assert caught.value.exit_code == DataError.exit_code


# --- processes ---------------------------------------------------------------------------------------

DEADLY = """
import os

def samples():
    os._exit(7)
"""


def test_runs_side_by_side_come_to_what_they_come_to_one_after_another(tiny, tmp_path):
    source = f"data.source={small_data(tmp_path)}"
    wanted = [Run(tiny, (source, "data.test_from_train=0.2"), seed) for seed in (0, 1)]
    with runs.workers(1) as begin:
        alone = [outcome() for outcome in begin(wanted)]
    with runs.workers(2) as begin:
        beside = [outcome() for outcome in begin(wanted)]
    assert [(m.seed, m.score, m.worst, m.megabytes, m.error) for m in beside] == [
        (m.seed, m.score, m.worst, m.megabytes, None) for m in alone
    ]


def test_a_process_that_is_killed_ends_the_search_with_a_sentence(tiny, tmp_path, capsys):
    (tmp_path / "deadly.py").write_text(DEADLY)
    source = f"data.source=python:{tmp_path / 'deadly.py'}:samples"
    arguments = [
        "--trials",
        "1",
        "--seeds",
        "0",
        "--jobs",
        "2",
        "--set",
        source,
        "--out",
        str(tmp_path / "s"),
    ]
    assert cli.call(["tune", tiny, *arguments]) == 1
    assert "a process that computed a trial was killed" in capsys.readouterr().err


def test_an_interruption_is_a_sentence_and_the_exit_code_of_one(tiny, tmp_path, monkeypatch, capsys, done):
    def interrupted(run: Run, elsewhere: Path) -> Measured:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "measure", interrupted)
    assert cli.call(["tune", tiny, "--jobs", "1", "--out", str(tmp_path / "s")]) == 130
    assert "the finished trials are kept, and the same command goes on from there" in capsys.readouterr().err
