"""A topology: a wheel, peer 0 in the middle of a ring of all others."""

import networkx as nx


def wheel(request):
    """[topology] kind = "python:own_topology.py:wheel"."""
    return nx.wheel_graph(request.peers)
