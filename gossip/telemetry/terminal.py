"""The node on a terminal: a few figures that stay below the lines of its log.

They are drawn by the thread that writes standard error, from the newest status it was given: nobody who learns waits
for a terminal, and one that takes nothing is not drawn.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gossip.learning.objectives.score import Score
from gossip.telemetry.pace import TREND_POINTS, TimeLeft, left_told, seconds, trend
from gossip.telemetry.progress import human_bytes
from gossip.telemetry.standard_error import DRAWN_EVERY_S, QueuedStream, in_foreground

WIDTH_MIN = 40
"""On a narrower terminal there would be nothing to read."""

NAMED_MAX = 3


class Figures:
    """What is shown of the newest status.

    Args:
        width: of the terminal, in characters, whenever it is asked.
        clock: seconds.
    """

    def __init__(self, width: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._width = width
        self._clock = clock
        self._began_s = clock()
        self._status: Mapping[str, Any] | None = None
        self._left: TimeLeft | None = None
        self._scores: tuple[float, ...] = ()
        """Never changed where it is: whoever draws may be reading it."""
        self._scored_round = -1
        self._drawn = ""
        self._drawn_s = -DRAWN_EVERY_S

    def note(self, status: Mapping[str, Any]) -> None:
        """Take what is shown from now on, see `gossip.node.report.status_of`; from one thread alone."""
        if self._left is None:
            self._left = TimeLeft(status["rounds"])
        self._left.note(float(status["round"]))
        if status["score"] is not None and status["round"] != self._scored_round:
            self._scored_round = status["round"]
            self._scores = (*self._scores, status["score"])[-TREND_POINTS:]
        self._status = status

    def drawn(self) -> str:
        """Return whole lines, none longer than the terminal is wide; of two calls at a time the first decides."""
        if self._clock() - self._drawn_s < DRAWN_EVERY_S:
            return self._drawn
        self._drawn_s = self._clock()
        # One column stays free: some terminals begin a new line once the last is written.
        width, status = self._width() - 1, self._status
        self._drawn = "" if status is None or width < WIDTH_MIN else self._render(status, width)
        return self._drawn

    def _render(self, status: Mapping[str, Any], width: int) -> str:
        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=width,
            color_system="standard",
            legacy_windows=False,
        )
        console.print(Group(*self._lines(status)), no_wrap=True, overflow="ellipsis", crop=True)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def _lines(self, status: Mapping[str, Any]) -> list[RenderableType]:
        done, of = min(status["round"], status["rounds"]), status["rounds"]
        left_s = None if self._left is None or done >= of else self._left.seconds
        place = Table.grid(padding=(0, 1))
        place.add_row(
            Text(status["name"], style="bold", no_wrap=True),
            Text(status["state"], no_wrap=True),
            ProgressBar(total=max(1, of), completed=done, width=20),
            Text(
                f"round {done}/{of}  {seconds(self._clock() - self._began_s)}{left_told(left_s)}",
                no_wrap=True,
            ),
        )
        figures = Table.grid(padding=(0, 3))
        cells = figures_of(status)
        figures.add_row(*(Text(name, style="dim", no_wrap=True) for name, _ in cells))
        figures.add_row(
            *(Text(value, no_wrap=True) for _, value in cells), Text(trend(self._scores), style="cyan")
        )
        waits = waiting_told(status)
        return [
            place,
            figures,
            *([Text(waits, style="yellow", no_wrap=True, overflow="ellipsis")] if waits else []),
        ]


def figures_of(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a node's figures at a glance: (what, value)."""
    score = Score(**status["objective"])
    found = [(score.label, score.told(status["score"]))]
    if status.get("own_score") is not None:
        found.append(("on own tests", score.told(status["own_score"])))
    if status.get("training_loss") is not None:
        found.append(("loss", f"{status['training_loss']:.3g}"))
    if status.get("privacy"):
        found.append(("ε spent", f"{status['privacy']['epsilon']:.3g}"))
    up = sum(each["up"] for each in status["neighbours"])
    found.append(("neighbours", f"{up} of {len(status['neighbours'])}"))
    found.append(("sent", human_bytes(status["bytes"]["total"])))
    return [*found, ("received", human_bytes(status["bytes_received"]["total"]))]


def waiting_told(status: Mapping[str, Any]) -> str:
    """Return whom the round waits for, or whom the start does; "" where nobody is waited for."""
    names = list(status["waiting_for"])
    if status["state"] == "waiting":
        names = [each["name"] for each in status["neighbours"] if not each["up"]]
    if not names:
        return ""
    return f"waiting for {', '.join(names[:NAMED_MAX])}{' …' if len(names) > NAMED_MAX else ''}"


class OnTerminal:
    """Figures below standard error; what goes to the same terminal as standard output goes by the same thread."""

    def __init__(self, stream: QueuedStream) -> None:
        self.figures = Figures(lambda: _width(stream) if in_foreground(stream) else 0)
        self._stream = stream
        self._before: TextIO | None = None
        if _same_terminal(stream):
            sys.stdout.flush()
            self._before, sys.stdout = sys.stdout, sys.stderr
        stream.show_below(self.figures.drawn)

    def close(self) -> None:
        """Take the figures away."""
        self._stream.show_below(None)
        if self._before is not None:
            sys.stdout = self._before


def on_terminal() -> OnTerminal | None:
    """Return figures below standard error, where that is a terminal that can show them and is ours, else None.

    Several nodes that a shell has put into the background share a terminal, and write lines there.
    """
    stream: object = sys.stderr
    if not isinstance(stream, QueuedStream) or os.environ.get("TERM", "dumb") in ("dumb", ""):
        return None
    try:
        # Without job control a shell's background processes read nothing, and are told apart by that alone.
        ours = stream.isatty() and os.isatty(0) and in_foreground(stream)
        return OnTerminal(stream) if ours else None
    except (OSError, ValueError):  # it is closed
        return None


def _width(stream: QueuedStream) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    # A serial line does not know its width.
    return columns or shutil.get_terminal_size().columns


def _same_terminal(stream: QueuedStream) -> bool:
    try:
        return os.isatty(sys.stdout.fileno()) and (
            os.fstat(sys.stdout.fileno()).st_rdev == os.fstat(stream.fileno()).st_rdev
        )
    except (OSError, ValueError):
        return False
