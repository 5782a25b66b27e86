"""Peers whose process ended though nobody wanted it to: noted, told, and survived where any honest peer is left."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.errors import RunFailed
from scenarios.processes.launcher import Exit
from scenarios.processes.server import last_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """One process' unplanned end."""

    peer: str
    code: int
    """Its exit code; negative where a signal ended it."""
    words: str
    """The last line of its log."""
    log: Path
    time: float
    """Seconds since the start of the run."""

    @property
    def how(self) -> str:
        """How it ended, in words."""
        return f"with exit code {self.code}" if self.code > 0 else f"by signal {-self.code}"

    @property
    def sentence(self) -> str:
        """Who ended how, what it said last, and where the rest stands."""
        return f"{self.peer} ended {self.how}: {self.words}; see {self.log}"

    @property
    def event(self) -> Mapping[str, Any]:
        """Return its line of events.jsonl."""
        said = {"event": "died", "code": self.code, "words": self.words}
        return {"time": round(self.time, 3), "peer": self.peer, **said}


class Deaths:
    """Keeps account.

    Args:
        honest: the peers of which one at least must be left.
        strict: whether the first death ends the run.
    """

    def __init__(self, honest: Collection[str], *, strict: bool) -> None:
        self._honest = honest
        self._strict = strict
        self.all: list[Death] = []
        """In the order in which they were noticed; a peer that was started again may be there twice."""
        self.now: dict[str, Death] = {}
        """Those who are dead."""

    def note(self, exit: Exit, log: Path, *, time: float) -> Death:
        """Note an unplanned end.

        Raises:
            RunFailed: strict; its sentence is about this peer.
        """
        death = Death(peer=exit.name, code=exit.code, words=exit.words or last_line(log), log=log, time=time)
        self.all.append(death)
        self.now[exit.name] = death
        if self._strict:
            raise RunFailed(death.sentence)
        return death

    def started_again(self, name: str) -> None:
        """Note that a peer lives (again)."""
        self.now.pop(name, None)

    def check(self, left: Collection[str]) -> None:
        """Look whether honest peers are left; `left` are the names of all who run, have finished, or may come yet.

        Raises:
            RunFailed: there are none, and that is because peers have died.
        """
        dead = [death for name, death in self.now.items() if name in self._honest]
        if dead and not any(name in left for name in self._honest):
            more = f" (and {len(dead) - 1} more have died)" if len(dead) > 1 else ""
            raise RunFailed(f"no honest peer is left: {dead[0].sentence}{more}")
