"""What does not go together with a variant of gossip learning in which models walk, said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.protocols.push.settings import WALKS, PushSettings
from topologies import Topology


def check_variant(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where a setting of another section would mean nothing, or something else than it says."""
    push, merge = task.protocol, task.merge
    if not isinstance(push, PushSettings) or push.variant not in WALKS:
        return
    variant = f"variant = '{push.variant}' of [protocol]"
    if push.variant == "random-walk" and not isinstance(merge, AverageSettings):
        raise SettingError(
            f"{task.where('merge')} kind = '{merge.kind}' would never be asked with {variant}, which merges nothing; "
            "leave [merge] out, or use variant = 'merge-update'"
        )
    if not isinstance(merge, AverageSettings | VarianceCorrectedSettings):
        raise SettingError(
            f"{task.where('merge')} kind = '{merge.kind}' cannot tell which model lies with {variant}, which merges "
            "two models at a time; valid: average, variance-corrected, or any rule with variant = 'merge-update'"
        )
    if task.local.keep_momentum:
        raise SettingError(
            f"{task.where('local')} keep_momentum = true means nothing with {variant}, where the next update is of "
            "another model; valid: false"
        )
