"""Peers of a document: a row each, or a sample of very many, and what each measured at every point of the curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossip.learning.objectives.score import Score
from gossip.page.numbers import short, shorts
from scenarios.records import point_of
from scenarios.reports.runs import Run

PEERS_MAX = 1000
"""A page with more rows would be slow; of more peers it shows `PEERS_SAMPLED`."""

PEERS_SAMPLED = 400

CELLS_MAX = 120_000
"""Of peers × points; of longer runs not every point is kept."""

BANDED_MIN = 50
"""So many peers have quantiles that differ from their extremes."""

UP = ("finished", "interrupted", "running")
"""How peers end that were there to the end, and what they do until then."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The peers that have rows."""

    names: tuple[str, ...]
    places: tuple[int, ...]
    """Where they stand among all."""
    sampled: bool


def chosen(run: Run, score: Score) -> Rows:
    """Return all peers, or of very many those evenly spaced by their final score, the worst and best among them."""
    everybody = [peer["peer"] for peer in run.peers]
    if len(everybody) <= PEERS_MAX:
        return Rows(tuple(everybody), tuple(range(len(everybody))), sampled=False)
    scores = [peer["score"] for peer in run.peers]
    worst = -np.inf if score.higher_is_better else np.inf
    order = np.argsort([worst if value is None else value for value in scores], kind="stable")
    places = sorted(order[np.linspace(0, len(order) - 1, PEERS_SAMPLED).round().astype(int)].tolist())
    return Rows(tuple(everybody[place] for place in places), tuple(places), sampled=True)


def table(run: Run, rows: Rows, down: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return the columns of the table of peers; a column that would be empty is left out."""
    last = {entry["peer"]: entry for entry in run.metrics}
    shown = [run.peers[place] for place in rows.places]
    samples = run.shards.get("samples", [])
    columns: dict[str, list[Any]] = {
        "name": list(rows.names),
        "attacks": [not peer.get("honest", True) for peer in shown],
        "up": [peer["state"] in UP for peer in shown],
        "state": [_state(peer, bool(down.get(peer["peer"]))) for peer in shown],
        "score": shorts(peer["score"] for peer in shown),
        "before_final": shorts(last.get(name, {}).get("score_before_final") for name in rows.names),
        "own_score": shorts(peer.get("own_score") for peer in shown),
        "test_loss": shorts(peer["test_loss"] for peer in shown),
        "rounds": [peer["rounds"] for peer in shown],
        "samples": [samples[place] if place < len(samples) else None for place in rows.places],
        "sent": [peer["sent"]["total"] for peer in shown],
        "received": [peer["received"]["total"] for peer in shown],
        "heard": [_heard(last.get(name)) for name in rows.names],
        "epsilon": shorts((peer.get("privacy") or {}).get("epsilon") for peer in shown),
        "rejected": [sum(peer["rejected_messages"].values()) for peer in shown],
    }
    return {
        name: values
        for name, values in columns.items()
        if name in ("name", "attacks", "up", "score") or any(values)
    }


def _state(peer: Mapping[str, Any], came_back: bool) -> str:
    words = peer.get("last_words")
    if words:
        return f"{peer['state']}: {words}"
    return f"{peer['state']}, was away" if came_back and peer["state"] in UP else str(peer["state"])


def _heard(entry: Mapping[str, Any] | None) -> str | None:
    if entry is None or not entry.get("expected"):
        return None
    return f"{entry.get('heard', 0)} of {entry['expected']}"


def columns(run: Run) -> list[int]:
    """Return the places on the curve that the matrix has columns of."""
    points = len(run.summary["curve"])
    most = max(2, CELLS_MAX // max(1, min(len(run.peers), PEERS_MAX)))
    if points <= most:
        return list(range(points))
    return sorted(set(np.linspace(0, points - 1, most).round().astype(int).tolist()))


def matrix(run: Run, rows: Rows) -> list[list[float | int | None]]:
    """Return the score of each row at each column, null where there was no measurement."""
    at = {place: column for column, place in enumerate(columns(run))}
    row_of = {name: row for row, name in enumerate(rows.names)}
    place_of = {number: place for place, number in enumerate(sorted({point_of(e) for e in run.metrics}))}
    cells: list[list[float | int | None]] = [[None] * len(at) for _ in rows.names]
    for entry in run.metrics:
        row, column = row_of.get(entry["peer"]), at.get(place_of[point_of(entry)])
        if row is not None and column is not None:
            cells[row][column] = short(entry.get("score"))
    return cells


def quantiles(run: Run) -> dict[str, list[Any]]:
    """Return the bounds of the middle four fifths of the peers at each point; {} of few peers."""
    if len(run.peers) < BANDED_MIN:
        return {}
    by_point: dict[int, list[float]] = defaultdict(list)
    for entry in run.metrics:
        scores = by_point[point_of(entry)]
        if entry.get("score") is not None:
            scores.append(entry["score"])
    bounds = [np.quantile(found, (0.1, 0.9)) if found else None for _, found in sorted(by_point.items())]
    return {
        name: shorts(None if pair is None else float(pair[place]) for pair in bounds)
        for place, name in enumerate(("low", "high"))
    }


def whose_data(run: Run, rows: Rows, tables: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the classes and how many samples of each every row has; None where nobody wrote it down."""
    samples = run.shards.get("samples")
    if not samples:
        return None
    partition = tables.get("data", {}).get("partition", {})
    kind = partition.get("kind", "")
    detail = f" α = {partition['alpha']:g}" if "alpha" in partition else ""
    counts = run.shards.get("counts") or []
    return {
        "how": f"{kind}{detail}",
        "classes": run.shards.get("classes", []),
        "counts": [counts[place] for place in rows.places] if counts else [],
        "samples": [samples[place] for place in rows.places],
    }
