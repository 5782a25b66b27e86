"""The report of a study: the page has all it shows, the terminal ends with the line that uses the best."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scenarios import cli, scenario
from scenarios.tuning import runs, search
from scenarios.tuning.runs import Measured, Run
from scenarios.tuning.study import Study

NAMES = ["dfedavg", "dfedsam-mgs"]


@pytest.fixture(autouse=True)
def formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs take no time, and are best at lr = 0.1."""

    def measure(run: Run, elsewhere: Path) -> Measured:
        loaded = scenario.load(run.scenario, seed=run.seed, overrides=run.settings)
        accuracy = max(0.05, 0.9 - 0.2 * abs(math.log10(loaded.local.lr / 0.1)) + 0.001 * run.seed)
        error = "[local] <b>no</b>" if loaded.local.batch_size == 7 else None
        return Measured(
            seed=run.seed,
            score=None if error else accuracy,
            worst=None if error else accuracy - 0.1,
            megabytes=2.5,
            seconds=3.0,
            error=error,
        )

    monkeypatch.setattr(runs, "measure", measure)


def made(folder: Path, trials: int = 6, **options: object) -> Study:
    overrides = ["local.lr=0.002"]
    return search.tune(
        "ring-dfedsam-mgs", **{"trials": trials, "overrides": overrides, "out": folder, "jobs": 1, **options}
    )


class Page(HTMLParser):
    """Collects what a browser would load, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for key, value in attrs if key in {"src", "href", "srcset", "data"}]

    def handle_data(self, data: str) -> None:
        self.shown += data


def page_of(folder: Path) -> Page:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"@import|url\(", text)
    prefix = "data:image/svg+xml;base64,"
    for address in page.loaded:
        assert base64.b64decode(address.removeprefix(prefix)).startswith(b"<?xml")
    return page


def test_the_page_has_trials_best_curve_settings_and_what_the_held_out_seeds_say(tmp_path, capsys):
    study = made(tmp_path / "s")
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    page = page_of(tmp_path / "s")
    assert len(page.loaded) == 3
    best = study.best("dfedsam-mgs")
    for shown in (
        "lr",
        "sam_rho",
        "gossip_steps",
        f"{100 * best.score:.1f} %",
        f"{100 * study.of('dfedsam-mgs')[0].score:.1f} %",
        "2.5 MB",
        "seeds 0, 1",
        "seeds 2-4",
        "20 % of each class's training samples",
        "local.lr from 0.001 to 1 by its logarithm",
    ):
        assert shown in page.shown, shown
    assert page.shown.count("gossip-scenario run") == 1
    assert "script" not in page.tags


def test_the_terminal_ends_with_the_command_that_uses_the_best(tmp_path, capsys):
    study = made(tmp_path / "s", algorithms=NAMES)
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    lines = capsys.readouterr().out.splitlines()
    champion = study.champion()
    words = shlex.split(lines[-1].removeprefix("to use the best: "))
    assert words[:3] == ["gossip-scenario", "run", "ring-dfedsam-mgs"]
    loaded = scenario.load("ring-dfedsam-mgs", overrides=words[4::2])
    assert (loaded.algorithm, loaded.local.lr) == (champion.method, champion.params["local.lr"])
    assert words[3::2] == ["--set"] * len(champion.settings)
    other = next(study.best(name) for name in NAMES if name != champion.method)
    assert any(f"local.lr={other.params['local.lr']}" in line for line in lines)
    for trial in study.trials:
        row = next(line.split() for line in lines if line.split()[:2] == [trial.method, str(trial.number)])
        assert f"{100 * trial.score:.1f}" in row
    page = page_of(tmp_path / "s")
    assert len(page.loaded) == 3
    assert f"{100 * study.held_out['dfedavg'][-1].mean:.1f} ±" in page.shown


def test_tune_prints_the_same_end_and_json_has_it_all(tmp_path, capsys):
    out = str(tmp_path / "s")
    command = [
        "tune",
        "ring-dfedsam-mgs",
        "--trials",
        "5",
        "--set",
        "local.lr=0.002",
        "--jobs",
        "1",
        "--out",
        out,
    ]
    assert cli.call([*command, "--algorithms", *NAMES]) == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 12  # five trials of each method, and each method's held-out runs
    assert said.out.splitlines()[-1].startswith(
        "to use the best: gossip-scenario run ring-dfedsam-mgs --set "
    )
    assert (tmp_path / "s" / "report.html").exists()
    assert cli.call([*command, "--algorithms", ",".join(NAMES), "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert (found["done"], found["trials"], list(found["methods"])) == (True, 5, NAMES)
    assert (found["tuning_seeds"], found["held_out_seeds"], found["validation"]) == ([0, 1], [2, 3, 4], 0.2)
    for told in found["methods"].values():
        assert [trial["number"] for trial in told["trials"]] == list(range(5))
        assert told["held_out"][-1]["trial"] == told["best"]
        assert told["use"] == told["trials"][told["best"]]["settings"]


def test_one_seed_has_no_deviation(tmp_path, capsys):
    study = made(tmp_path / "s", tuning_seeds=[4], held_out_seeds=[9])
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    shown = capsys.readouterr().out
    assert "over the tuning seed 4, on" in shown
    assert "with seed 9, which" in shown
    assert f"{100 * study.held_out['dfedsam-mgs'][-1].mean:.1f} %" in shown
    assert "±" not in shown


def test_where_nothing_was_set_aside_every_output_says_so(tmp_path, capsys):
    made(tmp_path / "s", validation=0)
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    for shown in (capsys.readouterr().out, page_of(tmp_path / "s").shown):
        assert "on the test samples: nothing was set aside" in shown


def test_an_unfinished_study_and_one_without_a_score_have_a_page(tmp_path, capsys):
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "s", tell=stop)
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    assert "unfinished: 1 of 6 trials" in capsys.readouterr().out
    page = page_of(tmp_path / "s")
    assert "unfinished: 1 of 6 trials" in page.shown
    assert len(page.loaded) == 2
    (tmp_path / "s" / "trials.jsonl").unlink()
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    assert "No trial has a score yet." in page_of(tmp_path / "s").shown


def test_a_trial_that_came_to_nothing_says_why_and_is_no_markup(tmp_path, capsys):
    study = made(tmp_path / "s", space=["local.batch_size=7,16", "local.lr=0.01..1"])
    assert any(trial.error for trial in study.trials)
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    assert "[local] <b>no</b>" in capsys.readouterr().out
    assert "[local] <b>no</b>" in page_of(tmp_path / "s").shown


def test_a_start_that_nothing_beats_says_so(tmp_path, capsys):
    made(tmp_path / "s", trials=3, overrides=["local.lr=0.1"])
    assert cli.call(["report", str(tmp_path / "s")]) == 0
    assert "nothing found was better than the scenario as it stands" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["{", '{"format": 2}', '{"format": 1}', "[]"])
def test_what_is_no_study_is_a_sentence(tmp_path, capsys, broken):
    (tmp_path / "study.json").write_text(broken)
    assert cli.call(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be read as a study" in said or "written by another version" in said


def test_a_study_is_reported_alone(tmp_path, capsys):
    made(tmp_path / "s", trials=2)
    capsys.readouterr()
    assert cli.call(["report", str(tmp_path / "s"), str(tmp_path / "other")]) == 2
    assert "is a study, and has a page of its own; give it alone" in capsys.readouterr().err
