"""Sums of everybody's numbers of which nobody sees another's: secure aggregation by masks that cancel pairwise.

Peer i has numbers x_i, of which it gives away the share

    s_i = x_i + Σ_{j ∈ N(i), i < j} m_ij − Σ_{j ∈ N(i), j < i} m_ij   (mod 2^768),

where N(i) are its neighbours and m_ij = m_ji is known to i and j only. All masks are in the sum of all shares once with
each sign, so Σ s_i = Σ x_i, exactly: these are integers. A share alone is as good as drawn uniformly to whoever lacks
one of its masks (Bonawitz et al., CCS 2017, §4, whose pairwise masks these are; there a server sums, here everybody).

m_ij is SHAKE-256 of two seeds of 32 bytes, one drawn by each side from the operating system's randomness and told to
the other over the connection between the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SEED_BYTES = 32

NUMBER_BYTES = 96
"""Of a number modulo 2^768: see `sums`, what is summed has fewer bits."""

MODULUS = 1 << 8 * NUMBER_BYTES

_DOMAIN = b"gossip-node statistics: mask"


def mask(
    *, own: str, other: str, own_seed: bytes, other_seed: bytes, session: bytes, count: int
) -> list[int]:
    """Return what `own` adds to its numbers for the mask that it shares with `other`; the other adds the negative.

    Args:
        own: one peer's name.
        other: the other's.
        own_seed: 32 bytes that `own` has drawn for `other`.
        other_seed: 32 bytes that `other` has drawn for `own`.
        session: of another session the masks are others, too.
        count: how many numbers.
    """
    first = own < other
    parts = (own, other, own_seed, other_seed) if first else (other, own, other_seed, own_seed)
    stream = hashlib.shake_256(_DOMAIN)
    for part in (session, *parts):
        data = part.encode() if isinstance(part, str) else part
        stream.update(len(data).to_bytes(4, "big") + data)
    drawn = integers(stream.digest(NUMBER_BYTES * count))
    return drawn if first else [-number % MODULUS for number in drawn]


def added(rows: Iterable[Sequence[int]]) -> list[int]:
    """Return the sums of columns modulo 2^768: a share from numbers and masks, or all numbers' sums from all shares."""
    return [sum(column) % MODULUS for column in zip(*rows, strict=True)]


def packed(numbers: Sequence[int]) -> bytes:
    """Return numbers modulo 2^768 as they travel: 96 bytes each, the highest first."""
    return b"".join((number % MODULUS).to_bytes(NUMBER_BYTES, "big") for number in numbers)


def integers(data: bytes) -> list[int]:
    """Return what `packed` made bytes of.

    Raises:
        ValueError: these are other bytes.
    """
    if len(data) % NUMBER_BYTES:
        raise ValueError(f"{len(data)} bytes are no numbers of {NUMBER_BYTES}")
    return [int.from_bytes(data[at : at + NUMBER_BYTES], "big") for at in range(0, len(data), NUMBER_BYTES)]


def signed(number: int) -> int:
    """Return the integer nearest to zero that is `number` modulo 2^768."""
    return number - MODULUS if number >= MODULUS // 2 else number
