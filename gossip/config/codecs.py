"""What of other sections does not go together with a codec, said before anything runs."""

from __future__ import annotations

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import VarianceCorrectedSettings
from gossip.wire.codecs.settings import Int4Settings
from topologies import Topology


def check_codec(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where what comes of a codec is not what another section takes it for."""
    codec, merge = task.codec, task.merge
    if isinstance(codec, Int4Settings) and isinstance(merge, VarianceCorrectedSettings):
        raise SettingError(
            f"{task.where('codec')} kind = 'int4' adds a variance of its own to every tensor, which [merge] kind = "
            "'variance-corrected' would take for the models'; valid: int8 and codecs of more bits"
        )
