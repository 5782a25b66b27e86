"""Contenders of `merging.py`: they take turns, and each has a row of what it took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossip.merging.settings import MERGES
from gossip.settings import Choice

Row = dict[str, Any]


def choice(**settings: Any) -> Choice:
    return MERGES.validate(settings)


def in_turns(contenders: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each contender, one per repetition; a first round warms caches up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, call in contenders.items():
            began = time.perf_counter()
            call()
            if repetition:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def rows_of(what: str, seconds: Mapping[str, Sequence[float]], *bases: str) -> list[Row]:
    """Return a row for each contender, with its ratio to each of `bases`."""
    rows = []
    for name, times in seconds.items():
        row: Row = {"what": what, "name": name, "ms": 1e3 * statistics.median(times)}
        for base in bases:
            ratios = [a / b for a, b in zip(times, seconds[base], strict=True)]
            row[f"/ {base}"] = statistics.median(ratios)
        rows.append(row)
    return rows
