"""The ordered log of a virtual run: every event and every action, as a SHA-256 that two equal runs share."""

from __future__ import annotations

import hashlib
import sys
from array import array
from enum import IntEnum

FLUSH_NUMBERS = 6 * 8192


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


class EventLog:
    """Hashes entries of (time, what, peer, other, and two numbers), as little-endian doubles; keeps none.

    An entry is six numbers in one flat list, which costs a tenth of packing each one by itself.
    """

    def __init__(self) -> None:
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
            self._flush()

    @property
    def entries(self) -> int:
        """How many there were."""
        return (self._hashed + len(self.numbers)) // 6

    def hexdigest(self) -> str:
        """Return the digest of everything so far."""
        self._flush()
        return self._digest.hexdigest()

    def _flush(self) -> None:
        numbers = array("d", self.numbers)
        if sys.byteorder == "big":
            numbers.byteswap()
        self._digest.update(numbers.tobytes())
        self._hashed += len(self.numbers)
        self.numbers.clear()
