"""The peer node: one process, its trio shell around protocol, learning, net and storage. A lazy front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossip.node.options import NodeOptions

if TYPE_CHECKING:
    from gossip.node.node import Node as Node

__all__ = ["Node", "NodeOptions"]


def __getattr__(name: str) -> Any:
    if name == "Node":
        from gossip.node.node import Node

        return Node
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
