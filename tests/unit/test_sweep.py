"""Sweeps: every combination once, finished runs skipped, means over the seeds."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from gossip.errors import SettingError
from scenarios import sweep
from scenarios.records import SweepRow
from scenarios.reports import terminal as tables
from tests.tuned import small_data

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
    scenario.write_text(SCENARIO.replace("[data]", f'[data]\nsource = "{small_data(tmp_path)}"'))
    runs = sweep.plan(str(scenario), "virtual", ["local.lr=0.1,0.2"], [0, 1], tmp_path / "out")
    assert len(list(sweep.carry_out(runs, jobs=0))) == 4
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


def test_different_settings_never_share_a_folder(tmp_path):
    long = ["x" * 90 + end for end in ("/a", "_a", "b" * 200, "b" * 201)]
    axes = ["local.lr=0.1,0.2", f"scenario.description={','.join(long)}"]
    runs = sweep.plan("quickstart", "virtual", axes, [0, 1], tmp_path)
    assert len({run.folder for run in runs}) == len(runs) == 16


def test_the_seeds_of_a_sweep_are_no_axis(tmp_path):
    with pytest.raises(
        SettingError, match=r"^--set scenario\.seed: the seeds of a sweep are given by --seeds"
    ):
        sweep.plan("quickstart", "virtual", ["scenario.seed=1,2"], [0], tmp_path)


def row(*settings: str, honest: int) -> SweepRow:
    same = {"mean": 0.5, "std": 0.1, "min": 0.4, "max": 0.6}
    measures = {**dict.fromkeys(sweep.MEASURES, same), "honest_peers": {**same, "mean": honest}}
    return SweepRow(settings, 2, measures)


def printed(rows: list[SweepRow], **console: object) -> list[str]:
    file = io.StringIO()
    tables.print_sweep(Console(file=file, **console), rows, folder="runs/x")
    return file.getvalue().splitlines()


def test_the_table_of_a_sweep_has_a_column_for_each_thing_that_varies_under_a_name_of_its_own():
    rows = [
        row("merge.kind=krum", "attack.kind=none", "local.lr=0.1", "attack.count=3", honest=13),
        row("merge.kind=median", "attack.kind=optimal-alie", "local.lr=0.2", "attack.count=3", honest=10),
    ]
    lines = printed(rows, width=20)
    assert lines[1].split()[:4] == ["merge.kind", "attack.kind", "lr", "honest"]
    assert lines[3].split()[:5] == ["krum", "none", "0.1", "13", "2"]
    assert lines[4].split()[:5] == ["median", "optimal-alie", "0.2", "10", "2"]
    assert "all with attack.count=3" in lines
    alike = printed([row("merge.kind=krum", honest=8), row("merge.kind=median", honest=8)])
    assert alike[1].split()[:3] == ["merge.kind", "seeds", "accuracy"]


def test_a_narrow_terminal_shows_fewer_columns_and_no_half_numbers():
    rows = [row(f"merge.kind={kind}", "attack.kind=ipm", honest=9) for kind in ("krum", "trimmed-mean")]
    lines = printed(rows, width=60, force_terminal=True, color_system=None)
    assert max(map(len, lines)) <= 60
    assert not any("…" in line for line in lines)
    assert any("50.0 ± 10.0" in line for line in lines)
    assert any(line.startswith("a wider terminal, and --json, show also") for line in lines)


def test_the_table_of_one_combination_has_no_column_of_settings():
    lines = printed([row("local.lr=0.1", honest=8)])
    assert lines[1].split()[0] == "seeds"
    assert "all with local.lr=0.1" in lines
