"""The document of several runs: a row and a curve for each, or for each experiment with all its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gossip.errors import SettingError
from gossip.learning.objectives.score import Score, score_in
from gossip.page.numbers import short, shorts
from gossip.page.rendering import FORMAT, told_score
from scenarios.reports.comparison import Comparison, compare
from scenarios.reports.differences import NOBODY
from scenarios.reports.document import machines, settings
from scenarios.reports.document.of_run import CURVE, honest_bytes
from scenarios.reports.overview import CURVES_MAX, DASHES, Overview, Row, overview
from scenarios.reports.runs import Run
from scenarios.reports.series import COLOURS

DIVERGED_NAMED_MAX = 8
"""Mostly they have all diverged of one thing."""

COMMON = {
    "scenario": "scenario {}",
    "algorithm": "algorithm {}",
    "peers": "{} peers",
    "rounds": "{} rounds",
    "engine": "engine {}",
}
"""What all runs of a page may have in common, and how that is said."""


def document(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the document of several finished runs.

    Raises:
        SettingError: they are scored by different things.
    """
    score = scored_alike(runs)
    said = [(run.summary, run.tables) for run in runs]
    seen = overview(said, [run.folder for run in runs])
    comparison = compare(said)
    attacked = not all(attack.startswith(NOBODY) for attack in comparison.attacks)
    placed = ranks([row.score.mean for row in seen.rows], score)
    return {
        "format": FORMAT,
        "kind": "runs",
        "title": f"{len(runs)} runs",
        "lead": common(runs),
        "state": "finished",
        "score": told_score(score),
        "warnings": _warnings(runs),
        "senders": "the honest peers" if any(honest_bytes(run) for run in runs) else "all peers",
        "pooled": seen.pooled,
        "seeds": seen.seeds,
        "headings": list(seen.headings),
        "rows": [_row(row, rank) for row, rank in zip(seen.rows, placed, strict=True)],
        "legend": _legend(seen),
        "curves_max": CURVES_MAX,
        "comparison": _comparison(comparison, score) if attacked and comparison.worth_showing else None,
        "settings": [
            {"label": row.label, "text": runs[row.runs[0]].settings, "first": len(row.runs) > 1}
            for row in seen.rows[:CURVES_MAX]
        ],
        "changed": settings.changed(said[0][1]) if len({run.settings for run in runs}) == 1 else [],
        "machines": machines.lines(runs),
    }


def scored_alike(runs: Sequence[Run]) -> Score:
    """Return what all of them are scored by.

    Raises:
        SettingError: they are scored by different things.
    """
    found = {score_in(run.summary) for run in runs}
    if len(found) > 1:
        names = ", ".join(sorted(each.label for each in found))
        raise SettingError(f"these runs are scored by different things, {names}; give those of one objective")
    (score,) = found
    return score


def common(runs: Sequence[Run]) -> str:
    """Return what all runs have in common, for the line below the title."""
    parts = []
    for key, how in COMMON.items():
        values = {run.summary[key] for run in runs}
        if len(values) == 1:
            parts.append(how.format(values.pop()))
    seeds = {run.summary["seed"] for run in runs}
    return " · ".join([*parts, f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds.pop()}"])


def _row(row: Row, rank: int | None) -> dict[str, Any]:
    points = row.series.curve
    curve = {name: shorts(point.get(key) for point in points) for name, key in CURVE.items()}
    return {
        "label": row.label,
        "cells": list(row.cells),
        "colour": COLOURS.index(row.series.colour),
        "dash": DASHES.index(row.series.dash),
        "curve": {name: values for name, values in curve.items() if any(v is not None for v in values)},
        "rank": rank,
        "score": short(row.score.mean),
        "std": short(row.score.std),
        "worst": short(row.worst),
        "of_mean": short(row.of_mean),
        "own": short(row.own.mean),
        "own_std": short(row.own.std),
        "consensus": short(row.consensus),
        "sent": short(row.sent),
        "time": short(row.time),
        "seeds": row.seeds,
        "traffic": {kind: short(count) for kind, count in row.traffic.items() if count},
    }


def ranks(values: Sequence[float | None], score: Score) -> list[int | None]:
    """Return 1 for the best mean; equal ones share a rank."""
    known = [value for value in values if value is not None]
    return [None if v is None else 1 + sum(score.better(other, v) for other in known) for v in values]


def _legend(seen: Overview) -> list[list[dict[str, Any]]]:
    strokes = list(dict.fromkeys(entry.stroke for line in seen.legend for entry in line))
    return [
        [
            {
                "label": entry.label,
                "colour": COLOURS.index(entry.colour) if entry.colour in COLOURS else None,
                "stroke": entry.stroke,
            }
            for entry in line
        ]
        for line in seen.legend
        if strokes
    ]


def _comparison(found: Comparison, score: Score) -> dict[str, Any]:
    def cells(values: Any) -> list[list[float | int | None]]:
        return [[None if np.isnan(value) else short(float(value)) for value in row] for row in values]

    return {
        "rules": list(found.rules),
        "attacks": list(found.attacks),
        "runs": found.runs.tolist(),
        "mean": cells(found.mean),
        "std": cells(found.std),
        "worst": cells(found.worst),
        "told": list(found.told),
        "shaded": score.percent and found.mean.size > 1,
    }


def _warnings(runs: Sequence[Run]) -> list[str]:
    """Return which runs have diverged."""
    diverged = [
        f"{run.folder.parent.name}/{run.folder.name}" for run in runs if run.summary.get("divergence")
    ]
    if not diverged:
        return []
    more = f" and {len(diverged) - DIVERGED_NAMED_MAX} more" if len(diverged) > DIVERGED_NAMED_MAX else ""
    return [
        f"In {len(diverged)} of {len(runs)} runs models diverged: {', '.join(diverged[:DIVERGED_NAMED_MAX])}{more}; "
        "each run’s own report says why."
    ]
