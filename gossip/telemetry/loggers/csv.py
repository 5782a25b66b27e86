"""Measurements as a table that a spreadsheet opens."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gossip.storage.atomic import write_atomically
from gossip.telemetry.loggers.base import Logger

COLUMNS = (
    "peer",
    "round",
    "time",
    "seconds",
    "loss",
    "accuracy",
    "score",
    "test_loss",
    "heard",
    "expected",
    "bytes_sent",
    "bytes_received",
)
OWN = ("own_score", "own_test_loss")
"""Columns more, where there are own test samples beside the common ones."""


class Csv(Logger):
    """FOLDER/metrics.csv: a header, and a row for each measurement. What is not known is empty."""

    @property
    def _path(self) -> Path:
        return self.folder / "metrics.csv"

    def begin(self, round: int) -> None:
        """Keep the rows of rounds up to `round`; what is no row of such a table goes."""
        self._columns: tuple[str, ...] = COLUMNS
        kept: list[list[str]] = []
        if round and self._path.exists():
            with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = csv.reader(file)
                if next(rows, None) == [*COLUMNS, *OWN]:
                    self._columns = (*COLUMNS, *OWN)
                place = COLUMNS.index("round")
                kept = [
                    row
                    for row in rows
                    if len(row) == len(self._columns) and row[place].isdecimal() and int(row[place]) <= round
                ]
        self._write(kept)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a row."""
        if self._columns == COLUMNS and not entry.keys().isdisjoint(OWN):
            self._widen()
        row = ["" if entry.get(column) is None else str(entry[column]) for column in self._columns]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            file.write(_line(row))

    def _widen(self) -> None:
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        self._columns = (*COLUMNS, *OWN)
        self._write([[*row, *[""] * len(OWN)] for row in rows])

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = "".join(map(_line, [self._columns, *rows]))
        write_atomically(self._path, text.encode(), durable=False)


class _Line:
    """What csv writes to."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def _line(row: Any) -> str:
    line = _Line()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.text
