"""What of other sections does not go together with a codec, said before anything runs."""

from __future__ import annotations

import importlib.util

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import VarianceCorrectedSettings
from gossip.outgoing.settings import NoOutgoingSettings
from gossip.protocols.settings import RoundsSettings
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
    if getattr(codec, "compress", "none") == "zstd" and importlib.util.find_spec("zstandard") is None:
        raise SettingError(
            f"{task.where('codec')} compress = 'zstd' takes zstandard, which is not installed: pip install "
            "'gossip-node[compress]'; valid without: compress = 'none'"
        )
    if getattr(codec, "own", "exact") != "coded":
        return
    own = f"{task.where('codec')} own = 'coded'"
    if not isinstance(task.protocol, RoundsSettings):
        raise SettingError(
            f"{own} needs merges that know which own model the others have, and [protocol] kind = "
            f"'{task.protocol.kind}' has others; valid: kind = 'rounds', or own = 'exact'"
        )
    if task.outgoing != NoOutgoingSettings():
        raise SettingError(
            f"{own} takes what is sent for the own model but for the codes, and [outgoing] kind = "
            f"'{task.outgoing.kind}' changes it before; valid: own = 'exact', or no [outgoing]"
        )
