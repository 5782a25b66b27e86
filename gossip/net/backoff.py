"""How long to wait before dialling again: doubling, bounded, and with jitter so that peers do not knock in step."""

from __future__ import annotations

import numpy as np


class Backoff:
    """The n-th wait is drawn from [0.5, 1] · min(maximum, minimum · 2^n)."""

    def __init__(self, *, min_s: float, max_s: float, rng: np.random.Generator) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._rng = rng
        self._next_s = min_s

    def reset(self) -> None:
        """Begin anew, after a connection that worked."""
        self._next_s = self._min_s

    def wait_s(self) -> float:
        """Return the next wait in seconds."""
        wait_s = self._next_s
        self._next_s = min(self._max_s, 2 * wait_s)
        return wait_s * float(self._rng.uniform(0.5, 1.0))
