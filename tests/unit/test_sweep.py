"""Sweeps: every combination once, finished runs skipped, means over the seeds."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from gossip.errors import SettingError
from scenarios import cli, sweep
from scenarios.inputs import named_files
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


OWN = """
import gossip
from factor import FACTOR
class Scaled(gossip.Merge):
    def __call__(self, own, own_weight, received, *, context):
        return own * FACTOR
"""


@pytest.fixture
def with_files(tmp_path):
    """A sweep of one run that reads a file of samples and a rule, which imports the module beside it."""
    data = small_data(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "factor.py").write_text("FACTOR = 1.0")
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(SCENARIO.replace("[data]", f'[data]\nsource = "{data}"'))
    runs = sweep.plan(
        str(scenario), "virtual", [f"merge.kind=python:{tmp_path}/own.py:Scaled"], [0], tmp_path / "out"
    )
    assert len(list(sweep.carry_out(runs, jobs=0))) == 1
    return runs


def done_again(runs):
    said = []
    return [run.seed for run in sweep.carry_out(runs, jobs=0, say=said.append)], said


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("factor.py", "FACTOR = 0.0", "factor.py has changed since"),
        ("own.py", OWN.replace("* FACTOR", "* 0"), "own.py has changed since"),
        ("unused.py", "FACTOR = 0.0", None),
        ("out/{run}/summary.json", '{"scen', "summary.json of one cannot be read"),
        ("out/{run}/inputs.json", "[]", "has changed since"),
    ],
)
def test_a_finished_run_of_other_files_is_done_again_and_that_is_said(with_files, tmp_path, file, text, told):
    run = with_files[0].folder.relative_to(tmp_path / "out")
    (tmp_path / file.format(run=run)).write_text(text)
    again, said = done_again(with_files)
    assert again == ([] if told is None else [0])
    assert [told in sentence for sentence in said] == ([] if told is None else [True])
    assert done_again(with_files) == ([], [])


def test_a_finished_run_of_other_samples_is_done_again(with_files, tmp_path):
    [source] = [path for path in sweep.read_inputs(with_files[0].folder) if not path.endswith(".py")]
    with open(source, "ab") as file:
        file.write(b"\0")
    again, said = done_again(with_files)
    assert again == [0]
    assert said == [f"1 finished run is done again: {source} has changed since"]


def test_a_sweep_that_is_stopped_says_what_is_kept(with_files, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(sweep, "carry_out", stopped)
    out = with_files[0].folder.parents[1]
    assert cli.call(["sweep", with_files[0].scenario, "--out", str(out)]) == 130
    kept = f"runs that are done stay in {out}, and the same command goes on with the others"
    assert capsys.readouterr().err == f"gossip-scenario: interrupted; {kept}\n"


def test_what_cannot_be_read_is_no_other_error_than_before(tmp_path):
    """Whoever needs it says so; that its content is unknown is told by no exception."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "own.py").write_text("import os")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    tables = {
        "merge": {"kind": f"python:{tmp_path}/closed:Folder"},
        "data": {"source": str(tmp_path / "loop"), "test": str(tmp_path / "closed")},
        "peers": [f"python:{tmp_path}/missing.py:own", f"{tmp_path}/missing.csv", "/" + "x" * 5000],
    }
    assert set(named_files(tables)) == {f"{tmp_path}/closed"}
