"""WHAT is learnt locally: tasks, models, data, partitions, local updates. A lazy front: see `gossip`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossip.learning.data import Dataset as Dataset
    from gossip.learning.evaluation import Evaluation as Evaluation
    from gossip.learning.local_training import LocalTraining as LocalTraining
    from gossip.learning.task import Shard as Shard
    from gossip.learning.task import Task as Task

_HOMES = {
    "Dataset": "gossip.learning.data",
    "Evaluation": "gossip.learning.evaluation",
    "LocalTraining": "gossip.learning.local_training",
    "Shard": "gossip.learning.task",
    "Task": "gossip.learning.task",
}

__all__ = ["Dataset", "Evaluation", "LocalTraining", "Shard", "Task"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
