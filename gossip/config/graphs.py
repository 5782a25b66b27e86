"""From `[topology]` to the graph that every peer computes alike from the sorted names and the seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gossip.config.cautions import cautions_of_numbers
from gossip.config.merge_sizes import check_merges
from gossip.config.task import TaskSettings
from gossip.config.variants import check_variant
from gossip.errors import SettingError
from topologies import Topology, TopologyError


def build_topology(task: TaskSettings, *, names: Sequence[str], folder: Path = Path()) -> Topology:
    """Build the topology of `[topology]`; a file's path is relative to `folder`.

    What may be a mistake in it and is accepted becomes one of the task's `notes`.

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
        raise SettingError(f"{task.where('topology')} {error}") from None
    check_variant(task)
    for caution in (*check_merges(task, topology, names), *cautions_of_numbers(task.protocol, len(names))):
        task.note(caution)
    return topology
