"""What `gossip-node new` writes: a task, a loader of own rows, a network and a scenario that run as they are."""

from gossip.starter.folder import write

__all__ = ["write"]
