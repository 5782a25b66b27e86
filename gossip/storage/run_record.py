"""The records of a run in a home: metrics.jsonl, events.jsonl, summary.json, and what `--fresh` puts aside."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossip.storage.atomic import write_atomically

OWN_FILES = (
    "checkpoints",
    "snapshots",
    "metrics.jsonl",
    "events.jsonl",
    "summary.json",
    "model.safetensors",
)


class RunRecord:
    """Appends one JSON object per line; a line is written whole."""

    def __init__(self, home: Path, peer: str) -> None:
        self._home = home
        self._peer = peer

    def resume_at(self, round: int) -> None:
        """Drop what is told of rounds after `round`: they will be done again. Torn last lines go too."""
        path = self._home / "metrics.jsonl"
        kept = [entry for entry in read_lines(path) if entry.get("round", 0) <= round]
        if path.exists():
            write_atomically(path, "".join(_line(entry) for entry in kept).encode())
        (self._home / "summary.json").unlink(missing_ok=True)

    def metrics(self, entry: Mapping[str, Any]) -> None:
        """Add one evaluated round."""
        self._append("metrics.jsonl", entry)

    def event(self, name: str, **details: Any) -> None:
        """Add one thing that happened."""
        self._append("events.jsonl", {"time": time.time(), "peer": self._peer, "event": name, **details})

    def summary(self, entry: Mapping[str, Any]) -> None:
        """Write the end of the run."""
        write_atomically(self._home / "summary.json", (json.dumps(entry, indent=1) + "\n").encode())

    def _append(self, name: str, entry: Mapping[str, Any]) -> None:
        with (self._home / name).open("a", encoding="utf-8") as file:
            file.write(_line(entry))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a torn last line (the process died writing it) is left out."""
    entries: list[dict[str, Any]] = []
    if not path.exists():
        return entries
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def put_aside(home: Path) -> bool:
    """Move an earlier run to HOME/previous (replacing the one before it); return whether there was one."""
    found = [home / name for name in OWN_FILES if (home / name).exists()]
    if not found:
        return False
    previous = home / "previous"
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir()
    for path in found:
        path.rename(previous / path.name)
    return True


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"
