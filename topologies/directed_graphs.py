"""Epidemic graphs: in every round everybody sends to a few drawn at random, or is sent by a few (arXiv 2310.01972).

Edges go from who sends to who hears, and a peer averages uniformly what came and its own. So rows of W sum to one and
columns do not: the mean of all models is not kept. Draws follow from the seed: everybody knows whom it sends to. With
push, a peer hears nobody with probability (1 - s/(n-1))^(n-1), about e^-s; with pull everybody hears exactly s.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.request import Request, wished_degree


def drawn_others(request: Request) -> NDArray[np.int64]:
    """Return for every peer `degree` (4) others, drawn without replacement, (peers, degree)."""
    n, degree = request.peers, wished_degree(request)
    rng = np.random.Generator(np.random.PCG64(request.entropy()))
    # Floyd's sampling without replacement, for all peers at once: values below n-1, own position skipped.
    drawn = np.empty((n, degree), dtype=np.int64)
    for column, top in enumerate(range(n - 1 - degree, n - 1)):
        pick = rng.integers(0, top + 1, size=n)
        taken = (drawn[:, :column] == pick[:, None]).any(axis=1)
        drawn[:, column] = np.where(taken, top, pick)
    drawn += drawn >= np.arange(n)[:, None]
    return drawn


def epidemic_push(request: Request) -> nx.DiGraph[int]:
    """Everybody sends to `degree` others (4)."""
    return _joined(request, pull=False)


def epidemic_pull(request: Request) -> nx.DiGraph[int]:
    """Everybody is sent by `degree` others (4)."""
    return _joined(request, pull=True)


def _joined(request: Request, *, pull: bool) -> nx.DiGraph[int]:
    drawn = drawn_others(request)
    who = np.repeat(np.arange(request.peers), drawn.shape[1]).tolist()
    others = drawn.ravel().tolist()
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(request.peers))
    graph.add_edges_from(zip(others, who, strict=True) if pull else zip(who, others, strict=True))
    return graph
