"""What the user sees while a scenario runs. It goes to standard error; results go to standard output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live as Drawn
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gossip.learning.objectives.score import ACCURACY, Score
from gossip.telemetry.pace import TimeLeft, left_told, seconds, trend
from gossip.telemetry.progress import human_bytes
from scenarios.scenario import ScenarioSettings

if TYPE_CHECKING:
    from scenarios.records import Records

DRAWN_A_SECOND = 4
"""How often a terminal is drawn anew: bars and seconds move though nothing is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run stands."""

    seconds: float
    running: int
    rounds_mean: float
    rounds_min: int
    score_mean: float | None
    score_worst: float | None
    score_of_mean: float | None
    bytes_sent: int
    scored: Score = ACCURACY
    """What the score is."""
    consensus: float | None = None
    """How far the models are from their mean, in the newest round where that is known."""
    died: int = 0
    """Peers whose process has ended though nobody wanted it to."""
    so_far: Callable[[], Records] | None = field(default=None, compare=False)
    """Puts together what is known by now, for whoever shows more than these figures; to be called at once or never."""


class Progress(Protocol):
    """Is told what goes on."""

    def step(self, what: str) -> None:
        """What is done before the first round, or after the last."""

    def begin(self, scenario: ScenarioSettings) -> None:
        """The run starts."""

    def say(self, sentence: str) -> None:
        """What was chosen, once everything is set up."""

    def update(self, state: State) -> None:
        """It has got on, perhaps."""

    def end(self) -> None:
        """It is over, well or not."""


class Looks:
    """Does something when it is called, but not more often than each so many seconds."""

    def __init__(self, do: Callable[[], None], *, every_s: float) -> None:
        self._do = do
        self._every_s = every_s
        self._did_s = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._did_s >= self._every_s:
            self._do()
            self._did_s = time.monotonic()


class Quiet:
    """Shows nothing."""

    def step(self, what: str) -> None:
        """Show nothing."""

    def begin(self, scenario: ScenarioSettings) -> None:
        """Show nothing."""

    def say(self, sentence: str) -> None:
        """Show nothing."""

    def update(self, state: State) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class Remembered:
    """Tells another, and keeps what was told last."""

    def __init__(self, told: Progress) -> None:
        self._told = told
        self._ended = False
        self.last: State | None = None

    def step(self, what: str) -> None:
        """Pass it on."""
        self._told.step(what)

    def begin(self, scenario: ScenarioSettings) -> None:
        """Pass it on."""
        self._told.begin(scenario)

    def say(self, sentence: str) -> None:
        """Pass it on."""
        self._told.say(sentence)

    def update(self, state: State) -> None:
        """Keep it, and pass it on."""
        self.last = state
        self._told.update(state)

    def end(self) -> None:
        """Pass it on."""
        self._ended = True
        self._told.end()

    def close(self) -> None:
        """Pass the end on if nobody has: a mistake in a file ends a run before it starts."""
        if not self._ended:
            self.end()


class Live:
    """The few figures on a terminal, drawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ended = False
        self._title = ""
        self._doing = Spinner("dots", text="starting")
        self._state: State | None = None
        self._scores: list[float] = []
        self._left = TimeLeft(1)
        self._rounds = 1
        self._drawn = Drawn(
            console=console,
            transient=True,
            refresh_per_second=DRAWN_A_SECOND,
            get_renderable=self._render,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._began_s = time.monotonic()

    def step(self, what: str) -> None:
        """Show what is being done; after the rounds as a line of its own."""
        if self._ended:
            self._console.print(what, style="dim", markup=False, highlight=False)
            return
        self._doing.update(text=Text(what))
        self._drawn.start()
        self._drawn.refresh()

    def begin(self, scenario: ScenarioSettings) -> None:
        """Show what starts, under what should be known of the settings."""
        for note in scenario.notes:
            self._console.print(note, markup=False, highlight=False, soft_wrap=True)
        self._title, self._rounds = titled(scenario), scenario.stop.rounds
        self._left = TimeLeft(self._rounds)
        self.step(f"starting {scenario.scenario.peers} peers")

    def say(self, sentence: str) -> None:
        """Show the sentence above the bar."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def update(self, state: State) -> None:
        """Move the bar and the figures."""
        self._left.note(state.rounds_mean)
        if state.score_mean is None and state.rounds_mean < 1:
            return
        before = 0 if self._state is None else int(self._state.rounds_mean)
        self._state = state
        if state.score_mean is None:
            return
        if not self._scores or int(state.rounds_mean) > before:
            self._scores.append(state.score_mean)

    def end(self) -> None:
        """Take it all away."""
        self._ended = True
        self._drawn.stop()

    def _render(self) -> RenderableType:
        state = self._state
        if state is None:
            return Group(Text(self._title, style="bold"), self._doing) if self._title else self._doing
        bar = Table.grid(padding=(0, 1))
        done, elapsed_s = min(int(state.rounds_mean), self._rounds), time.monotonic() - self._began_s
        bar.add_row(
            ProgressBar(total=self._rounds, completed=done, width=30),
            Text(f"round {done}/{self._rounds}  {seconds(elapsed_s)}{left_told(self._left.seconds)}"),
        )
        figures = Table.grid(padding=(0, 3))
        cells = figures_of(state)
        figures.add_row(*(Text(name, style="dim") for name, _ in cells))
        figures.add_row(*(Text(value) for _, value in cells), Text(trend(self._scores), style="cyan"))
        return Group(Text(self._title, style="bold"), bar, figures)


class Lines:
    """A line for each step and for each round, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._rounds = 0
        self._left = TimeLeft(1)
        self._first: str | None = ""
        """The first step, held until settings have been read: a mistake in them is one sentence, and nothing else."""

    def step(self, what: str) -> None:
        """Say it."""
        if self._first == "":
            self._first = what
        else:
            self._print(what)

    def begin(self, scenario: ScenarioSettings) -> None:
        """Say what starts, and what should be known of the settings."""
        self._rounds = scenario.stop.rounds
        self._left = TimeLeft(self._rounds)
        for note in scenario.notes:
            self._print(note)
        self._print(titled(scenario))

    def say(self, sentence: str) -> None:
        """Say it."""
        self._print(sentence)

    def update(self, state: State) -> None:
        """Say a line of every round that most peers have done; of several at once, of the last."""
        self._left.note(state.rounds_mean)
        if int(state.rounds_mean) <= self._told:
            return
        self._told = int(state.rounds_mean)
        left = left_told(self._left.seconds)
        self._print(f"{state.seconds:6.1f} s  round {self._told}/{self._rounds}  {told(state)}{left}")

    def end(self) -> None:
        """Say nothing more."""

    def _print(self, line: str) -> None:
        first, self._first = self._first, None
        for each in (first, line):
            if each:
                self._console.print(each, markup=False, highlight=False, soft_wrap=True)


def titled(scenario: ScenarioSettings) -> str:
    """Return what starts, as one line."""
    return (
        f"{scenario.scenario.name}: {scenario.scenario.peers} peers, {scenario.algorithm}, "
        f"{scenario.topology.kind}, {scenario.stop.rounds} rounds, seed {scenario.seed}"
    )


def figures_of(state: State) -> list[tuple[str, str]]:
    """Return the page's figures at a glance: (what, value)."""
    score = state.scored
    found = [(score.label, score.told(state.score_mean)), ("worst peer", score.told(state.score_worst))]
    if state.score_of_mean is not None:
        found.append(("average of all", score.told(state.score_of_mean)))
    if state.consensus is not None:
        found.append(("disagreement", f"{state.consensus:.3g}"))
    died = f", {state.died} died" if state.died else ""
    return [*found, ("sent", human_bytes(state.bytes_sent)), ("peers", f"{state.running} running{died}")]


def told(state: State) -> str:
    """Return accuracies and bytes as one line."""
    parts = []
    score = state.scored
    if state.score_mean is not None and state.score_worst is not None:
        worst = "min" if score.higher_is_better else "max"
        parts.append(
            f"{score.label} {score.told(state.score_mean)} ({worst} {score.told(state.score_worst)})"
        )
    if state.score_of_mean is not None:
        parts.append(f"of the mean {score.told(state.score_of_mean)}")
    parts.append(f"{human_bytes(state.bytes_sent)} sent")
    parts.append(f"{state.running} running" + (f", {state.died} died" if state.died else ""))
    return "  ".join(parts)


def for_console(console: Console) -> Progress:
    """Return figures in place where the console is a terminal, lines elsewhere."""
    return Live(console) if console.is_terminal else Lines(console)
