"""Shared hypothesis strategies."""

from __future__ import annotations

import networkx as nx
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
