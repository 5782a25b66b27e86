"""Randomness is derived, never shared: a draw depends on (run seed, purpose, peer, round) and on nothing else.

The order of events therefore never changes what a peer draws, and a run that is resumed draws what it
would have drawn. No module uses numpy's or torch's global generator.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

Words: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint32]]

POOL = 4
"""Words of entropy that `SeedSequence` keeps; as many as a seed, a purpose and a round are, as a rule."""

PCG64_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
"""Of PCG64, whose state is stepped to state · multiplier + increment modulo 2¹²⁸ before each word."""

_MASK = (1 << 32) - 1
_MASK_128 = (1 << 128) - 1


def seed_sequence(seed: int, purpose: str, *, peer: str = "", round: int = 0) -> np.random.SeedSequence:
    """Return the entropy for one purpose of one peer in one round.

    Names enter through BLAKE2b, so that a peer keeps its draws when others join or leave.
    """
    # Numpy makes the same words of a list of the numbers, and takes three times as long.
    return np.random.SeedSequence(np.array(_words(seed, purpose, peer, round), dtype=np.uint32))


def _words(seed: int, purpose: str, peer: str, round: int) -> list[int]:
    """Return the entropy in words of 32 bits, of each number the low ones first and as many as it has, one at least."""
    words: list[int] = []
    for number in map(operator.index, (seed, _number_of(purpose, peer), round)):
        if number < 0:
            raise ValueError(f"{number}: what draws depend on must not be negative")
        words.append(number & _MASK)
        while number := number >> 32:
            words.append(number & _MASK)
    return words


@functools.lru_cache(4096)
def _number_of(purpose: str, peer: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{purpose}\0{peer}".encode(), digest_size=8).digest(), "big")


def pcg64_states(seed: int, purpose: str, whose: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
    """Return state and increment of the PCG64 of each (peer, round), as `seed_sequence` seeds it: many in one go.

    Source: M. O'Neill, seed_seq_fe and PCG (HMC-CS-2014-0905), as numpy documents `SeedSequence` and `PCG64`.
    """
    entropy = [_words(seed, purpose, peer, round) for peer, round in whose]
    if any(len(words) != POOL for words in entropy):
        found = (
            np.random.PCG64(np.random.SeedSequence(np.array(each, np.uint32))).state["state"]
            for each in entropy
        )
        return [(int(state["state"]), int(state["inc"])) for state in found]
    states: list[tuple[int, int]] = []
    for words in _generated(np.array(entropy, np.uint32).reshape(-1, POOL).T).T.tolist():
        # Numbers of 64 bits have their low word first, those of 128 bits their high half.
        start, stream = (
            words[k + 1] << 96 | words[k] << 64 | words[k + 3] << 32 | words[k + 2] for k in (0, 4)
        )
        increment = (stream << 1 | 1) & _MASK_128
        states.append((((increment + start) * PCG64_MULTIPLIER + increment) & _MASK_128, increment))
    return states


def _generated(entropy: Words) -> Words:
    """Return the first eight words (8, n) of the sequences of `entropy` (4, n)."""
    hashed = _Hash(0x43B0D7E5, 0x931E8875)
    pool = [hashed(words) for words in entropy]
    for source in range(POOL):
        for target in (place for place in range(POOL) if place != source):
            mixed = np.uint32(0xCA01F9DD) * pool[target] - np.uint32(0x4973F715) * hashed(pool[source])
            pool[target] = mixed ^ mixed >> np.uint32(16)
    hashed = _Hash(0x8B51F9DD, 0x58F38DED)
    return np.stack([hashed(pool[place % POOL]) for place in range(2 * POOL)])


class _Hash:
    """Hashes words with a constant that changes from one call to the next."""

    def __init__(self, constant: int, multiplier: int) -> None:
        self._constant, self._multiplier = constant, multiplier

    def __call__(self, words: Words) -> Words:
        before, self._constant = self._constant, self._constant * self._multiplier & _MASK
        mixed = (words ^ np.uint32(before)) * np.uint32(self._constant)
        return mixed ^ mixed >> np.uint32(16)


def generator(seed: int, purpose: str, *, peer: str = "", round: int = 0) -> np.random.Generator:
    """Return a numpy generator for one purpose of one peer in one round."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, purpose, peer=peer, round=round)))


def integer_seed(seed: int, purpose: str, *, peer: str = "", round: int = 0) -> int:
    """Return 63 bits for libraries that want an integer seed (torch, networkx)."""
    state = seed_sequence(seed, purpose, peer=peer, round=round).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
