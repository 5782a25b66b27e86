"""What does not go together across sections of a task: asked in one place, before anything runs.

A check raises `SettingError`, one sentence that names the key and what would be valid, or notes what may be a mistake.
"""

from __future__ import annotations

from collections.abc import Callable

from gossip.config.adapters import check_adapter
from gossip.config.channels import check_channel
from gossip.config.codecs import check_choco, check_codec, check_top_change
from gossip.config.directions import check_directions
from gossip.config.outer import check_outer
from gossip.config.parts import check_turns
from gossip.config.privacy import check_privacy
from gossip.config.stopping import check_stop
from gossip.config.task import TaskSettings
from gossip.config.updates import check_network, check_slopes, check_update
from gossip.config.uploads import check_upload
from gossip.config.variants import check_variant
from gossip.config.weighing import check_weighing
from topologies import Topology

CHECKS: tuple[Callable[[TaskSettings, Topology], None], ...] = (
    check_adapter,
    check_variant,
    check_directions,
    check_stop,
    check_top_change,
    check_choco,
    check_upload,
    check_codec,
    check_turns,
    check_outer,
    check_update,
    check_slopes,
    check_network,
    check_weighing,
    check_privacy,
    check_channel,
)


def check_compositions(task: TaskSettings, topology: Topology) -> None:
    """Ask every check of `task` with its graph.

    Raises:
        SettingError: settings that do not go together.
    """
    for check in CHECKS:
        check(task, topology)
