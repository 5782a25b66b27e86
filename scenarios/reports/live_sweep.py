"""`sweep --live`: the runs that have ended, and where those stand that go on."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gossip.page.numbers import short
from gossip.page.rendering import nothing_yet, told_score
from gossip.page.serving import Document, Live
from scenarios.reports import runs
from scenarios.reports.document import of_runs
from scenarios.reports.live import UNDRAWN, opened, stopped
from scenarios.standings import Standings, scored
from scenarios.sweep import Run, is_done

LOOK_S = 0.5
"""How soon the page is given what it wants, see `Live.wanted`."""

SHOWN_MAX = 200
"""Runs that go on: there are as many as there are processes here."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What whoever carries a sweep out needs, so that it is shown."""

    ended: Callable[[Run], None]
    """To be told of each finished run."""
    standings: Standings
    """Where runs tell how far they are."""


@contextmanager
def shown(address: str, planned: Sequence[Run], *, title: str, say: Callable[[str], None]) -> Iterator[Shown]:
    """Serve the page while the block runs.

    Raises:
        SettingError: the address is malformed or taken, or the packages that serve are not there.
    """
    live = opened(address, nothing_yet(title, f"{len(planned)} runs"))
    say(f"live page: {live.url}")
    with tempfile.TemporaryDirectory(prefix="gossip-sweep-") as folder:
        going = Going(live, planned, Standings(Path(folder)), title=title)
        try:
            with going.looked_at():
                yield Shown(going.ended, going.standings)
            live.offer(partial(going.document, going.found(), None, "finished", ()), last=True)
        except BaseException:
            live.offer(lambda: {**stopped(live, "interrupted"), "running": []}, last=True)
            raise
        finally:
            live.close()


class Going:
    """A sweep that goes on, as a document."""

    def __init__(self, live: Live, planned: Sequence[Run], standings: Standings, *, title: str) -> None:
        self._live = live
        self._planned = planned
        self.standings = standings
        self._title = title
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._done = {run for run in planned if is_done(run)}
        self._found = [read(run) for run in planned if run in self._done]
        self._fresh = 0
        self._labels = labels(planned)

    def found(self) -> list[runs.Run]:
        """Return the runs that have ended, in their order."""
        with self._lock:
            return list(self._found)

    def ended(self, run: Run) -> None:
        """Show a finished run."""
        with self._live.contained(UNDRAWN):
            self.standings.forget(run.folder)
            known = read(run)
            with self._lock:
                self._done.add(run)
                self._found.append(known)
                self._fresh += 1
            self._offer()

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Give the page what it wants while the block runs, from a thread: who does the runs waits for them."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_S):
                with self._live.contained(UNDRAWN):
                    if self._live.wanted:
                        self._offer()

        thread = threading.Thread(target=look, name="sweep", daemon=True)
        thread.start()
        try:
            if self._found:
                self._offer()
            yield
        finally:
            over.set()
            thread.join()

    def _offer(self) -> None:
        with self._lock:
            found, waiting = list(self._found), [run for run in self._planned if run not in self._done]
            left_s = None
            if self._fresh:
                left_s = (time.monotonic() - self._began_s) / self._fresh * len(waiting)
        self._live.offer(partial(self.document, found, left_s, "running", waiting))

    def document(
        self, found: Sequence[runs.Run], left_s: float | None, state: str, waiting: Sequence[Run]
    ) -> Document:
        """Return what the page shows: finished runs, and of `waiting` those that have begun."""
        stand = [(run, self.standings.of(run.folder)) for run in waiting]
        going = [line(self._labels[run], standing) for run, standing in stand if standing is not None]
        base = of_runs.document(found) if found else nothing_yet(self._title, f"{len(self._planned)} runs")
        progress = {"done": len(found), "of": len(self._planned), "what": "runs", "left": left_s, "took": ""}
        return {
            **base,
            "title": self._title,
            "state": state,
            "progress": progress,
            "running": going[:SHOWN_MAX],
            "running_more": max(0, len(going) - SHOWN_MAX),
        }


def labels(planned: Sequence[Run]) -> dict[Run, str]:
    """Return what sets each run apart from the others: the settings that vary, and its seed where there are several."""
    counts = Counter(each for run in planned for each in run.settings)
    varying = {each for each, count in counts.items() if count < len(planned)}
    seeds = len({run.seed for run in planned}) > 1
    return {
        run: " ".join(
            [
                *(each for each in run.settings if each in varying),
                *([f"seed {run.seed}"] if seeds or not varying else []),
            ]
        )
        for run in planned
    }


def line(label: str, standing: dict[str, Any]) -> dict[str, Any]:
    """Return where a run stands, as the page shows it."""
    score = scored(standing)
    return {
        "label": label,
        "step": standing["step"],
        "round": standing["round"],
        "rounds": standing["rounds"],
        "scored": None if score is None else told_score(score),
        **{key: short(standing[key]) for key in ("score", "worst", "of_mean", "sent")},
        "left": short(standing["left_s"]),
    }


def read(run: Run) -> runs.Run:
    """Return a finished run without what a page of many does not show.

    Raises:
        SettingError: it is none.
    """
    found = runs.read_run(run.folder)
    return replace(found, metrics=(), events=(), graph=None)
