"""From `[topology]` to the graph that every peer computes alike from the sorted names and the seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.robust.settings import check_models
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
        if isinstance(task.protocol, PushSettings) and task.protocol.merge_when == "received":
            models, where = 2, 'a peer that merges every model as it comes (merge_when = "received")'
    elif isinstance(task.protocol, ModestSettings):
        models, where = min(task.protocol.sample_size, len(names)), "an aggregator"
    else:
        return
    try:
        check_models(task.merge, models, where=where)
    except SettingError as error:
        raise SettingError(f"{task.where('merge')} {error}") from None
