"""Settings: what the files say, checked, with an algorithm's preset beneath. A lazy front, for --help."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gossip.config.presets import PRESETS

if TYPE_CHECKING:
    from gossip.config.loading import load_task as load_task
    from gossip.config.task import EvaluateSettings as EvaluateSettings
    from gossip.config.task import NodeSettings as NodeSettings
    from gossip.config.task import StopSettings as StopSettings
    from gossip.config.task import TaskSettings as TaskSettings
    from gossip.config.task import TopologySettings as TopologySettings

_HOMES = {
    "EvaluateSettings": "gossip.config.task",
    "NodeSettings": "gossip.config.task",
    "StopSettings": "gossip.config.task",
    "TaskSettings": "gossip.config.task",
    "TopologySettings": "gossip.config.task",
    "load_task": "gossip.config.loading",
}

__all__ = [
    "PRESETS",
    "EvaluateSettings",
    "NodeSettings",
    "StopSettings",
    "TaskSettings",
    "TopologySettings",
    "load_task",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
