"""Mixing matrices: how much of whom enters the average x_i ← Σ_j W_ij x_j.

Metropolis–Hastings weights W_ij = 1/(1 + max(d_i, d_j)), W_ii = 1 - Σ_j W_ij make W symmetric and doubly
stochastic on every graph, so the network's mean is kept. Uniform weights 1/(d_i + 1) do so on regular graphs only;
elsewhere the peers agree on a mean weighted by d_i + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.errors import TopologyError

WEIGHTS: tuple[str, ...] = ("metropolis-hastings", "uniform")


@dataclass(frozen=True, slots=True)
class SparseRows:
    """The mixing matrix without its diagonal, row after row, neighbours in ascending order."""

    starts: NDArray[np.int64]  # (peers + 1,)
    neighbours: NDArray[np.int64]  # (entries,): 2·edges, with directions as many as edges
    weights: NDArray[np.float64]  # (entries,)

    @property
    def degrees(self) -> NDArray[np.int64]:
        """Neighbours of each peer, [peers]."""
        return np.diff(self.starts)

    def row(self, i: int) -> dict[int, float]:
        """Return neighbour -> W_ij in O(degree)."""
        part = slice(self.starts[i], self.starts[i + 1])
        return dict(zip(self.neighbours[part].tolist(), self.weights[part].tolist(), strict=True))

    def of(self, i: int) -> tuple[int, ...]:
        """Return the neighbours of peer i."""
        return tuple(self.neighbours[self.starts[i] : self.starts[i + 1]].tolist())

    def dense(self) -> NDArray[np.float64]:
        """Return W, [peers, peers], with its diagonal."""
        peers = len(self.starts) - 1
        matrix = np.zeros((peers, peers))
        matrix[np.repeat(np.arange(peers), self.degrees), self.neighbours] = self.weights
        np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
        return matrix


def check_weights(weights: str) -> None:
    """Raise `TopologyError` unless `weights` is one of `WEIGHTS`."""
    if weights not in WEIGHTS:
        raise TopologyError(f"unknown mixing weights '{weights}'; valid: {', '.join(WEIGHTS)}")


def sparse_rows(graph: nx.Graph[int], weights: str = "metropolis-hastings") -> SparseRows:
    """Return the rows of the graph's mixing matrix; nodes must be 0 … n-1.

    Edges may have an attribute ``weight``, which is W_ij then. With directions, from sender to receiver, a row is
    uniform over those that it hears, and itself.
    """
    check_weights(weights)
    peers = graph.number_of_nodes()
    if set(graph) != set(range(peers)):
        raise TopologyError(f"a mixing matrix needs nodes 0 to {peers - 1}; relabel the graph's")
    edges = [edge for edge in graph.edges if edge[0] != edge[1]]
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    if graph.is_directed():
        # Row i is what i hears.
        source, target = ends[:, 1], ends[:, 0]
    else:
        source = np.concatenate([ends[:, 0], ends[:, 1]])
        target = np.concatenate([ends[:, 1], ends[:, 0]])
    order = np.lexsort((target, source))
    source, target = source[order], target[order]
    degrees = np.bincount(source, minlength=peers)
    starts = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
    values: NDArray[np.float64]
    if edges and "weight" in graph.edges[edges[0]]:
        own = np.array([graph.edges[edge]["weight"] for edge in edges], dtype=np.float64)
        values = np.tile(own, 2)[order]
    elif graph.is_directed():
        values = np.asarray(1.0 / (1.0 + degrees[source]), dtype=np.float64)
    elif weights == "metropolis-hastings":
        values = np.asarray(1.0 / (1.0 + np.maximum(degrees[source], degrees[target])), dtype=np.float64)
    else:
        values = np.asarray(1.0 / (1.0 + degrees[source]), dtype=np.float64)
    return SparseRows(starts, target, values)


def mixing_matrix(graph: nx.Graph[int], weights: str = "metropolis-hastings") -> NDArray[np.float64]:
    """Return W of an undirected graph on nodes 0 … n-1, float64 [n, n].

    Args:
        graph: self loops are ignored, the diagonal is what is left of each row.
        weights: "metropolis-hastings", or "uniform" (row-stochastic only, where the graph is irregular).

    Raises:
        TopologyError: unknown weights or other nodes.
    """
    return sparse_rows(graph, weights).dense()
