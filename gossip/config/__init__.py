"""Settings: what the files say, checked, with an algorithm's preset beneath."""

from gossip.config.loading import load_task
from gossip.config.presets import PRESETS
from gossip.config.task import (
    EvaluateSettings,
    NodeSettings,
    StopSettings,
    TaskSettings,
    TopologySettings,
)

__all__ = [
    "PRESETS",
    "EvaluateSettings",
    "NodeSettings",
    "StopSettings",
    "TaskSettings",
    "TopologySettings",
    "load_task",
]
