"""Shared hypothesis strategies."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from gossip.wire.tensors import ITEM_BYTES, TensorSpec

# --- topologies ------------------------------------------------------------------------------------


@st.composite
def connected_graphs(draw: st.DrawFn, *, peers_max: int = 12) -> nx.Graph:
    """A connected graph on 0 … n-1: a random tree and any further edges."""
    peers = draw(st.integers(1, peers_max))
    graph: nx.Graph = nx.empty_graph(peers)
    graph.add_edges_from((i, draw(st.integers(0, i - 1))) for i in range(1, peers))
    pairs = [(i, j) for i in range(peers) for j in range(i)]
    if pairs:
        graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), max_size=2 * peers)))
    return graph


# --- wire ------------------------------------------------------------------------------------------


def wire_specs() -> st.SearchStrategy[TensorSpec]:
    """A tensor of any dtype that may travel, with up to four axes, empty ones included."""
    shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
    return st.builds(TensorSpec, st.sampled_from(sorted(ITEM_BYTES)), shapes)


# --- learning --------------------------------------------------------------------------------------


def labels(*, classes_max: int = 6, samples_max: int = 120) -> st.SearchStrategy[np.ndarray]:
    """Class numbers of some samples; classes may be missing, and of very different size."""
    return st.lists(st.integers(0, classes_max - 1), min_size=1, max_size=samples_max).map(
        lambda values: np.array(values, dtype=np.int64)
    )


@st.composite
def vectors(draw: st.DrawFn, *, count: int, size_max: int = 20) -> list[np.ndarray]:
    """`count` float32 vectors of one size, finite and of moderate magnitude."""
    size = draw(st.integers(1, size_max))
    element = st.floats(-1000, 1000, width=32)
    return [
        np.array(draw(st.lists(element, min_size=size, max_size=size)), dtype=np.float32)
        for _ in range(count)
    ]


@st.composite
def weights(draw: st.DrawFn, *, count: int) -> list[float]:
    """`count` weights that are not negative and sum to one: a row of a mixing matrix."""
    raw = draw(
        st.lists(st.floats(0, 1), min_size=count, max_size=count).filter(lambda values: sum(values) > 1e-3)
    )
    return [value / sum(raw) for value in raw]


@dataclass(frozen=True)
class Cloud:
    """Models of honest peers and attackers, the first of them own, with a row of mixing weights."""

    vectors: np.ndarray  # (n, d) float64
    weights: list[float]
    f: int
    scale: float


@st.composite
def clouds(draw: st.DrawFn, *, count_max: int = 12, size_max: int = 20) -> Cloud:
    """3 … 12 models, 2f < n; drawn from a seed, for what has exact ties is not continuous and obeys fewer laws."""
    count = draw(st.integers(3, count_max))
    f = draw(st.integers(0, (count - 1) // 2))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e6]))
    vectors = rng.normal(size=(count, draw(st.integers(2, size_max)))) + rng.normal()
    vectors[count - f :] += draw(st.sampled_from([0.0, 3.0, 1e3])) * rng.normal()
    raw = rng.uniform(0.1, 1, size=count)
    return Cloud(vectors * scale, (raw / raw.sum()).tolist(), f, scale)


# --- views -----------------------------------------------------------------------------------------

VIEW_PEERS = tuple(f"p{i:02d}" for i in range(8))
STRANGER_PEERS = ("x0", "x1")


def view_entries() -> st.SearchStrategy[list[tuple[str, int, bool, int]]]:
    """What a view may hear: of known peers and strangers, old and new."""
    entry = st.tuples(
        st.sampled_from(VIEW_PEERS + STRANGER_PEERS), st.integers(0, 4), st.booleans(), st.integers(-1, 60)
    )
    return st.lists(entry, max_size=25)
