"""The same experiment with several seeds: its measures and its curve, pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Summary = Mapping[str, Any]

MEANS = ("score_mean", "score_of_mean", "consensus_distance", "time", "bytes")


def by_seed(summaries: Sequence[Summary], measure: Callable[[Summary], float | None]) -> list[float]:
    """Return one value per seed: a run that is there twice is no second witness. Nulls are left out."""
    found: dict[int, list[float]] = {}
    for summary in summaries:
        value = measure(summary)
        if value is not None:
            found.setdefault(summary["seed"], []).append(value)
    return [float(np.mean(values)) for values in found.values()]


def pooled_curve(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return the mean curve of the runs as far as all of them come; its range is that of the runs' means.

    Runs of one experiment are evaluated on one schedule: point k of one belongs to point k of the others.
    """
    curve = []
    for points in zip(*(summary["curve"] for summary in summaries), strict=False):
        scores = _known(points, "score_mean")
        curve.append(
            {
                "round": float(np.median([point["round"] for point in points])),
                **{key: float(np.mean(known)) if (known := _known(points, key)) else None for key in MEANS},
                "score_min": min(scores, default=None),
                "score_max": max(scores, default=None),
            }
        )
    return curve


def _known(points: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [point[key] for point in points if point.get(key) is not None]
