"""The kinds that are drawn: every peer draws the same one from (seed, kind, round, attempt)."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np

from topologies.directed_graphs import drawn_others
from topologies.errors import TopologyError
from topologies.fixed_graphs import full
from topologies.request import DEFAULT_DEGREE, Request, first_connected, wished_degree


def regular(request: Request) -> nx.Graph[int]:
    """Random graph in which everybody has `degree` neighbours."""
    n = request.peers
    degree = wished_degree(request, lambda d: d if n * d % 2 == 0 else d - 1)
    if n * degree % 2:
        raise TopologyError(f"regular: {n} peers of degree {degree} need half an edge; make one of them even")
    if degree < 2 < n:
        raise TopologyError(f"regular: degree 1 cannot connect {n} peers; use at least 2")
    # Configuration by rejection slows down in dense graphs; their complements are sparse.
    dense = degree > (n - 1) / 2
    other = n - 1 - degree if dense else degree

    def draw(attempt: int) -> nx.Graph[int]:
        drawn: nx.Graph[int] = nx.random_regular_graph(other, n, seed=request.integer_seed(attempt))
        return nx.complement(drawn) if dense else drawn

    return first_connected(request, draw, "a larger degree")


def erdos_renyi(request: Request) -> nx.Graph[int]:
    """Random graph with each edge present with `probability` (or `degree` neighbours on average)."""
    n = request.peers
    if request.degree is not None and request.probability is not None:
        raise TopologyError("erdos-renyi takes a degree or a probability, not both")
    if request.probability is not None:
        probability = request.probability
    else:
        # Sparser graphs are rarely connected: the threshold is at ln n neighbours.
        fallback = min(n - 1, max(DEFAULT_DEGREE, math.ceil(1.5 * math.log(n))))
        probability = (wished_degree(request) if request.degree is not None else fallback) / (n - 1)
    return first_connected(
        request,
        lambda attempt: nx.fast_gnp_random_graph(n, probability, seed=request.integer_seed(attempt)),
        f"a probability above ln n / n = {min(1.0, math.log(n) / n):.3g}",
    )


def small_world(request: Request) -> nx.Graph[int]:
    """Watts–Strogatz: a ring lattice of even `degree`, each edge rewired with `probability` (default 0.1)."""
    n = request.peers
    degree = wished_degree(request, lambda d: max(2, d - d % 2) if n > 2 else 1)
    probability = 0.1 if request.probability is None else request.probability
    if n <= 3:
        return full(request)
    if degree % 2:
        raise TopologyError(
            f"small-world: degree = {degree} must be even; {degree - 1 or 2} or {degree + 1} would do"
        )
    return first_connected(
        request,
        lambda attempt: nx.watts_strogatz_graph(n, degree, probability, seed=request.integer_seed(attempt)),
        "a larger degree or a smaller probability",
    )


def barabasi_albert(request: Request) -> nx.Graph[int]:
    """Preferential attachment: each newcomer brings `degree` edges (m, default 2); about 2·m neighbours."""
    default = min(2, request.peers - 1)
    attached = default if request.degree is None else wished_degree(request)
    return nx.barabasi_albert_graph(request.peers, attached, seed=request.integer_seed())


def random_neighbours(request: Request) -> nx.Graph[int]:
    """Every round every peer draws `degree` others; i ~ j if either drew the other.

    Averaging over one's own draw alone would be row- but not column-stochastic, and the network's mean would drift.
    """
    drawn = drawn_others(request)
    graph: nx.Graph[int] = nx.empty_graph(request.peers)
    everybody = np.repeat(np.arange(request.peers), drawn.shape[1])
    graph.add_edges_from(zip(everybody.tolist(), drawn.ravel().tolist(), strict=True))
    return graph
