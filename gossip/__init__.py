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
    from gossip.inference.loaded import LoadedModel as LoadedModel
    from gossip.inference.loaded import load as load
    from gossip.learner import Learner as Learner
    from gossip.learning.objectives.base import Objective as Objective
    from gossip.learning.task import Task as Task
    from gossip.learning.updates.base import LocalUpdate as LocalUpdate
    from gossip.merging.base import Merge as Merge
    from gossip.node import Node as Node
    from gossip.outgoing.base import Outgoing as Outgoing
    from gossip.parameters import ParameterSpace as ParameterSpace
    from gossip.protocols.base import Context as Context
    from gossip.protocols.base import Contribution as Contribution
    from gossip.protocols.base import GossipStep as GossipStep
    from gossip.protocols.base import Message as Message
    from gossip.protocols.base import Model as Model
    from gossip.protocols.base import Protocol as Protocol
    from gossip.protocols.base import RoundCompleted as RoundCompleted
    from gossip.settings import Choice as Choice
    from gossip.settings import Seam as Seam
    from gossip.settings import Settings as Settings
    from gossip.stages import Rows as Rows
    from gossip.telemetry.loggers.base import Logger as Logger
    from gossip.wire.codecs.base import Codec as Codec

_HOMES = {
    "Choice": "gossip.settings",
    "Codec": "gossip.wire.codecs.base",
    "Context": "gossip.protocols.base",
    "Contribution": "gossip.protocols.base",
    "GossipStep": "gossip.protocols.base",
    "Learner": "gossip.learner",
    "LoadedModel": "gossip.inference.loaded",
    "LocalUpdate": "gossip.learning.updates.base",
    "Logger": "gossip.telemetry.loggers.base",
    "Merge": "gossip.merging.base",
    "Message": "gossip.protocols.base",
    "Model": "gossip.protocols.base",
    "Node": "gossip.node",
    "Objective": "gossip.learning.objectives.base",
    "Outgoing": "gossip.outgoing.base",
    "ParameterSpace": "gossip.parameters",
    "Protocol": "gossip.protocols.base",
    "RoundCompleted": "gossip.protocols.base",
    "Rows": "gossip.stages",
    "Seam": "gossip.settings",
    "Settings": "gossip.settings",
    "Task": "gossip.learning.task",
    "load": "gossip.inference.loaded",
}
_PACKAGES = frozenset({"merging", "protocols"})

__all__ = [
    "Choice",
    "Codec",
    "Context",
    "Contribution",
    "GossipStep",
    "Learner",
    "LoadedModel",
    "LocalUpdate",
    "Logger",
    "Merge",
    "Message",
    "Model",
    "Node",
    "Objective",
    "Outgoing",
    "ParameterSpace",
    "Protocol",
    "RoundCompleted",
    "Rows",
    "Seam",
    "Settings",
    "Task",
    "__version__",
    "load",
    "merging",
    "protocols",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
