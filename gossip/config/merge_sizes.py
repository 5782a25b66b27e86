"""How many models a merge will have, as far as it is known beforehand: an f that none could bear is refused.

Where the graph is another in every round, the first rounds are looked at. A peer that has too few models in all of them
would keep its own for ever: that is refused. One that has too few in some keeps its own in those, which is said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import networkx as nx

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.robust.settings import RobustSettings, check_models, check_subsets
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.settings import RoundsSettings
from topologies import Topology

ROUNDS_LOOKED_AT_MAX = 32
"""Of graphs that vary. One-peer-exponential has used all its hops in so many, whatever the number of peers."""

EDGES_LOOKED_AT_MAX = 200_000
"""In all of these rounds together, of which there is one at least: a start takes a second longer, no more."""

Row = Mapping[int, int]
"""Neighbour -> how many neighbours that one has, where the graph varies."""


def check_merges(task: TaskSettings, topology: Topology, names: Sequence[str]) -> Iterator[str]:
    """Yield what should be known of the sizes of merges.

    Raises:
        SettingError: the rule has too few models for its f, or too many; one sentence.
    """
    protocol, merge = task.protocol, task.merge
    if not isinstance(merge, RobustSettings):
        return
    if isinstance(protocol, ModestSettings):
        _check_mixes(task, merge)
        models = min(protocol.sample_size, len(names))
        _check(task, merge, least=(models, "an aggregator"), most=(models, "an aggregator"))
    elif isinstance(protocol, RoundsSettings):
        if protocol.gossip_steps:
            yield from _check_rounds(task, merge, topology, names)
    elif isinstance(protocol, PushSettings):
        _check_pushes(task, protocol, merge, topology, names)


def _check_mixes(task: TaskSettings, merge: RobustSettings) -> None:
    """Refuse a rule that takes one peer's model where too much of what was learned would be lost with the others.

    In rounds on a graph the models that neighbours take are as different as before, and all go on with their training.
    """
    pushes = isinstance(task.protocol, PushSettings)
    if not merge.takes_one_model or (pushes and merge.keeps_own):
        return
    *before, rule = merge.kind.split("+")
    lost = (
        "most peers' updates would go no further"
        if pushes
        else "all peers would go on from what that one has learned"
    )
    mend = "own_share = 0.5 keeps half of a peer's own, and " if pushes else ""
    raise SettingError(
        f"{task.where('merge')} kind = '{merge.kind}' takes one of the models of a merge, and with protocol "
        f"'{task.protocol.kind}' {lost}; {mend}{'+'.join([*before, f'multi-{rule}'])} or "
        f"{'+'.join([*before, 'nnm', rule])} with the same f takes a mean"
    )


def _check_rounds(
    task: TaskSettings, merge: RobustSettings, topology: Topology, names: Sequence[str]
) -> Iterator[str]:
    rounds = _first_rounds(topology, task.stop.rounds)
    among = f" in each of the first {len(rounds)} rounds" if topology.time_varying else ""
    most_of = [max(len(rows[i]) for rows in rounds) for i in range(topology.peers)]
    least, i = min(zip(most_of, range(topology.peers), strict=True))
    greatest, hub = max(zip(most_of, range(0, -topology.peers, -1), strict=True))
    at_most = "at most " if topology.time_varying else ""
    _check(
        task,
        merge,
        least=(least + 1, f"peer {names[i]} with its {at_most}{least} neighbours{among}"),
        most=(greatest + 1, f"peer {names[-hub]} with its {greatest} neighbours"),
    )
    few = sum(any(0 < len(row) < merge.models_min - 1 for row in rows) for rows in rounds)
    if few:
        yield (
            f"{task.where('merge')} f = {merge.f} with kind = '{merge.kind}' needs at least {merge.models_min} models "
            f"in a merge, own included; in {few} of the first {len(rounds)} rounds some peer has fewer, and keeps its "
            "own model in them"
        )


def _check(
    task: TaskSettings, merge: RobustSettings, *, least: tuple[int, str], most: tuple[int, str]
) -> None:
    """Check the smallest and the greatest number of models, each with the words for whose it is."""
    try:
        check_models(merge, least[0], where=least[1])
        check_subsets(merge, most[0], where=most[1])
    except SettingError as error:
        raise SettingError(f"{task.where('merge')} {error}") from None


def _check_pushes(
    task: TaskSettings,
    push: PushSettings,
    merge: RobustSettings,
    topology: Topology,
    names: Sequence[str],
) -> None:
    """Refuse a robust rule whose merges would be too small for it to tell which model lies."""
    _check_mixes(task, merge)
    if merge.f is None and merge.averages_two:
        raise SettingError(
            f"{task.where('merge')} kind = '{merge.kind}' must be told f with protocol 'push', where merges have as "
            "many models as came: of two it would make their mean, whichever of them lies; with f = 1 it waits for a "
            "third"
        )
    contacts = [len(topology.contacts(i)) for i in range(topology.peers)]
    degree, i = min(zip(contacts, range(topology.peers), strict=True))
    greatest, hub = max(zip(contacts, range(0, -topology.peers, -1), strict=True))
    who = f"peer {names[i]} with its {degree} neighbours"
    if topology.time_varying:
        rounds = _first_rounds(topology, task.stop.rounds)
        usual, i = _fewest_in_varying(push, topology, rounds)
        if degree + 1 >= merge.models_min > usual + 1:
            why = f"neighbours change and {push.why_few}"
            mend = _memory_in_varying(push, merge, topology, rounds)
            _refuse_few(task, merge, usual + 1, where=f"peer {names[i]}", why=why, mend=mend)
    else:
        usual = push.models_usual(degree)
        if degree + 1 >= merge.models_min > usual + 1:
            _refuse_few(task, merge, usual + 1, where=who, why=push.why_few, mend=_mend(push, degree))
    _check(
        task,
        merge,
        least=(degree + 1, who),
        most=(greatest + 1, f"peer {names[-hub]} with its {greatest} neighbours"),
    )
    if push.models_to_begin_from < merge.models_min:
        raise SettingError(
            f"{task.where('protocol')} witnesses = {push.witnesses}: whoever is far behind begins from 2 · witnesses - "
            f"1 models, and f = {merge.f} with kind = '{merge.kind}' needs {merge.models_min}; so at least "
            f"{merge.models_min // 2 + 1}"
        )


def _refuse_few(
    task: TaskSettings, merge: RobustSettings, usual: int, *, where: str, why: str, mend: str
) -> None:
    raise SettingError(
        f"{task.where('merge')} f = {merge.f} with kind = '{merge.kind}' needs at least {merge.models_min} models in a "
        f"merge, own included; {where} has {usual} as a rule, because {why}; {mend}"
    )


def _mend(push: PushSettings, degree: int) -> str:
    share = push.share(degree)
    # So many that nine of ten neighbours have pushed here in them.
    periods = 1 if share == 1 else math.ceil(math.log(0.1) / math.log1p(-share))
    mend = _with_memory(max(1, min(periods, push.age_limit)))
    return mend if push.merge_when == "received" else f"{mend}, or push to all of them, fanout = 0"


def _with_memory(periods: int) -> str:
    return f"in [protocol], let merges see the last model of every neighbour, memory = {periods}"


# --- graphs that vary ---


def _first_rounds(topology: Topology, last_round: int) -> list[list[Row]]:
    """Return all peers' rows in the first rounds: one period, or as many as the limits allow."""
    if not topology.time_varying:
        return [[dict.fromkeys(row, len(row)) for row in map(topology.row, range(topology.peers))]]
    rounds: list[list[Row]] = []
    edges = 0
    for round in range(min(topology.period or ROUNDS_LOOKED_AT_MAX, ROUNDS_LOOKED_AT_MAX, last_round)):
        graph = topology.graph(round)
        edges += graph.number_of_edges()
        if rounds and edges > EDGES_LOOKED_AT_MAX:
            break
        degrees = dict(graph.out_degree() if isinstance(graph, nx.DiGraph) else graph.degree())
        rounds.append([{j: degrees[j] for j in topology.row(i, round)} for i in range(topology.peers)])
    return rounds


