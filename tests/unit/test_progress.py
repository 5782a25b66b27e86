"""What is told of a run while it goes on: every step from the first, a line a round, and what there was at a Ctrl-C."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import scenarios
from gossip.errors import SettingError
from gossip.telemetry.pace import TREND, TREND_POINTS, trend
from scenarios.errors import Stopped
from scenarios.progress import Lines, Live, Quiet, State, for_console
from scenarios.scenario import ScenarioSettings, load
from scenarios.virtual import engine
from tests.laws import tried

OVERRIDES = {"scenario.peers": 4, "stop.rounds": 3, "data.train_max": 300, "model.name": "logistic"}

STATE = State(
    seconds=1.0,
    running=4,
    rounds_mean=1.5,
    rounds_min=1,
    score_mean=0.5,
    score_worst=0.25,
    score_of_mean=0.75,
    bytes_sent=2_000_000,
    consensus=0.125,
)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Steps(Quiet):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, what: str) -> None:
        self.steps.append(what)


def test_every_long_step_is_said_from_the_first_second_on(tmp_path: Path) -> None:
    told = Steps()
    overrides = {**OVERRIDES, "scenario.alone": True}
    scenarios.run("quickstart", overrides=overrides, out=tmp_path / "run", progress=told)
    words = (
        "loading torch",
        "loading data",
        "dividing the data among 4",
        "trying the stages",
        "choosing how",
        "making peers",
    )
    words += ("first round", "learning alone", "writing the report")
    assert len(told.steps) == len(words)
    for step, word in zip(told.steps, words, strict=True):
        assert word in step


def test_elsewhere_there_is_one_line_for_each_round() -> None:
    shown = console(terminal=False)
    lines = for_console(shown)
    assert isinstance(lines, Lines)
    lines.step("loading data")
    lines.begin(load("quickstart"))
    for done in (0.0, 0.5, 1.0, 1.25, 1.75, 2.0, 2.9, 4.0):
        lines.update(replace(STATE, rounds_mean=done))
    lines.end()
    found = [line.split()[3] for line in said(shown).splitlines() if " round " in line and " s  " in line]
    assert found == ["1/30", "2/30", "4/30"]
    assert said(shown).startswith("loading data\n")


def test_a_terminal_shows_the_pages_figures_and_is_left_as_it_was() -> None:
    shown = console(terminal=True)
    figures = for_console(shown)
    assert isinstance(figures, Live)
    figures.step("loading data")
    figures.begin(load("quickstart"))
    figures.update(STATE)
    figures._drawn.refresh()
    figures.end()
    text = said(shown)
    for word in (
        "loading data",
        "starting 8 peers",
        "round 1/30",
        "50.0 %",
        "25.0 %",
        "75.0 %",
        "0.125",
        "2.0 MB",
        "4 running",
    ):
        assert word in text, word
    # The cursor is back.
    assert text.rstrip().rfind("\x1b[?25h") > text.rfind("\x1b[?25l")
    before = len(said(shown))
    figures.step("writing the report")
    assert said(shown)[before:].strip() == "writing the report"


@pytest.mark.parametrize(
    ("wrong", "drawn"),
    # The second takes the engine to tell.
    [({"local.lr": -1}, False), ({"model.name": "cnn", "virtual.method": "linear-stack"}, True)],
)
def test_a_mistake_before_the_start_leaves_the_terminal_as_it_was(
    wrong: dict[str, object], drawn: bool, tmp_path: Path
) -> None:
    shown = console(terminal=True)
    with pytest.raises(SettingError):
        scenarios.run("quickstart", overrides=wrong, out=tmp_path / "run", progress=for_console(shown))
    assert bool(said(shown)) == drawn
    if drawn:
        assert said(shown).rfind("\x1b[?25h") > said(shown).rfind("\x1b[?25l")


@tried(1)
@given(st.lists(st.floats(), max_size=60))
def test_a_trend_is_as_many_bars_as_there_are_values_from_the_least_to_the_most(values: list[float]) -> None:
    drawn = trend([value for value in values if abs(value) < 1e100])
    assert len(drawn) <= TREND_POINTS
    assert set(drawn) <= set(TREND)
    if len(set(drawn)) > 1:
        assert {TREND[0], TREND[-1]} <= set(drawn)


def test_each_round_of_few_peers_is_told_of_while_they_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rounds(Quiet):
        def __init__(self) -> None:
            self.begun: set[int] = set()

        def update(self, state: State) -> None:
            self.begun.add(int(state.rounds_mean))

    monkeypatch.setattr(engine, "PROGRESS_S", 0.0)
    told = Rounds()
    scenarios.run(
        "quickstart", overrides={**OVERRIDES, "stop.rounds": 6}, out=tmp_path / "run", progress=told
    )
    assert told.begun >= {1, 2, 3, 4, 5, 6}


def test_no_round_that_was_told_is_taken_back_where_time_ends_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rounds(Quiet):
        def __init__(self) -> None:
            self.told: list[float] = []

        def update(self, state: State) -> None:
            self.told.append(state.rounds_mean)

    monkeypatch.setattr(engine, "PROGRESS_S", 0.0)
    progress = Rounds()
    ends = {"stop.rounds": 50, "evaluate.every": 50, "stop.virtual_seconds": 2.0}
    scenarios.run("quickstart", overrides={**OVERRIDES, **ends}, out=tmp_path / "run", progress=progress)
    most = max(progress.told)
    assert 1 <= most < 50
    assert set(progress.told[progress.told.index(most) :]) == {most}


def test_what_was_measured_is_kept_when_a_run_is_stopped(tmp_path: Path) -> None:
    class Stops(Quiet):
        def update(self, state: State) -> None:
            if state.running == 0:
                raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(Stopped) as stopped:
        scenarios.run("quickstart", overrides=OVERRIDES, out=out, progress=Stops())
    assert stopped.value.path == out / "partial.json"
    assert stopped.value.told.startswith("round 3 of 3: accuracy ")
    partial = json.loads((out / "partial.json").read_text())
    assert partial["stopped"] == "interrupted"
    assert [point["round"] for point in partial["curve"]] == [1, 2, 3]
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 12
    # It is no finished run, and gives way to the next.
    assert not (out / "summary.json").exists()
    scenarios.run("quickstart", overrides={**OVERRIDES, "stop.rounds": 1}, out=out)
    assert not (out / "partial.json").exists()


def test_a_run_that_is_stopped_before_it_has_measured_anything_says_nothing_of_it(tmp_path: Path) -> None:
    class Stops(Quiet):
        def begin(self, scenario: ScenarioSettings) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        scenarios.run("quickstart", overrides=OVERRIDES, out=tmp_path / "run", progress=Stops())
    assert not isinstance(stopped.value, Stopped)
    assert not (tmp_path / "run" / "partial.json").exists()
