"""The graphs by name. Every peer draws the same one from the number of peers, the seed and the round.

Nodes are positions in the sorted list of peers. Random families derive their generator from (seed, kind,
round, attempt), so that neither the order of calls nor the process matters.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx

from topologies.communities import blocks, community
from topologies.directed_graphs import epidemic_pull, epidemic_push
from topologies.errors import TopologyError
from topologies.files import from_file
from topologies.finite_time import base, base_period, groups, groups_period, pairs
from topologies.fixed_graphs import (
    exponential,
    full,
    hypercube,
    one_peer_contacts,
    one_peer_exponential,
    one_peer_period,
    ring,
    star,
    torus,
)
from topologies.random_graphs import barabasi_albert, erdos_renyi, random_neighbours, regular, small_world
from topologies.request import Request, check_edges


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of graph: how to draw it, which settings it takes, and whether chance or the round matter.

    A graph with directions has its edges from who sends to who hears.
    """

    draw: Callable[[Request], nx.Graph[int]]
    takes: frozenset[str] = frozenset()
    random: bool = False
    every_round: bool = False
    contacts: Callable[[int, int], tuple[int, ...]] | None = None
    """(peers, i) -> who may ever be i's neighbour where graphs vary, ascending; None: anybody."""
    period: Callable[[Request], int] | None = None
    """After how many rounds varying graphs repeat; None: never."""
    communities: Callable[[Request], tuple[range, ...]] | None = None
    """Positions of each community's peers, where the kind has communities."""
    weighted: bool = False
    """Its edges have weights of their own, W_ij = W_ji, as an attribute ``weight``."""
    directed: bool = False
    """Who sends to i need not be sent to by i; weights are uniform, and the mean of all models is not kept."""
    own: bool = False
    """A user's: what `draw` returns may be kept there, and is left as it is."""


_DEGREE = frozenset({"degree"})
_BOTH = frozenset({"degree", "probability"})

FAMILIES: dict[str, Family] = {
    "ring": Family(ring),
    "torus": Family(torus),
    "exponential": Family(exponential),
    "one-peer-exponential": Family(
        one_peer_exponential, every_round=True, contacts=one_peer_contacts, period=one_peer_period
    ),
    "full": Family(full),
    "star": Family(star),
    "hypercube": Family(hypercube),
    "regular": Family(regular, _DEGREE, random=True),
    "erdos-renyi": Family(erdos_renyi, _BOTH, random=True),
    "community": Family(
        community,
        _BOTH | {"communities", "degree_between", "probability_between"},
        random=True,
        communities=blocks,
    ),
    "small-world": Family(small_world, _BOTH, random=True),
    "barabasi-albert": Family(barabasi_albert, _DEGREE, random=True),
    "random-neighbours": Family(random_neighbours, _DEGREE, random=True, every_round=True),
    "pairs": Family(pairs, frozenset({"probability"}), random=True, every_round=True),
    "base": Family(base, _DEGREE, every_round=True, period=base_period, weighted=True),
    "groups": Family(groups, every_round=True, period=groups_period),
    "epidemic-push": Family(epidemic_push, _DEGREE, random=True, every_round=True, directed=True),
    "epidemic-pull": Family(epidemic_pull, _DEGREE, random=True, every_round=True, directed=True),
    "file": Family(from_file, frozenset({"path"})),
}

KINDS: tuple[str, ...] = tuple(sorted(FAMILIES))

SETTINGS: tuple[str, ...] = tuple(sorted({key for family in FAMILIES.values() for key in family.takes}))
"""What some kind takes beside the number of peers."""


def family(kind: str) -> Family:
    """Return the family of that name, or raise `TopologyError` naming the nearest valid one."""
    try:
        return FAMILIES[kind]
    except KeyError:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "valid: " + ", ".join(KINDS)
        raise TopologyError(f"unknown topology '{kind}'; {hint}") from None


