"""The graphs by name. Every peer draws the same one from the number of peers, the seed and the round.

Nodes are positions in the sorted list of peers. Random families derive their generator from (seed, kind,
round, attempt), so that neither the order of calls nor the process matters.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from topologies.errors import TopologyError
from topologies.files import read_edges

ATTEMPTS_MAX = 200
"""Draws of a random graph before giving up on a connected one: a sentence instead of a hang."""

EDGES_MAX = 8_000_000
"""A denser graph would fill the memory of a laptop (about 150 bytes an edge while it is built)."""

DEFAULT_DEGREE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a family may know. `degree` and `probability` are None where the user did not say."""

    kind: str
    peers: int
    degree: int | None = None
    probability: float | None = None
    path: str | None = None
    names: Sequence[str] | None = None
    seed: int = 0
    round: int = 0

    def entropy(self, attempt: int = 0) -> np.random.SeedSequence:
        """Return the entropy of one attempt at this round's draw."""
        kind = hashlib.blake2b(self.kind.encode(), digest_size=8).digest()
        return np.random.SeedSequence([self.seed, int.from_bytes(kind, "big"), self.round, attempt])

    def integer_seed(self, attempt: int = 0) -> int:
        """Return 63 bits for networkx' generators."""
        return int(self.entropy(attempt).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of graph: how to draw it, which settings it takes, and whether chance or the round matter."""

    draw: Callable[[Request], nx.Graph[int]]
    takes: frozenset[str] = frozenset()
    random: bool = False
    every_round: bool = False


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


def regular(request: Request) -> nx.Graph[int]:
    """Random graph in which everybody has `degree` neighbours."""
    n = request.peers
    degree = _degree(request, lambda d: d if n * d % 2 == 0 else d - 1)
    if n * degree % 2:
        raise TopologyError(f"regular: {n} peers of degree {degree} need half an edge; make one of them even")
    if degree < 2 < n:
        raise TopologyError(f"regular: degree 1 cannot connect {n} peers; use at least 2")
    # Configuration by rejection slows down in dense graphs; their complements are sparse.
    dense = degree > (n - 1) / 2
    other = n - 1 - degree if dense else degree

    def draw(seed: int) -> nx.Graph[int]:
        drawn: nx.Graph[int] = nx.random_regular_graph(other, n, seed=seed)
        return nx.complement(drawn) if dense else drawn

    return _connected(request, draw, "a larger degree")


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
        probability = (_degree(request) if request.degree is not None else fallback) / (n - 1)
    return _connected(
        request,
        lambda seed: nx.fast_gnp_random_graph(n, probability, seed=seed),
        f"a probability above ln n / n = {min(1.0, math.log(n) / n):.3g}",
    )


def small_world(request: Request) -> nx.Graph[int]:
    """Watts–Strogatz: a ring lattice of even `degree`, each edge rewired with `probability` (default 0.1)."""
    n = request.peers
    degree = _degree(request, lambda d: max(2, d - d % 2) if n > 2 else 1)
    probability = 0.1 if request.probability is None else request.probability
    if n <= 3:
        return full(request)
    if degree % 2:
        raise TopologyError(
            f"small-world: degree = {degree} must be even; {degree - 1 or 2} or {degree + 1} would do"
        )
    return _connected(
        request,
        lambda seed: nx.watts_strogatz_graph(n, degree, probability, seed=seed),
        "a larger degree or a smaller probability",
    )


def barabasi_albert(request: Request) -> nx.Graph[int]:
    """Preferential attachment: each newcomer brings `degree` edges (m, default 2); about 2·m neighbours."""
    default = min(2, request.peers - 1)
    attached = default if request.degree is None else _degree(request)
    return nx.barabasi_albert_graph(request.peers, attached, seed=request.integer_seed())


def random_neighbours(request: Request) -> nx.Graph[int]:
    """Every round every peer draws `degree` others; i ~ j if either drew the other.

    Averaging over one's own draw alone would be row- but not column-stochastic, and the network's mean would drift.
    """
    n = request.peers
    degree = _degree(request)
    rng = np.random.Generator(np.random.PCG64(request.entropy()))
    peers = np.arange(n)
    # Floyd's sampling without replacement, for all peers at once: values below n-1, own position skipped.
    drawn = np.empty((n, degree), dtype=np.int64)  # (peers, degree)
    for column, top in enumerate(range(n - 1 - degree, n - 1)):
        pick = rng.integers(0, top + 1, size=n)
        taken = (drawn[:, :column] == pick[:, None]).any(axis=1)
        drawn[:, column] = np.where(taken, top, pick)
    drawn += drawn >= peers[:, None]
    graph: nx.Graph[int] = nx.empty_graph(n)
    graph.add_edges_from(zip(np.repeat(peers, degree).tolist(), drawn.ravel().tolist(), strict=True))
    return graph


def from_file(request: Request) -> nx.Graph[int]:
    """An edge list or GraphML file; nodes are the peers' names or their positions."""
    if request.path is None:
        raise TopologyError("kind = file needs a path to an edge list or a GraphML file")
    graph: nx.Graph[int] = nx.empty_graph(request.peers)
    graph.add_edges_from(read_edges(request.path, peers=request.peers, names=request.names))
    if not nx.is_connected(graph):
        alone = min(set(graph) - set(nx.single_source_shortest_path_length(graph, 0)))
        label = request.names[alone] if request.names else str(alone)
        first = request.names[0] if request.names else "0"
        raise TopologyError(f"{request.path}: no path leads from peer {first} to peer {label}; connect them")
    return graph


_DEGREE = frozenset({"degree"})
_BOTH = frozenset({"degree", "probability"})

FAMILIES: dict[str, Family] = {
    "ring": Family(ring),
    "torus": Family(torus),
    "exponential": Family(exponential),
    "one-peer-exponential": Family(one_peer_exponential, every_round=True),
    "full": Family(full),
    "star": Family(star),
    "hypercube": Family(hypercube),
    "regular": Family(regular, _DEGREE, random=True),
    "erdos-renyi": Family(erdos_renyi, _BOTH, random=True),
    "small-world": Family(small_world, _BOTH, random=True),
    "barabasi-albert": Family(barabasi_albert, _DEGREE, random=True),
    "random-neighbours": Family(random_neighbours, _DEGREE, random=True, every_round=True),
    "file": Family(from_file, frozenset({"path"})),
}

KINDS: tuple[str, ...] = tuple(sorted(FAMILIES))


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
    path: str | None = None,
    seed: int = 0,
    round: int = 0,
    names: Sequence[str] | None = None,
) -> nx.Graph[int]:
    """Return the undirected graph of one round on nodes 0 … peers-1, nodes and edges in sorted order.

    The same arguments give the same graph in every process and on every machine with the same version of
    networkx; `Topology.digest` tells whether two did. One peer alone has no edges, whatever the kind.

    Args:
        kind: one of `KINDS`.
        peers: how many.
        degree: neighbours per peer (regular, erdos-renyi, small-world, random-neighbours), or edges that a newcomer
            brings (barabasi-albert); default 4, and 2 for barabasi-albert, or what few peers allow.
        probability: of an edge (erdos-renyi), or of rewiring it (small-world).
        path: of the edge list or GraphML file (file).
        seed: of the random kinds.
        round: of the kinds that differ by round; a static graph is that of round 0.
        names: the peers' names by position, for files that use them.

    Raises:
        TopologyError: an unknown kind, or settings that allow no such graph; one sentence.
    """
    chosen = family(kind)
    request = Request(
        kind=kind,
        peers=peers,
        degree=degree,
        probability=probability,
        path=path,
        names=names,
        seed=seed,
        round=round,
    )
    _check(request, chosen)
    if peers == 1 and kind != "file":
        alone: nx.Graph[int] = nx.empty_graph(1)
        return alone
    return _in_order(chosen.draw(request))


