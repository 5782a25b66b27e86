"""A graph somebody drew: an edge list (two peers a line, `#` starts a comment) or GraphML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import ParseError

import networkx as nx

from topologies.errors import TopologyError
from topologies.request import Request

FILE_BYTES_MAX = 256 << 20
"""Larger is a wrong path, not a topology."""

Edge = tuple[str, str, str]
"""Two labels, and where they stand."""


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


def read_edges(path: str, *, peers: int, names: Sequence[str] | None) -> list[tuple[int, int]]:
    """Return the file's edges as positions.

    Labels are the peers' names if all of them are, otherwise positions 0 … peers-1.

    Raises:
        TopologyError: unreadable, malformed, a label that is no peer's, or an edge of a peer with itself.
    """
    file = Path(path)
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise TopologyError(f"{path}: larger than {FILE_BYTES_MAX >> 20} MiB, this is no topology")
        graphml = file.suffix.lower() in {".graphml", ".xml"}
        edges = _graphml(file) if graphml else _edge_list(file)
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise TopologyError(f"{path}: not UTF-8 text (byte {error.start})") from None
    position = {name: index for index, name in enumerate(names or ())}
    by_name = bool(position) and all(label in position for edge in edges for label in edge[:2])
    if not by_name:
        position = {str(index): index for index in range(peers)}
    found = []
    for one, other, where in edges:
        for label in (one, other):
            if label not in position:
                raise TopologyError(
                    f"{where}: '{label}' is neither a peer's name nor a position 0 to {peers - 1}"
                )
        if one == other:
            raise TopologyError(f"{where}: peer '{one}' is joined with itself; its own weight is implied")
        found.append((position[one], position[other]))
    return found


def _edge_list(file: Path) -> list[Edge]:
    edges = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise TopologyError(f"{file}:{number}: {len(words)} words; a line names two peers")
        edges.append((words[0], words[1], f"{file}:{number}"))
    return edges


def _graphml(file: Path) -> list[Edge]:
    try:
        graph = nx.read_graphml(file)
    except (ParseError, nx.NetworkXError, KeyError, ValueError) as error:
        raise TopologyError(f"{file}: not valid GraphML: {error}") from None
    return [(str(one), str(other), f"{file} edge {one} – {other}") for one, other in graph.edges()]
