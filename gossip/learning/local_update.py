"""`LocalTraining` under the name by which scripts of one's own may know it; `gossip.learning.updates` are its steps."""

from gossip.learning.local_training import LocalTraining as LocalUpdate

__all__ = ["LocalUpdate"]
