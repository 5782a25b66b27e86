"""What the user sees while a scenario runs. It goes to standard error; results go to standard output."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from gossip.learning.objectives.score import ACCURACY, Score
from gossip.telemetry.progress import human_bytes
from scenarios.scenario import ScenarioSettings

if TYPE_CHECKING:
    from scenarios.records import Records

LINE_EVERY_S = 5.0
"""Between two lines where standard error is a file or a pipe."""


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
    died: int = 0
    """Peers whose process has ended though nobody wanted it to."""
    so_far: Callable[[], Records] | None = field(default=None, compare=False)
    """Puts together what is known by now, for whoever shows more than these figures; to be called at once or never."""


class TimeLeft:
    """How long so many rounds still take, by the pace since the first of them."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._first: tuple[float, float] | None = None
        self.seconds: float | None = None
        """On the wall; None as long as nobody knows."""

    def note(self, done: float) -> None:
        """Note how many rounds are done, the peers' mean."""
        now_s = time.monotonic()
        if self._first is None or done < self._first[0]:
            # What comes before the first round is no round.
            self._first = (done, now_s) if done > 0 else None
            return
        gone = done - self._first[0]
        if gone > 0:
            self.seconds = max(0.0, self._rounds - done) * (now_s - self._first[1]) / gone


class Progress(Protocol):
    """Is told what goes on."""

    def begin(self, scenario: ScenarioSettings) -> None:
        """The run starts."""

    def say(self, sentence: str) -> None:
        """What was chosen, once everything is set up."""

    def update(self, state: State) -> None:
        """It has got on, perhaps."""

    def end(self) -> None:
        """It is over, well or not."""


class Quiet:
    """Shows nothing."""

    def begin(self, scenario: ScenarioSettings) -> None:
        """Show nothing."""

    def say(self, sentence: str) -> None:
        """Show nothing."""

    def update(self, state: State) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class Live:
    """A bar on a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("rounds  {task.fields[told]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def begin(self, scenario: ScenarioSettings) -> None:
        """Show an empty bar, under what should be known of the settings."""
        for note in scenario.notes:
            self._bar.console.print(note, markup=False, highlight=False, soft_wrap=True)
        self._bar.start()
        self._task = self._bar.add_task(
            scenario.scenario.name,
            total=scenario.stop.rounds,
            told=f"starting {scenario.scenario.peers} peers",
        )

    def say(self, sentence: str) -> None:
        """Show the sentence above the bar."""
        self._bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def update(self, state: State) -> None:
        """Move the bar."""
        if state.score_mean is not None:
            self._bar.update(self._task, completed=int(state.rounds_mean), told=told(state))

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Lines:
    """A line now and then, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_s = 0.0
        self._rounds = 0

    def begin(self, scenario: ScenarioSettings) -> None:
        """Say what starts, and what should be known of the settings."""
        self._rounds = scenario.stop.rounds
        for note in scenario.notes:
            self._print(note)
        self._print(
            f"{scenario.scenario.name}: {scenario.scenario.peers} peers, {scenario.algorithm}, "
            f"{scenario.topology.kind}, {scenario.stop.rounds} rounds, seed {scenario.seed}"
        )
        self._last_s = time.monotonic()

    def say(self, sentence: str) -> None:
        """Say it."""
        self._print(sentence)

    def update(self, state: State) -> None:
        """Say a line if the last one is old enough."""
        if state.score_mean is not None and time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            self._print(
                f"{state.seconds:6.1f} s  round {state.rounds_mean:.1f}/{self._rounds}  {told(state)}"
            )

    def end(self) -> None:
        """Say nothing more."""

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


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
    """Return a bar where the console is a terminal, lines elsewhere."""
    return Live(console) if console.is_terminal else Lines(console)
