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
