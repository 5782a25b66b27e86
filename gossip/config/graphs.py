"""From `[topology]` to the graph that every peer computes alike from the sorted names and the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from gossip import plugins
from gossip.config.cautions import cautions_of_numbers
from gossip.config.compositions import check_compositions
from gossip.config.final import end_topology
from gossip.config.merge_sizes import check_merges
from gossip.config.task import TaskSettings
from gossip.errors import SettingError, nearest
from topologies import FAMILIES, KINDS, SETTINGS, Family, Request, Topology, TopologyError

GROUP = "gossip.topologies"
"""Of installed packages' entry points."""

ROUNDS_REPEATED = 2
"""First rounds whose graph a user's own function is asked for again, as each peer asks for itself."""

REPEATS = 8
FEW = 64
"""Times that it is asked again where there are so few peers that graphs may be drawn twice alike; else once."""


def build_topology(task: TaskSettings, *, names: Sequence[str], folder: Path = Path()) -> Topology:
    """Build the topology of `[topology]`; a file's path is relative to `folder`.

    What may be a mistake in it and is accepted becomes one of the task's `notes`.

    Raises:
        SettingError: there is none of that kind with so many peers; one sentence.
    """
    settings, where = task.topology, task.where("topology")
    try:
        topology = _Graphs(
            family_of(settings.kind, where=f"{where} "),
            len(names),
            where=where,
            degree=settings.degree,
            probability=settings.probability,
            communities=settings.communities,
            degree_between=settings.degree_between,
            probability_between=settings.probability_between,
            path=None if settings.path is None else str(folder / settings.path),
            weights=settings.weights,
            time_varying=settings.time_varying,
            seed=task.seed,
            names=names,
        )
    except TopologyError as error:
        raise SettingError(f"{where} {error}") from None
    end_topology(task, topology, names=names)
    check_compositions(task, topology)
    for caution in (*check_merges(task, topology, names), *cautions_of_numbers(task.protocol, len(names))):
        task.note(caution)
    return topology


class _Graphs(Topology):
    """A run's graphs; one that cannot be drawn is a mistake of whom `where` names, in later rounds, too."""

    def __init__(self, kind: str, peers: int, *, where: str, **settings: Any) -> None:
        self._where = where
        super().__init__(kind, peers, **settings)

    def graph(self, round: int = 0) -> nx.Graph[int]:
        """Return the round's graph. `SettingError` where there is none."""
        try:
            return super().graph(round)
        except TopologyError as error:
            raise SettingError(f"{self._where} {error}") from error


def family_of(kind: str, *, where: str = "") -> str:
    """Return the name of the family that is meant; one that is not ours is registered first.

    What is a user's own is called by its content, for draws are seeded by the name, and files lie anywhere.

    Raises:
        SettingError: there is none, or it cannot be loaded; one sentence, with `where` before it.
    """
    installed = plugins.installed(GROUP)
    if kind in FAMILIES:
        return kind
    if not plugins.is_user_code(kind) and kind not in installed:
        hint = nearest(kind, {*KINDS, *installed})
        raise SettingError(f"{where}unknown topology '{kind}'; {hint}")
    try:
        if plugins.is_user_code(kind):
            found, name = plugins.thing(kind, key="kind"), str(plugins.identified(kind))
        else:
            found, name = plugins.load_installed(GROUP, kind, seam="topology"), kind
    except SettingError as error:
        raise SettingError(f"{where}{error}") from None
    every_round = bool(getattr(found, "every_round", False))
    FAMILIES[name] = Family(
        _checked(found), frozenset(SETTINGS), random=True, every_round=every_round, own=True
    )
    return name


def _checked(function: Callable[[Request], Any]) -> Callable[[Request], nx.Graph[int]]:
    """Return a user's own family, whose every mistake is a sentence."""

    name = getattr(function, "__name__", type(function).__name__)
    asked: set[tuple[int, int, int]] = set()

    def drawn(request: Request) -> nx.Graph[int]:
        try:
            graph: nx.Graph[int] = function(request)
        except TopologyError:
            raise
        except (Exception, SystemExit) as failure:
            at = f" in round {request.round}" if request.round else ""
            raise TopologyError(f"'{name}' fails{at}: {plugins.one_line(failure)}") from failure
        simple = isinstance(graph, nx.Graph) and not graph.is_directed() and not graph.is_multigraph()
        if not simple or set(graph) != set(range(request.peers)):
            raise TopologyError(
                f"'{name}' must return an undirected networkx.Graph on the nodes 0 to {request.peers - 1}, and no "
                "multigraph"
            )
        return graph

    def draw(request: Request) -> nx.Graph[int]:
        graph = drawn(request)
        key = (request.peers, request.seed, request.round)
        if request.round < ROUNDS_REPEATED and key not in asked:
            # The user may keep the graph that is returned, and return it changed.
            neighbours = [set(graph[node]) for node in range(request.peers)]
            for _ in range(REPEATS if request.peers <= FEW else 1):
                graph = drawn(request)
                if any(set(graph[node]) != beside for node, beside in enumerate(neighbours)):
                    raise TopologyError(
                        f"'{name}' draws another graph each time that it is asked for that of round {request.round}, "
                        "and peers would differ in it; draw from request.entropy() alone"
                    )
            asked.add(key)
        return graph

    return draw