def _fewest_in_varying(
    push: PushSettings, topology: Topology, rounds: Sequence[Sequence[Row]]
) -> tuple[int, int]:
    """Return how many models of others the merges of a peer have as a rule, and which peer's have fewest.

    As in `PushSettings.models_usual`, of each neighbour one model, where it pushed here in the periods that a merge
    looks back on; only that a neighbour is one in some of these periods. Peers are near enough to the same round.
    """
    if push.merge_when == "received" and not push.memory:
        return 1, 0
    fewest = []
    for i in range(topology.peers):
        degree = max(1, round(fmean(len(rows[i]) for rows in rounds)))
        periods = max(1, round(push.periods_seen(degree)))
        window = min(len(rounds), periods)
        counts = []
        for first in range(0, len(rounds) - window + 1, window):
            missed: dict[int, float] = defaultdict(lambda: 1.0)
            for rows in rounds[first : first + window]:
                for j, others in rows[i].items():
                    # Who is a neighbour in the rounds looked at stands for those of a merge that looks back further.
                    missed[j] *= (1 - push.share(others)) ** (periods / window)
            counts.append(sum(1 - chance for chance in missed.values()))
        fewest.append((round(fmean(counts)), i))
    return min(fewest)


def _memory_in_varying(
    push: PushSettings, merge: RobustSettings, topology: Topology, rounds: Sequence[Sequence[Row]]
) -> str:
    """Say which memory would be enough, if one is."""
    memory = 1
    while memory <= min(push.age_limit, len(rounds)):
        longer = push.model_copy(update={"memory": memory})
        if _fewest_in_varying(longer, topology, rounds)[0] + 1 >= merge.models_min:
            return _with_memory(memory)
        memory *= 2
    return "a graph with more neighbours has more"
