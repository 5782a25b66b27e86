"""A peer that learns with its neighbours: gossip learning with no server.

The front is lazy (PEP 562): the command line parses its arguments before anything imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gossip import merging as merging
    from gossip import protocols as protocols
    from gossip.learner import Learner as Learner
    from gossip.learning.task import Task as Task
    from gossip.node import Node as Node
    from gossip.parameters import ParameterSpace as ParameterSpace

_HOMES = {
    "Learner": "gossip.learner",
    "Node": "gossip.node",
    "ParameterSpace": "gossip.parameters",
    "Task": "gossip.learning.task",
}
_PACKAGES = frozenset({"merging", "protocols"})

__all__ = ["Learner", "Node", "ParameterSpace", "Task", "__version__", "merging", "protocols"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
