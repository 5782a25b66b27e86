"""How fast a mixing matrix averages: λ, the spectral gap, and whether the mean is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.estimates import Mixing, longest_way, rate_of_many, rate_of_one
from topologies.mixing import sparse_rows
from topologies.topology import Topology

DENSE_PEERS_MAX = 3000
"""Eigenvalues cost n³: `spectrum` says None beyond this, where they would take minutes."""

EXACT_PEERS_MAX = 500
"""`describe` estimates λ and diameter of more (`topologies.estimates`), and says so: all eigenvalues cost n³, all
distances peers · edges."""

ROUNDS_OBSERVED = 8
"""Rounds over which a topology that is drawn anew is described."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """λ = max(|λ₂|, |λₙ|) of W, the gap 1 - λ; both None for more than `DENSE_PEERS_MAX` peers."""

    lambda_: float | None
    spectral_gap: float | None
    doubly_stochastic: bool
    symmetric: bool


def spectrum(W: NDArray[np.float64]) -> Spectrum:
    """Return the spectral quantities of a square mixing matrix, [n, n]."""
    symmetric = bool(np.allclose(W, W.T, rtol=0, atol=1e-12))
    stochastic = bool(
        (W >= -1e-12).all()
        and np.allclose(W.sum(axis=0), 1, atol=1e-9)
        and np.allclose(W.sum(axis=1), 1, atol=1e-9)
    )
    rate = _rate(W, symmetric) if len(W) <= DENSE_PEERS_MAX else None
    return Spectrum(rate, None if rate is None else 1.0 - rate, stochastic, symmetric)


def _rate(W: NDArray[np.float64], symmetric: bool) -> float:
    values = np.linalg.eigvalsh(W) if symmetric else np.linalg.eigvals(W)
    others = np.delete(np.abs(values), np.argmin(np.abs(values - 1.0)))  # the eigenvalue of consensus
    return _clean(float(others.max(initial=0.0)), len(W))


def _clean(rate: float, peers: int) -> float:
    """Round what is noise of the eigenvalue solver to 0 and 1."""
    noise = 64 * peers * np.finfo(np.float64).eps
    if rate < noise:
        return 0.0
    return 1.0 if abs(rate - 1.0) < noise else rate


def describe(topology: Topology) -> dict[str, Any]:
    """Return what `gossip-scenario topology` tells, ready for JSON.

    A time-varying topology is described over `rounds` rounds: edges and degrees of all of them, diameter and
    connectedness of their union, and λ as the mean factor per round, ‖W_{T-1} … W_0 - J‖₂^{1/T}. Bridges are the edges
    between communities; modularity is Newman's, of the graph divided into them. "estimated" names what is estimated,
    both from below: see `topologies.estimates`.
    """
    rounds = min(topology.period or ROUNDS_OBSERVED, 64) if topology.time_varying else 1
    graphs = [topology.graph(round) for round in range(rounds)]
    union = nx.compose_all([graph.to_undirected() for graph in graphs])
    # With directions, of those who are heard.
    heard = [graph.in_degree() if isinstance(graph, nx.DiGraph) else graph.degree() for graph in graphs]
    degrees = np.array([degree for each in heard for _, degree in each])
    connected = nx.is_connected(union)
    exact = topology.peers <= EXACT_PEERS_MAX
    rate, stochastic = _mean_rate(topology, rounds) if exact else _estimated_rate(topology, rounds)
    diameter = None
    if connected:
        diameter = nx.diameter(union) if exact else longest_way(sparse_rows(union))
    return {
        "kind": topology.kind,
        "peers": topology.peers,
        "weights": topology.weights,
        "edges": round(sum(graph.number_of_edges() for graph in graphs) / rounds, 3),
        "degree": {
            "min": int(degrees.min()),
            "mean": round(float(degrees.mean()), 6),
            "max": int(degrees.max()),
        },
        "diameter": diameter,
        "connected": connected,
        "lambda": rate,
        "spectral_gap": 1.0 - rate,
        "estimated": [] if exact else ["lambda", "spectral_gap", *(["diameter"] if connected else [])],
        "doubly_stochastic": stochastic,
        "time_varying": topology.time_varying,
        "rounds": rounds,
        **_communities(topology, graphs),
    }


def _communities(topology: Topology, graphs: Sequence[nx.Graph[int]]) -> dict[str, Any]:
    """Return what is told of a graph with communities: how large they are, and what joins them, a round."""
    communities = topology.communities
    if communities is None:
        return {}
    place = np.repeat(np.arange(len(communities)), [len(block) for block in communities])  # (peers,)
    bridges = fmean(sum(place[i] != place[j] for i, j in graph.edges) for graph in graphs)
    members = [set(block) for block in communities]
    # Of no edges there is none.
    modularities = [nx.community.modularity(graph, members) for graph in graphs if graph.number_of_edges()]
    return {
        "communities": {
            "sizes": [len(block) for block in communities],
            "bridges": round(float(bridges), 3),
            "modularity": round(fmean(modularities), 6) if modularities else None,
        }
    }


def _mean_rate(topology: Topology, rounds: int) -> tuple[float, bool]:
    if rounds == 1:
        W = topology.matrix(0)
        seen = spectrum(W)
        return _rate(W, seen.symmetric), seen.doubly_stochastic
    product = np.eye(topology.peers)
    stochastic = True
    for round in range(rounds):
        W = topology.matrix(round)
        stochastic = stochastic and bool(np.allclose(W.sum(axis=0), 1, atol=1e-9))
        product = W @ product
    distance = float(np.linalg.norm(product - product.mean(axis=0), 2))
    return _clean(distance, topology.peers) ** (1.0 / rounds), stochastic


def _estimated_rate(topology: Topology, rounds: int) -> tuple[float, bool]:
    each = [topology.rows(round) for round in range(rounds)]
    rate = rate_of_one(each[0], uniform=topology.weights == "uniform") if rounds == 1 else rate_of_many(each)
    return rate, all(Mixing(rows).keeps_the_mean() for rows in each)
