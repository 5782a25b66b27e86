"""What a node's time goes into."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossip.node.learning_thread import LearningThread


class Phases:
    """Seconds by phase since the process began to learn.

    train       local updates
    evaluate    on the test set
    merge       everything else that the learning thread does: merging, screening, adopting
    wait        when that thread has nothing to do: gossip on its way, neighbours that are waited for

    Checkpoints are written beside all of these, see `Saver.seconds`.
    """

    def __init__(self, thread: LearningThread) -> None:
        self._thread = thread
        self._began_s = time.monotonic()
        self._train_s = 0.0
        self._evaluate_s = 0.0
        self._told: Mapping[str, float] = self.as_dict()
        self._told_round = 0

    def trained(self) -> None:
        """Note that the job whose outcome is being handed back was a local update."""
        self._train_s += self._thread.last_s

    def evaluated(self) -> None:
        """Note that it was an evaluation."""
        self._evaluate_s += self._thread.last_s

    def as_dict(self) -> Mapping[str, float]:
        """Return phase -> seconds; they add up to the time that has passed."""
        busy_s = self._thread.busy_s
        return {
            "train": self._train_s,
            "evaluate": self._evaluate_s,
            "merge": max(0.0, busy_s - self._train_s - self._evaluate_s),
            "wait": max(0.0, time.monotonic() - self._began_s - busy_s),
        }

    def of_round(self, round: int) -> Mapping[str, float]:
        """Return phase -> seconds of a round, the mean of those since it was asked last, at an earlier one."""
        before, self._told = self._told, self.as_dict()
        rounds = max(1, round - self._told_round) if self._told_round else 1
        self._told_round = round
        return {
            name: float(f"{max(0.0, spent - before[name]) / rounds:.4g}")
            for name, spent in self._told.items()
        }
