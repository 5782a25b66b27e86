"""What a kind of graph is asked for, and what the random kinds have in common: draws until one is connected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from topologies.errors import TopologyError

ATTEMPTS_MAX = 200
"""Draws of a random graph before giving up on a connected one: a sentence instead of a hang."""

EDGES_MAX = 8_000_000
"""A denser graph would fill the memory of a laptop (about 150 bytes an edge while it is built)."""

DEFAULT_DEGREE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a family may know. What the user did not say is None."""

    kind: str
    peers: int
    degree: int | None = None
    probability: float | None = None
    communities: int | None = None
    degree_between: float | None = None
    probability_between: float | None = None
    path: str | None = None
    names: Sequence[str] | None = None
    seed: int = 0
    round: int = 0

    def entropy(self, attempt: int = 0) -> np.random.SeedSequence:
        """Return the entropy of one attempt at this round's draw."""
        kind = hashlib.blake2b(self.kind.encode(), digest_size=8).digest()
        return np.random.SeedSequence([self.seed, int.from_bytes(kind, "big"), self.round, attempt])

    def integer_seeds(self, attempt: int, count: int) -> list[int]:
        """Return `count` times 63 bits for networkx' generators."""
        return [
            int(state >> np.uint64(1)) for state in self.entropy(attempt).generate_state(count, np.uint64)
        ]

    def integer_seed(self, attempt: int = 0) -> int:
        """Return 63 bits for one of networkx' generators."""
        return self.integer_seeds(attempt, 1)[0]


def wished_degree(request: Request, fit: Callable[[int], int] = lambda degree: degree) -> int:
    """Return the wished degree, or the default as far as the number of peers and `fit` allow."""
    most = request.peers - 1
    if request.degree is None:
        return fit(min(DEFAULT_DEGREE, most))
    if request.degree > most:
        raise TopologyError(
            f"{request.kind}: degree = {request.degree} is too large for {request.peers} peers; at most {most}"
        )
    return request.degree


def first_connected(request: Request, draw: Callable[[int], nx.Graph[int]], remedy: str) -> nx.Graph[int]:
    """Return the first of ``draw(0)``, ``draw(1)``, … that is connected: the family's graphs given that they are."""
    for attempt in range(ATTEMPTS_MAX):
        graph = draw(attempt)
        if nx.is_connected(graph):
            return graph
    raise TopologyError(
        f"{request.kind}: none of {ATTEMPTS_MAX} draws with {request.peers} peers was connected; try {remedy}"
    )


def check_edges(request: Request, edges: float) -> None:
    """Raise `TopologyError` where a graph would have about so many edges, and these are too many."""
    if edges > EDGES_MAX:
        raise TopologyError(
            f"'{request.kind}' of {request.peers} peers has about {edges:.2g} edges; at most {EDGES_MAX} are built"
        )