def _check(request: Request, chosen: Family) -> None:
    n = request.peers
    if n < 1:
        raise TopologyError(f"peers = {n}: a topology needs at least 1 peer")
    if request.names is not None and len(request.names) != n:
        raise TopologyError(f"{len(request.names)} names were given for {n} peers")
    for key in ("degree", "probability", "path"):
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
    if edges > EDGES_MAX:
        raise TopologyError(
            f"'{request.kind}' of {n} peers has about {edges:.2g} edges; at most {EDGES_MAX} are built"
        )


def _degree(request: Request, fit: Callable[[int], int] = lambda degree: degree) -> int:
    """Return the wished degree, or the default as far as the number of peers and `fit` allow."""
    most = request.peers - 1
    if request.degree is None:
        return fit(min(DEFAULT_DEGREE, most))
    if request.degree > most:
        raise TopologyError(
            f"{request.kind}: degree = {request.degree} is too large for {request.peers} peers; at most {most}"
        )
    return request.degree


def _connected(request: Request, draw: Callable[[int], nx.Graph[int]], remedy: str) -> nx.Graph[int]:
    for attempt in range(ATTEMPTS_MAX):
        graph = draw(request.integer_seed(attempt))
        if nx.is_connected(graph):
            return graph
    raise TopologyError(
        f"{request.kind}: none of {ATTEMPTS_MAX} draws with {request.peers} peers was connected; try {remedy}"
    )


def _in_order(graph: nx.Graph[int]) -> nx.Graph[int]:
    """Return a copy without self loops whose iteration order depends on the edges alone."""
    ordered: nx.Graph[int] = nx.empty_graph(graph.number_of_nodes())
    ordered.add_edges_from(sorted((min(i, j), max(i, j)) for i, j in graph.edges if i != j))
    return ordered
