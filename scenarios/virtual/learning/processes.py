"""What the processes of simulated peers hold beside models and rows of numbers; it is gone when they end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from gossip.learner import Learner
from gossip.merging.sanitise import Sanitiser


class Process:
    """Of one peer: made when it is first needed."""

    __slots__ = ("correction", "learner", "sanitiser")

    def __init__(self) -> None:
        self.learner: Learner | None = None
        """For peers whose rule, or whose training, is computed one by one."""
        self.sanitiser: Sanitiser | None = None
        """Where no learner has one."""
        self.correction: Any = None
        """`Correction.memory`, where the rule of the run has one."""


class Processes(defaultdict[int, Process]):
    """By the peer's number.

    Args:
        make_learner: a peer -> what learns for it alone.
    """

    def __init__(self, make_learner: Callable[[int], Learner]) -> None:
        super().__init__(Process)
        self._make_learner = make_learner

    def learner(self, peer: int) -> Learner:
        """Return what learns for the peer alone."""
        process = self[peer]
        if process.learner is None:
            process.learner = self._make_learner(peer)
        return process.learner

    def blamed(self, peer: int) -> str | None:
        """Return what the peer's rule is to blame for, where it is; see `gossip.merging.outcome`."""
        learner = self[peer].learner if peer in self else None
        return None if learner is None else learner.blamed
