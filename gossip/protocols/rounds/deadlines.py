"""How long to wait for a neighbour: learnt from how long that neighbour took before.

A fixed timeout is either too short for a slow link or a long stall for a dead one. The estimate is
median + k · MAD of its recent arrival delays (the median absolute deviation, which a few wild delays do not
move), with a floor under the margin and a cap over all. It is kept per neighbour: a slow but regular machine
among fast ones is known as such. What a protocol makes of that is its own: see `rounds.patience`, `modest.patience`.
"""

from __future__ import annotations

from array import array

SAMPLES_MAX = 16
"""Delays remembered per neighbour: few, so that the estimate follows a changing network and stays small."""

SAMPLES_MIN = 3
"""Below this there is no estimate: one early arrival says nothing about the next."""


class ArrivalDeadline:
    """The adaptive deadline of one kind of wait for one neighbour."""

    __slots__ = ("_count", "_delays_s")

    def __init__(self) -> None:
        self._delays_s = array("d")
        self._count = 0

    def observe(self, delay_s: float) -> None:
        """Note that a model came `delay_s` after the wait began (0 when it was there already)."""
        delay_s = delay_s if delay_s > 0.0 else 0.0
        if self._count < SAMPLES_MAX:
            self._delays_s.append(delay_s)
        else:
            self._delays_s[self._count % SAMPLES_MAX] = delay_s
        self._count += 1

    @property
    def known(self) -> bool:
        """Whether there are enough of them for an estimate."""
        return self._count >= SAMPLES_MIN

    def usually_within(self, delay_s: float) -> bool:
        """Return whether the next one is to be expected within `delay_s`; where too little is known, it may be."""
        # Most neighbours have never been later than that, and every step asks.
        return not self.known or max(self._delays_s) <= delay_s or _median(self._delays_s) <= delay_s

    def delay_s(self, *, k: float, floor_s: float, cap_s: float) -> float:
        """Return how long to wait next, by what is known of this neighbour alone; the cap if that is little."""
        if not self.known:
            return cap_s
        middle = _median(self._delays_s)
        spread = _median([abs(delay - middle) for delay in self._delays_s])
        # The floor is a margin over the median: delays that never vary have a spread of zero.
        return min(cap_s, middle + max(floor_s, k * spread))


def _median(values: array[float] | list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
