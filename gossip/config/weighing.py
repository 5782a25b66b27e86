"""With which rules weights of one's own making mean something: said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.settings import RoundsSettings
from topologies import Topology


def check_weighing(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where a rule would not ask for them, or who is seldom there could use them to lie."""
    protocol, merge = task.protocol, task.merge
    if isinstance(protocol, RoundsSettings) and protocol.weighing != "row":
        key = f"weighing = '{protocol.weighing}'"
    elif isinstance(protocol, PushSettings) and protocol.weighting in ("rate", "staleness"):
        key = f"weighting = '{protocol.weighting}'"
    else:
        return
    if not isinstance(merge, AverageSettings | VarianceCorrectedSettings):
        raise SettingError(
            f"{task.where('protocol')} {key} is for averages, and [merge] kind = '{merge.kind}' chooses by other "
            "things than weights; valid: average, variance-corrected"
        )
