"""A table of what was tried, what came of it, and which promises broke; the exit code says whether any did."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass
class Row:
    """One trial."""

    name: str
    figures: Mapping[str, str] = field(default_factory=dict)
    broken: Sequence[str] = ()
    """The promises that did not hold, each with what happened instead."""


class Verdicts:
    """Rows as they come; each is told at once on standard error."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Note a trial."""
        self.rows.append(row)
        figures = "  ".join(f"{name} {value}" for name, value in row.figures.items())
        print(f"{row.name}: {figures}  {'; '.join(row.broken) or 'holds'}", file=sys.stderr, flush=True)

    @property
    def broken(self) -> list[str]:
        """What did not hold."""
        return [f"{row.name}: {what}" for row in self.rows for what in row.broken]

    def show(self, *, as_json: bool = False) -> int:
        """Print the table, or JSON; return the exit code: 1 where a promise broke, 2 where nothing was tried."""
        if not self.rows:
            print(f"{self.title}: nothing was tried, no row has a name like that", file=sys.stderr)
            return 2
        if as_json:
            rows: list[dict[str, Any]] = [
                {"name": row.name, "figures": dict(row.figures), "broken": list(row.broken)}
                for row in self.rows
            ]
            print(json.dumps({"title": self.title, "rows": rows}, indent=1))
            return int(bool(self.broken))
        columns = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        table = Table(title=self.title, title_justify="left")
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        table.add_column("promise")
        for row in self.rows:
            verdict = "[red]" + escape("; ".join(row.broken)) + "[/red]" if row.broken else "holds"
            table.add_row(escape(row.name), *(row.figures.get(column, "") for column in columns), verdict)
        console = Console(width=None if sys.stdout.isatty() else 180)
        console.print(table)
        if self.broken:
            console.print(f"{len(self.broken)} broken")
        return int(bool(self.broken))
