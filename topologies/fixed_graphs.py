"""The kinds that the number of peers alone decides, and in one case the round."""

from __future__ import annotations

import math

import networkx as nx

from topologies.errors import TopologyError
from topologies.request import Request


def ring(request: Request) -> nx.Graph[int]:
    """Each peer and its two neighbours in the list."""
    return nx.circulant_graph(request.peers, [1])


def torus(request: Request) -> nx.Graph[int]:
    """A 2-D grid that wraps around, as square as the number of peers allows."""
    n = request.peers
    rows = next(r for r in range(math.isqrt(n), 0, -1) if n % r == 0)
    if rows == 1 and n > 3:
        raise TopologyError(
            f"torus needs a number of peers with two factors above 1, not the prime {n}; "
            f"{n - 1} or {n + 1} peers would do, or kind = ring"
        )
    columns = n // rows
    graph: nx.Graph[int] = nx.Graph()
    for row in range(rows):
        for column in range(columns):
            graph.add_edge(row * columns + column, row * columns + (column + 1) % columns)
            graph.add_edge(row * columns + column, ((row + 1) % rows) * columns + column)
    return graph


def hops(peers: int) -> list[int]:
    """Return 1, 2, 4, … below the number of peers: ⌈log₂ n⌉ of them."""
    return [1 << k for k in range(max(peers - 1, 0).bit_length())]


def exponential(request: Request) -> nx.Graph[int]:
    """Peer i and i ± 2^k mod n, undirected (so W is symmetric, other than that of the directed graph)."""
    return nx.circulant_graph(request.peers, hops(request.peers))


def one_peer_exponential(request: Request) -> nx.Graph[int]:
    """In round t a matching of peers that are 2^(t mod ⌈log₂ n⌉) apart: at most one neighbour each.

    The literature's graph (Ying et al. 2021) is directed, and its W doubly stochastic but not symmetric.
    Here two peers of a pair average with each other, which keeps W symmetric at the same cost, one model sent
    per peer and round. The peers a hop apart form gcd(n, hop) rings; along each of them every second peer pairs with
    the next. With n a power of two, ⌈log₂ n⌉ rounds give the exact mean, as theirs do. A ring of odd length leaves one
    peer of a round alone; the labels turn by one place per sweep, so that everybody is in turn.
    """
    n = request.peers
    graph: nx.Graph[int] = nx.empty_graph(n)
    steps = hops(n)
    if not steps:
        return graph
    sweep, place = divmod(request.round, len(steps))
    hop = steps[place]
    rings = math.gcd(n, hop)
    for first in range(rings):
        for step in range(0, n // rings - 1, 2):
            label = first + step * hop + sweep
            graph.add_edge(label % n, (label + hop) % n)
    return graph


def one_peer_contacts(peers: int, i: int) -> tuple[int, ...]:
    """Return all that are some hop away from i, either way."""
    reach = {(i + sign * hop) % peers for hop in hops(peers) for sign in (1, -1)}
    return tuple(sorted(reach - {i}))


def one_peer_period(request: Request) -> int:
    """Return after how many rounds each hop has had its turn, and the pairs are the same again."""
    peers = request.peers
    count = len(hops(peers))
    return max(count, 1) if peers & (peers - 1) == 0 else count * peers


def full(request: Request) -> nx.Graph[int]:
    """Everybody with everybody."""
    graph: nx.Graph[int] = nx.complete_graph(request.peers)
    return graph


def star(request: Request) -> nx.Graph[int]:
    """The first peer with everybody else."""
    graph: nx.Graph[int] = nx.star_graph(request.peers - 1)
    return graph


def hypercube(request: Request) -> nx.Graph[int]:
    """Peers whose positions differ in one bit; the number of peers is a power of two."""
    n = request.peers
    if n & (n - 1):
        below = 1 << (n.bit_length() - 1)
        raise TopologyError(f"hypercube needs a power of two, not {n} peers; {below} or {2 * below} would do")
    graph: nx.Graph[int] = nx.empty_graph(n)
    graph.add_edges_from((i, i ^ hop) for hop in hops(n) for i in range(n) if not i & hop)
    return graph
