"""Who talks to whom, as places on a plane and lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np

from gossip.page.numbers import short, shorts
from scenarios.reports.document.peers import Rows
from scenarios.reports.runs import Run
from topologies.families import FAMILIES

PEERS_MAX = 1000
LINKS_MAX = 6000
"""More lines are a blot."""

ROUND = ("ring", "exponential", "full", "star", "base", "base-2")
"""Kinds that look best on a circle."""

STEPS = 60
"""Of the forces that move the others; fewer of large graphs."""


def network(run: Run, rows: Rows, tables: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return {x, y, links, traffic, note} of the peers in the order of the rows; None where there is no graph to see.

    A link's traffic is estimated: what its two ends have sent, shared evenly over their neighbours.
    """
    if run.graph is None or rows.sampled or not 1 < run.graph.number_of_nodes() <= PEERS_MAX:
        return None
    if not set(rows.names) <= set(run.graph) or run.graph.number_of_edges() > LINKS_MAX:
        return None
    topology = tables.get("topology", {})
    places = _places(run.graph, rows.names, str(topology.get("kind", "")))
    index = {name: row for row, name in enumerate(rows.names)}
    links = sorted(tuple(sorted((index[a], index[b]))) for a, b in run.graph.edges)
    sent = {peer["peer"]: float(peer["sent"]["total"]) for peer in run.peers}
    degrees = dict(run.graph.degree())
    share = [sent.get(name, 0.0) / max(1, degrees[name]) for name in rows.names]
    return {
        "x": shorts(places[name][0] for name in rows.names),
        "y": shorts(places[name][1] for name in rows.names),
        "links": [list(link) for link in links],
        "traffic": [short(share[a] + share[b]) for a, b in links],
        "note": _note(tables),
    }


def _note(tables: Mapping[str, Any]) -> str:
    """Return what the graph is not, where it is not the whole truth."""
    protocol = tables.get("protocol", {}).get("kind", "rounds")
    if protocol not in ("rounds", "push"):
        return f"The protocol {protocol} itself chooses who talks to whom; this is the graph of [topology]."
    topology = tables.get("topology", {})
    family = FAMILIES.get(topology.get("kind", ""))
    changes = topology.get("time_varying") or (family is not None and family.every_round)
    return "The graph of the first round; later ones are others." if changes else ""


def _places(graph: nx.Graph[str], names: Sequence[str], kind: str) -> dict[str, tuple[float, float]]:
    degrees = dict(graph.degree())
    hubs = [name for name in names if len(names) > 3 and degrees[name] == len(names) - 1]
    hubs = hubs if len(hubs) == 1 else []
    outer = [name for name in names if name not in hubs]
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(outer)) / max(1, len(outer))
    circle = {name: (float(np.cos(a)), float(np.sin(a))) for name, a in zip(outer, angles, strict=True)}
    circle |= dict.fromkeys(hubs, (0.0, 0.0))
    if kind in ROUND or graph.number_of_edges() == 0 or len(names) < 5:
        return circle
    steps = STEPS if len(names) <= 200 else 25
    # From random places, drawn alike each time: a circle would stay one.
    found = nx.spring_layout(graph, k=1.6 / np.sqrt(len(names)), iterations=steps, seed=7)
    return {name: (float(x), float(y)) for name, (x, y) in found.items()}
