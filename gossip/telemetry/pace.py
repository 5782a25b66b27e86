"""How far something is, in few characters: how long it still takes, and how a number has changed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

TREND = "▁▂▃▄▅▆▇█"
TREND_POINTS = 24


class TimeLeft:
    """How long so many rounds still take, by the pace since the first of them."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._first: tuple[float, float] | None = None
        self.seconds: float | None = None
        """On the wall; None as long as nobody knows."""

    def note(self, done: float) -> None:
        """Note how many rounds are done, the peers' mean."""
        now_s = time.monotonic()
        if self._first is None or done < self._first[0]:
            # What comes before the first round is no round.
            self._first = (done, now_s) if done > 0 else None
            return
        gone = done - self._first[0]
        if gone > 0:
            self.seconds = max(0.0, self._rounds - done) * (now_s - self._first[1]) / gone


def trend(values: Sequence[float]) -> str:
    """Return the last of the values as small bars, the lowest of them the smallest."""
    shown = [value for value in values if math.isfinite(value)][-TREND_POINTS:]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    step = (high - low) / (len(TREND) - 1) or 1.0
    return "".join(TREND[round((value - low) / step)] for value in shown)


def seconds(value: float) -> str:
    """Return e.g. ``42 s``, ``7 min`` or ``2.5 h``."""
    if value < 90:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def left_told(value: float | None) -> str:
    """Return how long it still takes, "" as long as nobody knows."""
    return "" if value is None else f"  about {seconds(max(1.0, value))} to go"