def build(
    kind: str,
    peers: int,
    *,
    degree: int | None = None,
    probability: float | None = None,
    communities: int | None = None,
    degree_between: float | None = None,
    probability_between: float | None = None,
    path: str | None = None,
    seed: int = 0,
    round: int = 0,
    names: Sequence[str] | None = None,
) -> nx.Graph[int]:
    """Return the graph of one round on nodes 0 … peers-1, in sorted order; with directions for epidemic kinds.

    The same arguments give the same graph in every process and on every machine with the same version of
    networkx; `Topology.digest` tells whether two did. One peer alone has no edges, whatever the kind.

    Args:
        kind: one of `KINDS`.
        peers: how many.
        degree: neighbours per peer (regular, erdos-renyi, small-world, random-neighbours; community: inside its own),
            or edges that a newcomer brings (barabasi-albert), whom a peer sends to (epidemic-push) or is sent by
            (epidemic-pull); default 4, and 2 for barabasi-albert, or what few peers allow. At most so many (base): k,
            default 1.
        probability: of an edge (erdos-renyi; community: of one inside), of rewiring it (small-world), or of a pair
            (pairs); default of the latter 1.
        communities: how many (community); default 4, or what few peers allow.
        degree_between: mean number of neighbours in other communities (community); default 1.
        probability_between: the same as a probability for each pair of peers (community).
        path: of the edge list or GraphML file (file).
        seed: of the random kinds.
        round: of the kinds that differ by round; a static graph is that of round 0.
        names: the peers' names by position, for files that use them.

    Raises:
        TopologyError: an unknown kind, or settings that allow no such graph; one sentence.
    """
    return draw(
        Request(
            kind=kind,
            peers=peers,
            degree=degree,
            probability=probability,
            communities=communities,
            degree_between=degree_between,
            probability_between=probability_between,
            path=path,
            names=names,
            seed=seed,
            round=round,
        )
    )


def draw(request: Request) -> nx.Graph[int]:
    """Return the graph that is asked for, as `build` does."""
    chosen = family(request.kind)
    _check(request, chosen)
    if request.peers == 1 and request.kind != "file":
        alone: nx.Graph[int] = nx.empty_graph(1)
        return alone
    drawn = chosen.draw(request)
    ordered = _in_order(drawn, chosen)
    if not chosen.own:
        drawn.clear()  # it is a cycle, and a collector may not come by for long
    return ordered


def _check(request: Request, chosen: Family) -> None:
    n = request.peers
    if n < 1:
        raise TopologyError(f"peers = {n}: a topology needs at least 1 peer")
    if request.names is not None and len(request.names) != n:
        raise TopologyError(f"{len(request.names)} names were given for {n} peers")
    for key in SETTINGS:
        if getattr(request, key) is not None and key not in chosen.takes:
            takers = ", ".join(kind for kind in KINDS if key in FAMILIES[kind].takes)
            raise TopologyError(f"'{request.kind}' takes no {key}; these kinds do: {takers}")
    if request.degree is not None and request.degree < 1:
        raise TopologyError(f"degree = {request.degree}: must be at least 1")
    if request.probability is not None and not 0 <= request.probability <= 1:
        raise TopologyError(f"probability = {request.probability}: must be between 0 and 1")
    edges = n * (n - 1) / 2
    if request.degree is not None:
        edges = min(edges, n * request.degree)
    elif request.kind == "erdos-renyi" and request.probability is not None:
        edges *= request.probability
    elif request.kind != "full":
        edges = 0
    check_edges(request, edges)


def _in_order(graph: nx.Graph[int], chosen: Family) -> nx.Graph[int]:
    """Return a copy without self loops whose iteration order depends on the edges alone."""
    if chosen.directed:
        turned: nx.DiGraph[int] = nx.DiGraph()
        turned.add_nodes_from(range(graph.number_of_nodes()))
        turned.add_edges_from(sorted((i, j) for i, j in graph.edges if i != j))
        return turned
    ordered: nx.Graph[int] = nx.empty_graph(graph.number_of_nodes())
    if chosen.weighted:
        edges = sorted((min(i, j), max(i, j)) for i, j in graph.edges)
        ordered.add_weighted_edges_from((i, j, graph[i][j]["weight"]) for i, j in edges)
        return ordered
    ordered.add_edges_from(sorted((min(i, j), max(i, j)) for i, j in graph.edges if i != j))
    return ordered
