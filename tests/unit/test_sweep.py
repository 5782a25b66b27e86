"""Sweeps: every combination once, finished runs skipped, means over the seeds."""

from __future__ import annotations

import json

import pytest

from gossip.errors import SettingError
from scenarios import sweep

SCENARIO = """
[scenario]
name = "tiny"
peers = 3
algorithm = "d-psgd"
[data]
train_max = 60
test_max = 40
[topology]
kind = "full"
[stop]
rounds = 2
"""


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("a.b=1", ["1"]),
        ("a.b=1,2, 3", ["1", "2", "3"]),
        ("a.b=[1,2],[3]", ["[1,2]", "[3]"]),
        ('a.b="x,y",z', ['"x,y"', "z"]),
        ('a.b={kind="iid"},{kind="shards", n=2}', ['{kind="iid"}', '{kind="shards", n=2}']),
    ],
)
def test_an_axis_is_a_key_and_its_values(argument, values):
    assert sweep.parse_axis(argument) == ("a.b", values)


@pytest.mark.parametrize("argument", ["a.b", "=1", "a.b=", "a.b=1,,2", "a.b=1,1"])
def test_a_wrong_axis_is_a_sentence(argument):
    with pytest.raises(SettingError, match=r"must look like SECTION\.KEY=V1,V2"):
        sweep.parse_axis(argument)


@pytest.mark.parametrize(("text", "seeds"), [("3", [3]), ("0-2", [0, 1, 2]), ("0-1,7", [0, 1, 7])])
def test_seeds_are_ranges_and_numbers(text, seeds):
    assert sweep.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "2-1", "1,1", "0-99999999"])
def test_wrong_seeds_are_a_sentence(text):
    with pytest.raises(SettingError, match=r"^--seeds "):
        sweep.parse_seeds(text)


def test_a_wrong_value_is_told_before_anything_runs(tmp_path):
    with pytest.raises(SettingError, match=r"--set local\.lr=x: \[local\] lr = 'x'"):
        sweep.plan("quickstart", "virtual", ["local.lr=0.1,x"], [0], tmp_path)
    with pytest.raises(SettingError, match="the same key stands twice"):
        sweep.plan("quickstart", "virtual", ["local.lr=0.1", "local.lr=0.2"], [0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_all_combinations_run_once_and_rows_are_means_over_seeds(tmp_path):
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(SCENARIO)
    runs = sweep.plan(str(scenario), "virtual", ["local.lr=0.1,0.2"], [0, 1], tmp_path / "out")
    assert len(list(sweep.carry_out(runs, jobs=1))) == 4
    rows = sweep.table(runs)
    assert [(row.settings, row.runs) for row in rows] == [(("local.lr=0.1",), 2), (("local.lr=0.2",), 2)]
    told = [
        json.loads((tmp_path / "out" / "local.lr=0.1" / f"seed-{seed}" / "summary.json").read_text())
        for seed in (0, 1)
    ]
    mean = sum(summary["accuracy"]["mean"] for summary in told) / 2
    assert rows[0].measures["accuracy"]["mean"] == pytest.approx(mean)
    assert list(sweep.carry_out(runs, jobs=1)) == [], "finished runs are not done again"
    (tmp_path / "out" / "local.lr=0.1" / "seed-0" / "summary.json").unlink()
    assert [run.seed for run in sweep.carry_out(runs, jobs=1)] == [0]
    scenario.write_text(SCENARIO.replace("rounds = 2", "rounds = 3"))
    assert sum(sweep.is_done(run) for run in runs) == 0, "a run of other settings is not this run"
