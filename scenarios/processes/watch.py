"""What the peers have written so far, read as it grows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from gossip.storage.growing_lines import GrowingLines
from gossip.storage.round_files import round_files


class Watch:
    """The measurements of all peers, and when anything last moved."""

    def __init__(self, homes: Mapping[str, Path], *, began: float) -> None:
        """`began` is the run's start in seconds of the wall clock; measurements count from there."""
        self._files = {name: GrowingLines(home / "metrics.jsonl") for name, home in homes.items()}
        self._events = {name: GrowingLines(home / "events.jsonl") for name, home in homes.items()}
        self._homes = homes
        self._began = began
        self._checkpoints: dict[str, int] = {}
        self.metrics: list[dict[str, Any]] = []
        self.latest: dict[str, dict[str, Any]] = {}
        """Peer -> its last measurement."""

    def look(self) -> bool:
        """Read what is new; return whether any peer has got on: a measurement, or a checkpoint between two."""
        moved = False
        for name, file in self._files.items():
            entries = file.new()
            if file.replaced:
                self.metrics = [entry for entry in self.metrics if entry["peer"] != name]
            for entry in entries:
                if not _is_measurement(entry):
                    continue
                entry = finite({**entry, "peer": name, "time": round(entry["time"] - self._began, 3)})
                self.metrics.append(entry)
                self.latest[name] = entry
                moved = True
            moved = self._checkpointed(name) or moved
        return moved

    def begun(self, expected: AbstractSet[str]) -> bool:
        """Return whether all the expected are there, each with a checkpoint, or any peer has done a round already."""
        saved = {name: round_files(home / "checkpoints") for name, home in self._homes.items()}
        one_has = bool(self.latest) or any(max(rounds, default=0) > 0 for rounds in saved.values())
        return one_has or all(saved[name] for name in expected)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what is new in all events.jsonl, each with its peer's name."""
        for name, file in self._events.items():
            for entry in file.new():
                yield {**entry, "peer": name}

    def rounds(self) -> dict[str, int]:
        """Return the last evaluated round of each peer that has one."""
        return {name: int(entry["round"]) for name, entry in self.latest.items()}

    def _checkpointed(self, name: str) -> bool:
        try:
            stamp = (self._homes[name] / "checkpoints").stat().st_mtime_ns
        except FileNotFoundError:
            return False
        before, self._checkpoints[name] = self._checkpoints.get(name), stamp
        return before != stamp


def finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry with null for what JSON cannot say: NaN and infinity of a model that diverged."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entry.items()
    }


def read_all(path: Path) -> list[dict[str, Any]]:
    """Return all objects of a JSON-lines file."""
    return GrowingLines(path).new()


def _is_measurement(entry: Mapping[str, Any]) -> bool:
    """Return whether a line tells of a round: a disk may hold anything."""
    return isinstance(entry.get("round"), int) and isinstance(entry.get("time"), (int, float))
