"""From `[topology]` to the graph that every peer computes alike from the sorted names and the seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.robust.settings import RobustSettings, check_models, check_subsets
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.settings import RoundsSettings
from topologies import Topology, TopologyError


def build_topology(task: TaskSettings, *, names: Sequence[str], folder: Path = Path()) -> Topology:
    """Build the topology of `[topology]`; a file's path is relative to `folder`.

    Raises:
        SettingError: there is none of that kind with so many peers; one sentence.
    """
    settings = task.topology
    try:
        topology = Topology(
            settings.kind,
            len(names),
            degree=settings.degree,
            probability=settings.probability,
            path=None if settings.path is None else str(folder / settings.path),
            weights=settings.weights,
            time_varying=settings.time_varying,
            seed=task.seed,
            names=names,
        )
    except TopologyError as error:
        raise SettingError(f"{task.where('topology')} {error}") from None
    _check_merge(task, topology, names)
    return topology


def _check_merge(task: TaskSettings, topology: Topology, names: Sequence[str]) -> None:
    """Refuse an f that some merge could never bear, where it is known beforehand how many models there will be."""
    if isinstance(task.protocol, RoundsSettings | PushSettings):
        if topology.time_varying or (
            isinstance(task.protocol, RoundsSettings) and not task.protocol.gossip_steps
        ):
            return
        degree, least = min((len(topology.row(i)), i) for i in range(topology.peers))
        models, where = degree + 1, f"peer {names[least]} with its {degree} neighbours"
        greatest, hub = max((len(topology.row(i)), -i) for i in range(topology.peers))
        most, crowded = greatest + 1, f"peer {names[-hub]} with its {greatest} neighbours"
        if isinstance(task.protocol, PushSettings) and isinstance(task.merge, RobustSettings):
            _check_pushes(task, task.protocol, task.merge, degree=degree, where=where)
    elif isinstance(task.protocol, ModestSettings):
        models, where = min(task.protocol.sample_size, len(names)), "an aggregator"
        most, crowded = models, where
    else:
        return
    try:
        check_models(task.merge, models, where=where)
        check_subsets(task.merge, most, where=crowded)
    except SettingError as error:
        raise SettingError(f"{task.where('merge')} {error}") from None
    if isinstance(task.protocol, PushSettings) and isinstance(task.merge, RobustSettings):
        _check_catching_up(task, task.protocol, task.merge)


def _check_pushes(
    task: TaskSettings, push: PushSettings, merge: RobustSettings, *, degree: int, where: str
) -> None:
    """Refuse a robust rule whose merges would be too small for it to tell which model lies."""
    if merge.f is None and merge.averages_two:
        raise SettingError(
            f"{task.where('merge')} kind = '{merge.kind}' must be told f with protocol 'push', where merges have as "
            "many models as came: of two it would make their mean, whichever of them lies; with f = 1 it waits for a "
            "third"
        )
    needed, usual = merge.models_min, 1 + push.models_usual(degree)
    if degree + 1 < needed or usual >= needed:
        return
    share = push.share(degree)
    # So many that nine of ten neighbours have pushed here in them.
    periods = 1 if share == 1 else math.ceil(math.log(0.1) / math.log1p(-share))
    mend = (
        f"let merges see the last model of every neighbour, memory = {max(1, min(periods, push.age_limit))}"
    )
    if push.merge_when != "received":
        mend += ", or push to all of them, fanout = 0"
    raise SettingError(
        f"{task.where('merge')} f = {merge.f} with kind = '{merge.kind}' needs at least {needed} models in a merge, "
        f"own included; {where} has {usual} as a rule, because {push.why_few}; in [protocol], {mend}"
    )


def _check_catching_up(task: TaskSettings, push: PushSettings, merge: RobustSettings) -> None:
    """Refuse fewer models to begin from, for whoever is far behind, than the rule needs."""
    if push.models_to_begin_from < merge.models_min:
        raise SettingError(
            f"{task.where('protocol')} witnesses = {push.witnesses}: whoever is far behind begins from 2 · witnesses - "
            f"1 models, and f = {merge.f} with kind = '{merge.kind}' needs {merge.models_min}; so at least "
            f"{merge.models_min // 2 + 1}"
        )
