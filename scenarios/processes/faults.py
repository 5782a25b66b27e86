"""The faults of a scenario, done to real processes: kill, start again, ask to leave, stop and continue.

Seconds count from when all peers are there that do not join later, or one has done a round without the others:
starting processes takes a while that a virtual run does not know.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from gossip.errors import SettingError
from scenarios.effects import Effects
from scenarios.processes.launcher import Nodes
from scenarios.scenario import ScenarioSettings
from scenarios.sections import Fault
from scenarios.virtual.events.faults import check_positions, chosen_positions

UNSUPPORTED = ("partition", "heal")


class ProcessFaults:
    """Applies what is due.

    Args:
        scenario: its `[faults]`.
        launcher: sends the signals.
        start: starts a peer's process (again).

    Raises:
        SettingError: something that real processes on one machine cannot be made to do.
    """

    def __init__(
        self, scenario: ScenarioSettings, launcher: Nodes, start: Callable[[str, bool], None]
    ) -> None:
        names = scenario.peer_names
        if scenario.faults.churn is not None:
            raise SettingError("[faults] churn: only --engine virtual can do it; list single faults instead")
        self._launcher = launcher
        self._start = start
        self._due: deque[tuple[int, Fault, list[str] | None]] = deque()
        self.absent: set[str] = set()
        """Peers that join later."""
        self.down: set[str] = set()
        """Peers whose process was ended on purpose; its exit is no failure."""
        self.counts: Counter[str] = Counter()
        self.done: list[dict[str, Any]] = []
        """An event for each, at seconds of the wall clock."""
        trace = scenario.trace()
        linked = scenario.processes.links == "namespaces"
        for column in ("seconds_per_sample",) if linked else ("up", "down", "seconds_per_sample"):
            if getattr(trace, column) is not None:
                raise SettingError(
                    f"{scenario.where('peers')} the trace says '{column}', and real processes have the links and the "
                    'speed of this machine; use --engine virtual, or say columns = ["online"]'
                )
        faults = scenario.faults.with_more(trace.faults())
        numbered = sorted(enumerate(faults.list), key=lambda entry: entry[1].at)
        for number, fault in numbered:
            if fault.do in UNSUPPORTED:
                raise SettingError(
                    f"[faults] list, entry {number + 1}: do = '{fault.do}': only --engine virtual can do it"
                )
            check_positions(fault, number, len(names))
            positions = chosen_positions(fault, number, len(names), scenario.seed)
            chosen = None if fault.peers is None else [names[i] for i in positions]
            if fault.do == "join":
                self.absent |= set(chosen or ())
            self._due.append((number, fault, chosen))
        self._paused: set[str] = set()
        self.effects = Effects(faults.list)

    @property
    def pending(self) -> bool:
        """Whether something is still to come that brings peers back."""
        return any(fault.do in ("restart", "join", "resume") for _, fault, _ in self._due)

    @property
    def gone(self) -> set[str]:
        """Peers whose process was ended on purpose, and that nothing starts again."""
        again = [chosen for _, fault, chosen in self._due if fault.do == "restart"]
        return set() if None in again else self.down.difference(*(chosen or () for chosen in again))

    @property
    def coming(self) -> set[str]:
        """Peers that are not there, and that something which is still to come starts."""
        starts = [chosen for _, fault, chosen in self._due if fault.do in ("restart", "join")]
        named = {name for chosen in starts for name in chosen or ()}
        away = self.down | self.absent
        return (away & named) | (self.down - self.absent if None in starts else set())

    def apply(self, now_s: float) -> None:
        """Do everything that is due at `now_s`."""
        while self._due and self._due[0][1].at <= now_s:
            number, fault, chosen = self._due.popleft()
            before = self.counts.total()
            for name in self._meant(fault, chosen):
                self._do(fault.do, name)
            self.effects.came(number, effective=self.counts.total() > before)

    def _meant(self, fault: Fault, chosen: list[str] | None) -> list[str]:
        if chosen is not None:
            return chosen
        return sorted(self._paused if fault.do == "resume" else self.down - self.absent)

    def _do(self, what: str, name: str) -> None:
        running = name in self._launcher.running
        match what:
            case "crash" | "leave" if running:
                self.down.add(name)
                self._launcher.signal([name], signal.SIGKILL if what == "crash" else signal.SIGTERM)
                self._note("crashed" if what == "crash" else "left", name)
            case "restart" | "join" if not running:
                self._note("joined" if name in self.absent else "restarted", name)
                self.absent.discard(name)
                self.down.discard(name)
                self._start(name, False)
            case "pause" if running:
                self._paused.add(name)
                self._launcher.signal([name], signal.SIGSTOP)
                self._note("paused", name)
            case "resume" if running:
                self._paused.discard(name)
                self._launcher.signal([name], signal.SIGCONT)
                self._note("resumed", name)

    def _note(self, event: str, name: str) -> None:
        self.counts[event] += 1
        self.done.append({"time": time.time(), "peer": name, "event": event})
