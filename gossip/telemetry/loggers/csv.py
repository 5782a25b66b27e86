"""Measurements as a table that a spreadsheet opens."""

from __future__ import annotations

import csv
from collections.abc import Mapping
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


class Csv(Logger):
    """FOLDER/metrics.csv: a header, and a row for each measurement. What is not known is empty."""

    @property
    def _path(self) -> Path:
        return self.folder / "metrics.csv"

    def begin(self, round: int) -> None:
        """Keep the rows of rounds up to `round`; what is no row of such a table goes."""
        kept = []
        if round and self._path.exists():
            with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
                place = COLUMNS.index("round")
                kept = [
                    row
                    for row in csv.reader(file)
                    if len(row) == len(COLUMNS) and row[place].isdecimal() and int(row[place]) <= round
                ]
        write_atomically(self._path, "".join(map(_line, [COLUMNS, *kept])).encode(), durable=False)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a row."""
        row = ["" if entry.get(column) is None else str(entry[column]) for column in COLUMNS]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            file.write(_line(row))


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
