"""What of other sections does not go together with a codec, said before anything runs."""

from __future__ import annotations

import importlib.util

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.outgoing.settings import NoOutgoingSettings
from gossip.protocols.settings import RoundsSettings
from gossip.wire.codecs.settings import ChocoSettings, Int4Settings, TopChangeSettings
from topologies import Topology

BY_COORDINATE = ("median", "trimmed-mean", "meamed", "geometric-median")
"""Rules that go by what most rows have: filled in by the receiver, that is its own model."""


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


def check_choco(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where links do not stay, or merges do not keep the mean of what they bring."""
    if not isinstance(task.codec, ChocoSettings):
        return
    codec = f"{task.where('codec')} kind = 'choco'"
    if not isinstance(task.protocol, RoundsSettings) or task.protocol.parts > 1:
        raise SettingError(
            f"{codec} adds up what a link brings in every gossip step; valid: [protocol] kind = 'rounds' with parts = 1"
        )
    if topology.time_varying:
        raise SettingError(
            f"{codec} needs links that stay, and kind = '{task.topology.kind}' of [topology] draws others in every "
            "round; valid: a graph that does not change, such as ring or exponential, or kind = 'top-change'"
        )
    if not isinstance(task.merge, AverageSettings):
        raise SettingError(
            f"{codec} keeps the mean of all models by an average, and kind = '{task.merge.kind}' of [merge] is none; "
            "valid: average"
        )
    if task.outgoing != NoOutgoingSettings():
        raise SettingError(
            f"{codec} takes what is sent for the own model but for what is still to come, and [outgoing] kind = "
            f"'{task.outgoing.kind}' changes it before; valid: no [outgoing]"
        )


def check_top_change(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where filling in own numbers would leave nothing of the merge."""
    if not isinstance(task.codec, TopChangeSettings):
        return
    codec, merge = f"{task.where('codec')} kind = 'top-change'", task.merge
    last = merge.kind.rpartition("+")[2]
    if last in BY_COORDINATE:
        raise SettingError(
            f"{codec} leaves kind = '{merge.kind}' of [merge] nothing to mix, since in most of its rows each number "
            "would be the receiver's own; valid: [protocol] parts instead, of which all send the same, or a rule of "
            "distances such as krum or nna"
        )
    if isinstance(merge, VarianceCorrectedSettings):
        raise SettingError(
            f"{codec} does not go with kind = 'variance-corrected' of [merge], since numbers that have changed most "
            "are no sample of a tensor's; valid: [protocol] parts, or another codec"
        )
    if getattr(task.protocol, "parts", 1) > 1:
        raise SettingError(
            f"{codec} and parts = {task.protocol.parts} of [protocol] both leave numbers out; valid: one of the two"  # type: ignore[attr-defined]
        )
