"""The steps at the end of a run, `[final]`: on which graph, how many, and with what they do not go together."""

from __future__ import annotations

from collections.abc import Sequence

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.robust.settings import RobustSettings, check_models
from gossip.protocols.base import Protocol
from topologies import Topology, TopologyError


def end_topology(task: TaskSettings, topology: Topology, *, names: Sequence[str]) -> None:
    """Let the topology end as `[final]` says.

    Raises:
        SettingError: there is no such graph with so many peers, or what else is set does not go together with it.
    """
    settings = task.final
    if not settings.steps:
        return
    key = task.where("final")
    if not task.protocol.load().merges_at_the_end:
        raise SettingError(
            f"{key} steps = {settings.steps}: final steps end the last of the rounds that all peers have in common, "
            f"and protocol '{task.protocol.kind}' ends otherwise; valid: protocol 'rounds', or no [final]"
        )
    if not settings.exact and task.codec.load().reference != "none":
        raise SettingError(
            f"{key} exact = false: codec '{task.codec.kind}' tells what has changed since earlier messages, and final "
            "steps are with other neighbours; valid: exact = true, or a codec of whole models such as int8"
        )
    degree = settings.degree if settings.topology == "base" else None
    try:
        final = Topology(settings.topology, len(names), degree=degree, seed=task.seed)
    except TopologyError as error:
        raise SettingError(f"{key} {error}") from None
    steps = (final.period or 1) if settings.steps == "period" else settings.steps
    topology.end_with(final, steps=steps)
    _check_models(task, final, steps, names)
    if final.period is not None and steps < final.period:
        task.note(
            f"[final] steps = {steps}: of {len(names)} peers topology '{settings.topology}' averages exactly after "
            f"{final.period} steps, and fewer leave them apart; steps = 'period' takes as many"
        )


def _check_models(task: TaskSettings, final: Topology, steps: int, names: Sequence[str]) -> None:
    """Refuse a robust rule that never has enough models there."""
    if not isinstance(task.merge, RobustSettings):
        return
    most_of = [max(len(final.row(i, step)) for step in range(steps)) for i in range(len(names))]
    least, i = min(zip(most_of, range(len(names)), strict=True))
    try:
        check_models(
            task.merge,
            least + 1,
            where=f"peer {names[i]} with its at most {least} neighbours of a final step",
        )
    except SettingError as error:
        raise SettingError(f"{task.where('final')} {error}") from None


def prepare_end(made: Protocol, task: TaskSettings, topology: Topology) -> None:
    """Tell a protocol that is about to begin of the steps at its end."""
    if topology.final_steps:
        made.merge_at_the_end(topology.final_steps, exact=task.final.exact)
