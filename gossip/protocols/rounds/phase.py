"""Where in a round a peer stands; the table of its ways is in the package."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where in a round a peer stands."""

    READY = "ready"
    TRAINING = "training"
    GOSSIPING = "gossiping"
    FINISHED = "finished"

    @property
    def in_round(self) -> bool:
        """Whether a round has begun that is not done."""
        return self in (Phase.TRAINING, Phase.GOSSIPING)
