"""Where the runs of a sweep stand: told by each run's process in a small file, read by whoever shows them.

A file, and no pipe or queue between processes: a process may be killed at any moment, and must hold nothing that
another waits for. What cannot be written or read is not shown, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from gossip.learning.objectives.score import Score
from gossip.telemetry.containment import Containment
from gossip.telemetry.pace import TimeLeft
from scenarios.progress import State
from scenarios.scenario import ScenarioSettings

EVERY_S = 1.0
"""Between two files of a run at least; the newest step is told at once."""

BYTES_MAX = 1 << 16
"""What is larger is none of ours."""

Standing = dict[str, Any]
"""step, round, rounds, score, worst, of_mean, objective, sent, left_s; None is what is not known yet."""


class Standings:
    """A folder with a file for each run that goes on here.

    Args:
        folder: to be had by this sweep alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, run_folder: Path) -> Path:
        """Return where the run of a folder tells."""
        return self._folder / f"{sha256(os.fsencode(run_folder)).hexdigest()[:24]}.json"

    def of(self, run_folder: Path) -> Standing | None:
        """Return where a run stands; None where it has not begun, has ended, or is done elsewhere."""
        try:
            path = self.file(run_folder)
            if path.stat().st_size > BYTES_MAX:
                return None
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def forget(self, run_folder: Path) -> None:
        """Have nothing told of a run: it has ended, or its process was killed."""
        with contextlib.suppress(OSError):
            self.file(run_folder).unlink(missing_ok=True)


class Told:
    """A run's progress, told into a file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._written_s = -EVERY_S
        self._left = TimeLeft(1)
        self._contained = Containment()
        self._standing: Standing = {
            "step": "starting",
            "round": 0,
            "rounds": None,
            "score": None,
            "worst": None,
            "of_mean": None,
            "objective": None,
            "sent": None,
            "left_s": None,
        }

    def step(self, what: str) -> None:
        """Tell what is being done."""
        self._standing["step"] = what
        self._write()

    def begin(self, scenario: ScenarioSettings) -> None:
        """Tell that it starts."""
        self._standing["rounds"] = scenario.stop.rounds
        self._left = TimeLeft(scenario.stop.rounds)
        self._write()

    def say(self, sentence: str) -> None:
        """It is for a log."""

    def update(self, state: State) -> None:
        """Tell where it stands, now and then."""
        self._left.note(state.rounds_mean)
        if self._clock() - self._written_s < EVERY_S:
            return
        self._standing |= {
            "step": None if state.rounds_mean > 0 else self._standing["step"],
            "round": int(state.rounds_mean),
            "score": state.score_mean,
            "worst": state.score_worst,
            "of_mean": state.score_of_mean,
            "objective": state.scored._asdict(),
            "sent": state.bytes_sent,
            "left_s": self._left.seconds,
        }
        self._write()

    def end(self) -> None:
        """Tell nothing more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        with self._contained("standing of a run not told"):
            self._written_s = self._clock()
            beside = self._path.with_suffix(".new")
            # NaN and infinity are Python's own in JSON, and read by us alone.
            beside.write_text(json.dumps(self._standing), encoding="utf-8")
            beside.replace(self._path)


def scored(standing: Standing) -> Score | None:
    """Return what a run is scored by, as it tells; None where it does not yet."""
    said = standing.get("objective")
    return Score(**said) if isinstance(said, dict) else None
