"""What a codec may draw: of the run's seed, the sender and the message, the same in every process."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gossip import seeding
from gossip.protocols.base import Message, PeerId


class Draws(NamedTuple):
    """The random words of one message. Whoever knows the seed knows them: never for privacy."""

    seed: int
    peer: PeerId
    number: int
    """Of the message among the sender's."""

    @classmethod
    def of(cls, message: Message, *, seed: int, peer: PeerId) -> Draws:
        """Return the draws of `peer`'s `message`."""
        return cls(seed, peer, message.number)

    def words(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return `count` random words of 32 bits: raw output of PCG64, which numpy fixes for ever."""
        generator = seeding.generator(self.seed, "codec", peer=self.peer, round=self.number)
        raw = generator.bit_generator.random_raw((count + 1) // 2)
        return np.asarray(raw, dtype="<u8").view("<u4")[:count]
