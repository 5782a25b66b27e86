"""What needs the mean of all models kept, or neighbours that hear each other: said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import VarianceCorrectedSettings
from gossip.protocols.settings import RoundsSettings
from topologies import Topology


def check_directions(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where the protocol does not know the graph's directions; note what a drifting mean does."""
    protocol, key = task.protocol, task.where("topology")
    made = protocol.load()
    if made.everybody:
        return  # needs no graph
    if topology.directed and not made.directed:
        kind = protocol.kind
        mend = "kind = 'full' with [protocol] fanout" if kind == "push" else "a kind without directions"
        raise SettingError(
            f"{key} kind = '{task.topology.kind}': who sends to a peer is not who it sends to, and protocol '{kind}' "
            f"takes neighbours to be both; valid: protocol 'rounds', or {mend}"
        )
    corrected = isinstance(protocol, RoundsSettings) and isinstance(task.merge, VarianceCorrectedSettings)
    if corrected and not topology.kept_mean:
        task.note(
            f"{key} kind = '{task.topology.kind}' does not keep the mean of all models, and [merge] kind = "
            "'variance-corrected' restores the variance around a mean that drifts"
        )
