"""A trace: what each peer's machine is like, read from a CSV file with a line for each.

    up,down,seconds_per_sample,online
    9.3,41,0.012,
    2.2,17,0.051,0-120;300-600
    14,22,0.008,45-

The first line names the columns, of which a file has those that it is about, in any order. `up` and `down` are Mbit/s
of the link; `upload_mbps_max` is what the peer itself lets out of it, as `[net]` says it of all (nothing: no limit);
`seconds_per_sample` is that of one pass over one training sample, and `online` says from when to when a peer is there,
in seconds after the start: nothing for always, and a period without an end for ever. Peers take the lines in their
order. Empty lines and those that begin with # are comments; below a heading of one column whose cells may be empty, an
empty line is a peer's.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gossip.errors import SettingError, nearest
from gossip.text_files import numbered_lines, readable
from scenarios.sections import TRACE_COLUMNS, Fault, PeersSettings

FILE_BYTES_MAX = 256 << 20
"""Larger is a wrong path, not a trace."""

CELL_SHOWN_MAX = 80

Periods: TypeAlias = tuple[tuple[float, float], ...]
"""From when to when a peer is there, ascending; the last end may be infinite. Empty: always."""

_PERIOD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One entry for each peer in every column; None: the file has no such column, or it is not used."""

    up: tuple[float, ...] | None = None
    """Mbit/s."""
    down: tuple[float, ...] | None = None
    upload_mbps_max: tuple[float | None, ...] | None = None
    """Of each peer's own `[net]`."""
    seconds_per_sample: tuple[float, ...] | None = None
    online: tuple[Periods, ...] | None = None
    lines: int = 0
    """How many machines the file has."""

    def faults(self) -> tuple[Fault, ...]:
        """Return what `online` means as entries of `[faults] list`: who joins, who crashes, who starts again."""
        found = []
        for place, periods in enumerate(self.online or ()):
            for number, (from_s, to_s) in enumerate(periods):
                if from_s > 0:
                    found.append(Fault(at=from_s, do="restart" if number else "join", peers=(place,)))
                if to_s < math.inf:
                    found.append(Fault(at=to_s, do="crash", peers=(place,)))
        return tuple(sorted(found, key=lambda fault: fault.at))


def read(settings: PeersSettings, *, peers: int) -> Trace:
    """Read the file of `[peers] trace`; without one, nothing is said of anybody.

    Raises:
        SettingError: it cannot be read, a line is not as it must be, or there are too few; one sentence with file,
            line, value, and what would be valid.
    """
    if settings.trace is None:
        return Trace()
    path = Path(settings.trace)
    lines = _lines(path)
    if not lines:
        raise SettingError(f"{path}: has no line that names its columns; valid: {', '.join(TRACE_COLUMNS)}")
    (number, heading), *rows = lines
    names = _columns(f"{path}:{number}", heading)
    used = _used(path, names, settings)
    if not rows:
        raise SettingError(f"{path}: names its columns and has no line for any peer")
    if len(rows) < peers and not settings.repeat:
        raise SettingError(
            f"{path}: lines for {len(rows)} peers, and there are {peers}; add lines, or say [peers] repeat = true, and "
            "they are taken in turn"
        )
    columns: dict[str, list[Any]] = {name: [] for name in used}
    for number, row in rows:
        where = f"{path}:{number}"
        if len(row) != len(names):
            raise SettingError(f"{where}: {len(row)} values for {len(names)} columns ({', '.join(names)})")
        for name, cell in zip(names, row, strict=True):
            value = PARSERS[name](f"{where}: {name} = {cell[:CELL_SHOWN_MAX]!r}", cell.strip())
            if name in columns:
                columns[name].append(value)
    taken = {
        name: tuple(values[place % len(rows)] for place in range(peers)) for name, values in columns.items()
    }
    return Trace(lines=len(rows), **taken)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of each line that is no comment, with its number."""
    with readable(path):
        if path.stat().st_size > FILE_BYTES_MAX:
            raise SettingError(f"{path}: larger than {FILE_BYTES_MAX >> 20} MiB, this is no trace")
    found: list[tuple[int, list[str]]] = []
    for number, line in numbered_lines(path, empty=True):
        if not line.strip():
            if found and [cell.strip() for cell in found[0][1]] in MAY_BE_EMPTY:
                found.append((number, [""]))
            continue
        try:
            (cells,) = csv.reader([line], strict=True)
        except (csv.Error, ValueError):
            raise SettingError(
                f"{path}:{number}: {line[:CELL_SHOWN_MAX]!r}: not values with commas between them"
            ) from None
        found.append((number, cells))
    return found


def _columns(where: str, heading: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in heading]
    for name in names:
        if name not in TRACE_COLUMNS:
            raise SettingError(
                f"{where}: unknown column '{name[:CELL_SHOWN_MAX]}'; {nearest(name, TRACE_COLUMNS)}"
            )
        if names.count(name) > 1:
            raise SettingError(f"{where}: column '{name}' stands there twice")
    return names


def _used(path: Path, names: Sequence[str], settings: PeersSettings) -> Sequence[str]:
    used = names if settings.columns is None else settings.columns
    for name in used:
        if name not in names:
            raise SettingError(f"[peers] columns: {path} has no column '{name}'; it has {', '.join(names)}")
    if ("up" in used) != ("down" in used):
        one, other = ("up", "down") if "up" in used else ("down", "up")
        raise SettingError(f"[peers] trace: {path} says '{one}' without '{other}'; a link has both")
    return used


def _rate(where: str, cell: str) -> float:
    value = _number(cell)
    if not 0 < value < math.inf:
        raise SettingError(f"{where}: must be a number of Mbit/s above 0")
    return value


def _seconds(where: str, cell: str) -> float:
    value = _number(cell)
    if not 0 <= value < math.inf:
        raise SettingError(f"{where}: must be a number of seconds, 0 or more")
    return value


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _periods(where: str, cell: str) -> Periods:
    found: list[tuple[float, float]] = []
    for part in cell.split(";") if cell else ():
        matched = _PERIOD.fullmatch(part)
        if matched is None:
            raise SettingError(
                f"{where}: must be periods of seconds, such as 0-120;300-600 or 45-, or nothing for always"
            )
        from_s, to_s = float(matched[1]), math.inf if matched[2] is None else float(matched[2])
        if not from_s < to_s:
            raise SettingError(f"{where}: a period ends after it begins, {part.strip()} does not")
        if found and from_s <= found[-1][1]:
            raise SettingError(f"{where}: {part.strip()} begins before the period before it has ended")
        found.append((from_s, to_s))
    return tuple(found)


MAY_BE_EMPTY = (["online"], ["upload_mbps_max"])
"""Headings of one column in which an empty cell says something, and so does an empty line."""

PARSERS: dict[str, Callable[[str, str], Any]] = {
    "up": _rate,
    "down": _rate,
    "upload_mbps_max": lambda where, cell: _rate(where, cell) if cell else None,
    "seconds_per_sample": _seconds,
    "online": _periods,
}
"""Each is given what it complains of, and the cell."""
