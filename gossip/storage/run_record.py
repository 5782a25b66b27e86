"""The records of a run in a home: metrics.jsonl, events.jsonl, summary.json, and what `--fresh` puts aside."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossip.storage.atomic import clean, write_atomically

SOURCE = "source.json"
"""Which data the newest start learnt from, and how they were read; see `gossip.inference.kept`."""

OWN_FILES = (
    "checkpoints",
    "snapshots",
    "metrics.jsonl",
    "metrics.csv",
    "events.jsonl",
    "summary.json",
    "model.safetensors",
    "MODEL.md",
    "data.json",
    SOURCE,
    "best.safetensors",
    "prototypes.safetensors",
)
"""Of a run."""

IDENTITY = "identity.pem"

HOME_FILES = (*OWN_FILES, IDENTITY, "privacy.json", "lock", "status.sock", "previous")
"""All that a node keeps in its home, and nobody else is to write."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """What a resume has found in metrics.jsonl."""

    measured: int = 0
    """The newest round that has a line, 0 where none has."""
    nonsense: int = 0
    """Lines before the last one that were no measurements, and were dropped."""


class RunRecord:
    """Appends one JSON object per line; a line is written whole."""

    def __init__(self, home: Path, peer: str) -> None:
        self._home = home
        self._peer = peer

    def resume_at(self, round: int) -> PutBack:
        """Drop what is told of rounds after `round`: they will be done again. A torn last line goes, too."""
        (self._home / "summary.json").unlink(missing_ok=True)
        path = self._home / "metrics.jsonl"
        if not path.exists():
            return PutBack()
        lines = _lines(path)
        entries = [_parsed(line) for line in lines]
        kept = [entry for entry in entries if entry is not None and _is_of(entry, round)]
        write_atomically(path, "".join(_line(entry) for entry in kept).encode())
        nonsense = sum(
            1
            for line, entry in zip(lines[:-1], entries[:-1], strict=True)
            if line.strip() and (entry is None or not isinstance(entry.get("round"), int))
        )
        return PutBack(measured=max((entry["round"] for entry in kept), default=0), nonsense=nonsense)

    def metrics(self, entry: Mapping[str, Any]) -> None:
        """Add one evaluated round."""
        self._append("metrics.jsonl", entry)

    def event(self, name: str, *, time_s: float | None = None, **details: Any) -> None:
        """Add one thing that happened, now or at `time_s` of the wall clock."""
        said = {"time": time.time() if time_s is None else time_s, "peer": self._peer, "event": name}
        self._append("events.jsonl", {**said, **details})

    def first_event(self, name: str) -> dict[str, Any] | None:
        """Return the first line of events.jsonl that tells of `name`, which earlier processes may have written."""
        path = self._home / "events.jsonl"
        # Of a hundred thousand lines few are worth parsing.
        lines = [line for line in _lines(path) if name.encode() in line] if path.exists() else []
        entries = (_parsed(line) for line in lines)
        return next((entry for entry in entries if entry is not None and entry.get("event") == name), None)

    def summary(self, entry: Mapping[str, Any]) -> None:
        """Write the end of the run."""
        write_atomically(self._home / "summary.json", (json.dumps(entry, indent=1) + "\n").encode())

    def _append(self, name: str, entry: Mapping[str, Any]) -> None:
        line = _line(entry).encode()
        with _opened(self._home / name, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                # A killed process has left a torn line, to which this one must not be joined.
                line = b"\n" + line
            try:
                while line:
                    line = line[os.write(file, line) :]
            except OSError:
                os.ftruncate(file, size)  # a disk that becomes full takes the beginning of a line
                raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a torn last line (the process died writing it) is left out.

    So is every other line that holds no object.
    """
    if not path.exists():
        return []
    entries = [_parsed(line) for line in _lines(path)]
    return [entry for entry in entries if entry is not None]


def clean_home(home: Path) -> int:
    """Remove what a killed process was writing; return how many files that were. Only for who holds the home's lock."""
    return sum(clean(folder) for folder in (home, home / "checkpoints", home / "snapshots"))


def put_aside(home: Path) -> bool:
    """Move an earlier run to HOME/previous (replacing the one before it); return whether there was one.

    A run that came to no round leaves nothing worth keeping, and takes nobody's place: who starts over twice, because
    nobody was there the first time, would lose a finished model by it.

    Raises:
        OSError: the home cannot be written.
    """
    found = [home / name for name in OWN_FILES if (home / name).exists()]
    if not found:
        return False
    previous = home / "previous"
    if previous.exists() and not _did_something(home):
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return False
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir(exist_ok=True)
    for path in found:
        path.rename(previous / path.name)
    return True


def _did_something(home: Path) -> bool:
    """Whether there is a model, a measurement, or a checkpoint that is not that of the start."""
    rounds = [path.stem.removeprefix("round-") for path in home.glob("checkpoints/round-*")]
    return (
        (home / "model.safetensors").exists()
        or any(round.strip("0") for round in rounds)
        or bool(read_lines(home / "metrics.jsonl"))
    )


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Yield the descriptor of a regular file: a pipe of that name would be waited for, for ever.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[bytes]:
    """Return the lines of a file; the last one is what stands after the last line's end."""
    with _opened(path, os.O_RDONLY) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read().split(b"\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (
        ValueError,
        RecursionError,
    ):  # no JSON, no text, a number of thousands of digits; nested without end
        return None
    return entry if isinstance(entry, dict) else None


def _is_of(entry: Mapping[str, Any], round_max: int) -> bool:
    """Return whether a line tells of a round up to `round_max`."""
    round = entry.get("round")
    return isinstance(round, int) and not isinstance(round, bool) and round <= round_max


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"
