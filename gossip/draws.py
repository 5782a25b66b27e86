"""What a codec may draw: of the run's seed, the sender and the message, the same in every process."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from gossip import seeding
from gossip.protocols.base import GossipStep, Message, ModelMessage, PeerId

PURPOSE = "codec"

Halves16: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint16]]
"""Random words of 16 bits."""

Halves: TypeAlias = Callable[[int], Halves16]
"""The next so many random words of 16 bits: a multiple of four, unless it is the last time."""


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

    @classmethod
    def at(cls, step: GossipStep, *, seed: int, peer: PeerId) -> Draws:
        """Return the draws of the model that `peer` sent for a gossip step."""
        return cls(seed, peer, ModelMessage(round=step.round, step=step.step, model=None).number)

    def words(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return `count` random words of 32 bits: raw output of PCG64, which numpy fixes for ever."""
        raw = _source(self).random_raw((count + 1) // 2)
        return np.asarray(raw, dtype="<u8").view("<u4")[:count]

    def halves(self) -> Halves:
        """Return what gives the 16-bit halves of `words`, low half first, piece by piece."""
        return functools.partial(_halves, _source(self))

    def generator(self) -> tuple[int, int, int]:
        """Return the state of PCG64 before the first of the `words`, the multiplier and the increment."""
        now = _source(self).state["state"]
        return int(now["state"]), seeding.PCG64_MULTIPLIER, int(now["inc"])


def halves_of(all_draws: Sequence[Draws], count: int) -> Iterator[Halves16]:
    """Yield the first `count` halves of each, which `halves` would give: less work to begin with."""
    source = np.random.PCG64(0)
    state = source.state
    for seed, each in itertools.groupby(all_draws, key=operator.attrgetter("seed")):
        whose = [(draws.peer, draws.number) for draws in each]
        for now, increment in seeding.pcg64_states(seed, PURPOSE, whose):
            state["state"] = {"state": now, "inc": increment}
            source.state = state
            yield _halves(source, count)


def _halves(source: np.random.PCG64, count: int) -> Halves16:
    return np.asarray(source.random_raw((count + 3) // 4), dtype="<u8").view("<u2")[:count]


def _source(draws: Draws) -> np.random.PCG64:
    return np.random.PCG64(seeding.seed_sequence(draws.seed, PURPOSE, peer=draws.peer, round=draws.number))
