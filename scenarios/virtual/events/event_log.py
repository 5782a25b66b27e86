"""The ordered log of a virtual run: every event and every action, as a SHA-256 that two equal runs share."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FLUSH_NUMBERS = 6 * 2048
"""Few enough that what waits stays in the processor's caches."""

Entries: TypeAlias = NDArray[np.float64]
"""(n, 6)"""


class Did(IntEnum):
    """What an entry tells."""

    START = 1
    DELIVER = 2
    TIMER = 3
    TRAINED = 4
    PEER = 5
    SEND = 6
    SET_TIMER = 7
    TRAIN = 8
    MERGE = 9
    ADOPT = 10
    ROUND = 11
    REJECT = 12
    FINISH = 13
    FAULT = 14
    SCORE = 15


class EventLog:
    """Hashes entries of (time, what, peer, other, and two numbers), as little-endian doubles; keeps none.

    An entry is six numbers in one flat list, which costs a tenth of packing each one by itself.

    Args:
        read: gets the entries, many at a time, before they are gone.
    """

    def __init__(self, read: Callable[[Entries], None] | None = None) -> None:
        self._read = read
        self._digest = hashlib.sha256()
        self.numbers: list[float] = []
        """Six of each entry not yet hashed. The hottest callers extend it themselves, and `flush_if_long` sometimes."""
        self._hashed = 0

    def add(self, time_s: float, did: int, peer: int, other: int = -1, a: int = 0, b: int = 0) -> None:
        """Append an entry."""
        numbers = self.numbers
        numbers += (time_s, did, peer, other, a, b)

    def flush_if_long(self) -> None:
        """Hash what has gathered, where that is much."""
        if len(self.numbers) >= FLUSH_NUMBERS:
            self.flush()

    @property
    def entries(self) -> int:
        """How many there were."""
        return (self._hashed + len(self.numbers)) // 6

    def hexdigest(self) -> str:
        """Return the digest of everything so far."""
        self.flush()
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Hash what has gathered."""
        # By `array`, which reads a list of mixed numbers several times as fast as numpy does.
        entries = np.frombuffer(array("d", self.numbers)).reshape(-1, 6)
        self._digest.update(entries.astype("<f8", copy=False).data)
        self._hashed += len(self.numbers)
        self.numbers.clear()
        if self._read is not None:
            self._read(entries)
