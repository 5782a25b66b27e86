"""What is read off the runs of `vanishing_variance.py`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any


def time_to(found: dict[str, Any], target: float, of: str = "own") -> float | None:
    """Return when the accuracy `of` some models reached `target`, between two looks along a straight line."""
    before = {"time": 0.0, of: 0.0}
    for point in found["points"]:
        if point[of] >= target:
            share = (target - before[of]) / (point[of] - before[of])
            return float(before["time"] + share * (point["time"] - before["time"]))
        before = point
    return None


def mean_time(founds: Sequence[dict[str, Any]], target: float, of: str = "own") -> float | None:
    times = [time_to(found, target, of) for found in founds]
    return fmean(time for time in times if time is not None) if None not in times else None


def accuracy_at(found: dict[str, Any], time_s: float) -> float:
    return float(min(found["points"], key=lambda point: abs(point["time"] - time_s))["own"])


def shown(value: float | None, limit_s: float) -> str:
    return f"> {limit_s:.0f}" if value is None else f"{value:.0f}"
