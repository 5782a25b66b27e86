"""Communities: many edges inside, few between.

The planted partition, which is the stochastic block model with two probabilities (Condon and Karp 2001; Girvan and
Newman's benchmark of 2002 has four communities of 32 peers with 16 neighbours each): two peers of one community are
joined with p_in, two of different ones with p_out, each pair by itself. As with Erdős–Rényi graphs, a draw that is
not connected is drawn again. Communities are blocks of the sorted list of peers, as equal as can be, the same in every
round. Models agree inside a community long before they agree with the others: the fewer the bridges, the smaller the
spectral gap.
"""

from __future__ import annotations

import math

import networkx as nx

from topologies.errors import TopologyError
from topologies.request import DEFAULT_DEGREE, Request, check_edges, first_connected

DEFAULT_COMMUNITIES = 4

DEFAULT_DEGREE_BETWEEN = 1.0
"""With four or more neighbours inside, four fifths of all edges or more are inside."""


def blocks(request: Request) -> tuple[range, ...]:
    """Return the positions of each community's peers.

    Raises:
        TopologyError: there cannot be so many.
    """
    n, count = request.peers, request.communities
    if count is None or n == 1:
        count = max(1, min(DEFAULT_COMMUNITIES, n // 2))
    elif not 2 <= count <= n:
        one = "; one alone is kind = erdos-renyi" if count == 1 else ""
        raise TopologyError(f"communities = {count}: {n} peers make 2 to {n}{one}")
    return tuple(range(n * place // count, n * (place + 1) // count) for place in range(count))


def community(request: Request) -> nx.Graph[int]:
    """Planted partition: `degree` or `probability` inside, `degree_between` or `probability_between` outside."""
    communities = blocks(request)
    inside = [_inside(request, len(block)) for block in communities]
    between = _between(request, communities)
    pairs = [len(block) * (len(block) - 1) / 2 for block in communities]
    outer = request.peers * (request.peers - 1) / 2 - sum(pairs)
    check_edges(request, between * outer + sum(p * count for p, count in zip(inside, pairs, strict=True)))

    def draw(attempt: int) -> nx.Graph[int]:
        first, *seeds = request.integer_seeds(attempt, 1 + len(communities))
        graph: nx.Graph[int] = nx.fast_gnp_random_graph(request.peers, between, seed=first)
        for block, p, seed in zip(communities, inside, seeds, strict=True):
            graph.remove_edges_from(list(graph.subgraph(block).edges))
            drawn: nx.Graph[int] = nx.fast_gnp_random_graph(len(block), p, seed=seed)
            graph.add_edges_from((block[i], block[j]) for i, j in drawn.edges)
        return graph

    return first_connected(request, draw, "more neighbours inside or more between (degree, degree_between)")


def _inside(request: Request, size: int) -> float:
    """Return p_in of a community of `size` peers."""
    most = size - 1
    if request.degree is not None and request.probability is not None:
        raise TopologyError(f"{request.kind} takes a degree or a probability inside, not both")
    if request.probability is not None:
        return request.probability
    degree = request.degree
    if degree is None:
        # As many as make it likely that no peer is alone: ln n and a half more.
        degree = min(most, max(DEFAULT_DEGREE, math.ceil(1.5 * math.log(request.peers))))
    elif degree > most:
        raise TopologyError(
            f"{request.kind}: degree = {degree} is too large for a community of {size} peers; at most {most}"
        )
    return degree / most if most else 0.0


def _between(request: Request, communities: tuple[range, ...]) -> float:
    """Return p_out."""
    n, wished, probability = request.peers, request.degree_between, request.probability_between
    if wished is not None and probability is not None:
        raise TopologyError(f"{request.kind} takes a degree_between or a probability_between, not both")
    if probability is not None:
        if not 0 < probability <= 1:
            raise TopologyError(
                f"probability_between = {probability}: must be above 0, or nothing joins the communities, and at most 1"
            )
        return probability
    others = (n * n - sum(len(block) ** 2 for block in communities)) / n
    if not others:
        return 0.0
    if wished is None:
        return min(1.0, DEFAULT_DEGREE_BETWEEN / others)
    if not 0 < wished <= others:
        raise TopologyError(
            f"degree_between = {wished:g}: must be above 0, or nothing joins the communities, and at most {others:g}, "
            "the mean number of peers in other communities"
        )
    return wished / others
