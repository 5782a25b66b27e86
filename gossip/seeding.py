"""Randomness is derived, never shared: a draw depends on (run seed, purpose, peer, round) and on nothing else.

The order of events therefore never changes what a peer draws, and a run that is resumed draws what it
would have drawn. No module uses numpy's or torch's global generator.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, purpose: str, *, peer: str = "", round: int = 0) -> np.random.SeedSequence:
    """Return the entropy for one purpose of one peer in one round.

    Names enter through BLAKE2b, so that a peer keeps its draws when others join or leave.
    """
    name = hashlib.blake2b(f"{purpose}\0{peer}".encode(), digest_size=8).digest()
    return np.random.SeedSequence([seed, int.from_bytes(name, "big"), round])


def generator(seed: int, purpose: str, *, peer: str = "", round: int = 0) -> np.random.Generator:
    """Return a numpy generator for one purpose of one peer in one round."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, purpose, peer=peer, round=round)))


def integer_seed(seed: int, purpose: str, *, peer: str = "", round: int = 0) -> int:
    """Return 63 bits for libraries that want an integer seed (torch, networkx)."""
    state = seed_sequence(seed, purpose, peer=peer, round=round).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
