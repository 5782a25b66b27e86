"""`--live`: the page of a run while it goes on, from the same document as `report.html`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
from tomli_w import dumps

from gossip.errors import SettingError
from gossip.page.rendering import nothing_yet
from gossip.page.serving import Document, Live
from gossip.telemetry.containment import Containment
from gossip.telemetry.pace import TimeLeft
from scenarios.progress import Progress, State
from scenarios.records import Records, point_of, told_peer
from scenarios.reports import page
from scenarios.reports.document import of_run
from scenarios.reports.document.peers import UP
from scenarios.reports.runs import Run
from scenarios.run_folder import environment, named_graph
from scenarios.running import USUAL
from scenarios.scenario import ScenarioSettings
from scenarios.summary import summarise

OPTION = "--live"

UNDRAWN = "page not drawn"


class Watched:
    """A run's progress, told to another and shown on a page."""

    def __init__(self, told: Progress, live: Live, *, engine: str, title: str = "") -> None:
        self._told = told
        self._title = title
        self._live = live
        self._engine = engine
        self._began_s = time.monotonic()
        self._going: Going | None = None

    def step(self, what: str) -> None:
        """Show what is being done; after the rounds the page keeps what it shows."""
        self._told.step(what)
        if self._going is None or not self._going.noted:
            self._offer(partial(nothing_yet, self._title, what))

    def begin(self, scenario: ScenarioSettings) -> None:
        """Show that it starts."""
        self._told.begin(scenario)
        with self._live.contained(UNDRAWN):
            self._going = Going(scenario, self._engine, began_s=self._began_s)
        self._title = scenario.scenario.name
        self._offer(partial(nothing_yet, self._title, f"starting {scenario.scenario.peers} peers"))

    def say(self, sentence: str) -> None:
        """Tell the other."""
        self._told.say(sentence)

    def update(self, state: State) -> None:
        """Show where it stands, if somebody looks."""
        self._told.update(state)
        if self._going is None or state.so_far is None:
            return
        with self._live.contained(UNDRAWN):
            self._going.note(state)
            if self._live.wanted:
                began_s = time.thread_time()
                make = partial(self._going.document, state.so_far(), state)
                self._live.offer(make, took_s=time.thread_time() - began_s)

    def end(self) -> None:
        """Tell the other; what the page shows last is told by `finished`."""
        self._told.end()

    def finished(self, folder: Path) -> None:
        """Show the finished run of a folder, and nothing after it."""
        self._offer(lambda: page.document([page.read_run(folder)]), last=True)

    def _offer(self, make: Callable[[], Document], *, last: bool = False) -> None:
        with self._live.contained(UNDRAWN):
            self._live.offer(make, last=last)


class Going:
    """A run that goes on, as a document."""

    def __init__(self, scenario: ScenarioSettings, engine: str, *, began_s: float) -> None:
        self._scenario = scenario
        self._engine = engine
        self._began_s = began_s
        self._left = TimeLeft(scenario.stop.rounds)
        self._graph: nx.Graph[str] = named_graph(scenario)
        self._environment = environment()
        self.noted = False

    def note(self, state: State) -> None:
        """Note how fast it is."""
        self.noted = True
        self._left.note(state.rounds_mean)

    def document(self, records: Records, state: State) -> Document:
        """Return what the page shows of it."""
        run, done = self.run(records), int(state.rounds_mean)
        of = max(done, self._scenario.stop.rounds)
        progress = {"done": done, "of": of, "left": self._left.seconds, "took": ""}
        return {**of_run.document(run), "state": "running", "progress": progress}

    def run(self, records: Records) -> Run:
        """Return it as if it had ended, without the last points that not all peers have come to yet."""
        whole = replace(records, metrics=complete(records))
        took_s = time.monotonic() - self._began_s
        return Run(
            folder=Path(),
            summary={
                **summarise(self._scenario, whole, engine=self._engine, wall_seconds=took_s),
                "rounds": self._scenario.stop.rounds,
            },
            peers=[told_peer(peer, records.scored) for peer in records.peers],
            metrics=whole.metrics,
            settings=dumps(self._scenario.as_file()),
            environment=self._environment,
            graph=self._graph,
            events=records.events,
            shards=records.shards or {},
        )


def complete(records: Records) -> Sequence[Mapping[str, Any]]:
    """Return the measurements up to the last point that all who are there have come to; all where there is none."""
    there = {peer.peer for peer in records.peers if peer.honest and peer.state in UP}
    at = Counter(point_of(entry) for entry in records.metrics if entry["peer"] in there)
    last = max((point for point, count in at.items() if count >= len(there)), default=None)
    if last is None:
        return records.metrics
    return [entry for entry in records.metrics if point_of(entry) <= last]


@contextmanager
def shown(
    address: str, told: Progress, *, title: str, engine: str, say: Callable[[str], None]
) -> Iterator[Watched]:
    """Serve the page while the block runs; `say` is told where.

    Raises:
        SettingError: the address is malformed or taken, or the packages that serve are not there.
    """
    live = opened(address, nothing_yet(title, "starting"))
    say(f"live page: {live.url}")
    try:
        yield Watched(told, live, engine=engine, title=title)
    except BaseException as error:
        live.offer(
            partial(stopped, live, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"),
            last=True,
        )
        raise
    finally:
        live.close()


def opened(address: str, first: Document) -> Live:
    """Return a page at the address; the usual one gives way to whoever is there.

    Raises:
        SettingError: see `Live`.
    """
    contained = Containment()
    try:
        return Live(address, option=OPTION, shown=first, contained=contained)
    except SettingError:
        if address != USUAL:
            raise
        return Live("127.0.0.1:0", option=OPTION, shown=first, contained=contained)


def stopped(live: Live, how: str) -> Document:
    """Return what was shown last, and how it ended."""
    return {**json.loads(live.text), "state": how}
