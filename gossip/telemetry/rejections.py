"""Which refusals are worth a line: a neighbour that sends nothing but nonsense must not fill the disk."""

from __future__ import annotations

from collections import Counter

KINDS_MAX = 4096
"""Pairs of a peer and a reason that are told apart. Reasons are few; peers are those of the peers file, and strangers
are one."""


class Rejections:
    """Counts by peer and reason; the 1st, 2nd, 4th, 8th … of each is told, so n of them cost log₂ n lines."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str | None, str]] = Counter()

    def note(self, other: str | None, reason: str) -> int | None:
        """Count one; return how many there were by now where that is to be told."""
        key = (other, reason)
        if key not in self._counts and len(self._counts) >= KINDS_MAX:
            return None
        self._counts[key] += 1
        count = self._counts[key]
        return count if count & (count - 1) == 0 else None
