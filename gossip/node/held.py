"""Measurements wait until what they tell of is on the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossip.learner import Evaluation

HELD_MAX = 10_000
"""Measurements that wait for a checkpoint, a few hundred bytes each. Where the disk takes no checkpoint for longer, the
oldest are never told; the newest rounds' are worth more."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluated round."""

    entry: Mapping[str, Any]
    """Its line of metrics.jsonl."""
    evaluation: Evaluation

    @property
    def round(self) -> int:
        """Rounds done."""
        return int(self.entry["round"])


class Held:
    """Hands on the measurements of rounds that are on the disk, in their order.

    Args:
        tell: is given each of them.
        round: of the newest checkpoint on the disk.
    """

    def __init__(self, tell: Callable[[Measured], None], *, round: int) -> None:
        self._tell = tell
        self._round = round
        self._waiting: deque[Measured] = deque()
        self.dropped = 0

    def add(self, measured: Measured) -> None:
        """Take a measurement, and hand it on once its round is on the disk: perhaps at once."""
        if len(self._waiting) >= HELD_MAX:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(measured)
        self.saved(self._round)

    def saved(self, round: int) -> None:
        """Note that the checkpoint of `round` is on the disk."""
        self._round = max(self._round, round)
        while self._waiting and self._waiting[0].round <= self._round:
            self._tell(self._waiting.popleft())
