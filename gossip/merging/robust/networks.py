"""Sorting networks, cut down to the order statistics that are wanted, as programs over a few buffers.

A network compares fixed pairs, so it runs on whole blocks of columns at once: minimum and maximum of two rows.
Batcher's merge exchange (Knuth, The Art of Computer Programming 3, Algorithm 5.2.2M) sorts any number of rows.
Walking it backwards drops what nobody reads; and where a sum over several ranks is wanted, comparisons between
two of them, because a sum does not ask for their order.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

NETWORK_ROWS_MAX = 48
"""Above this the number of comparisons, about n log²n / 4, costs more than numpy's vectorised sort of each column."""


class Instruction(NamedTuple):
    """``places[target] = (maximum if is_maximum else minimum)(places[first], places[second])``."""

    is_maximum: bool
    first: int
    second: int
    target: int


class Selection(NamedTuple):
    """How to get the values of some ranks."""

    instructions: tuple[Instruction, ...]
    buffers: int
    """Places n … n + buffers - 1 are scratch; 0 … n - 1 are the inputs and only read."""
    outputs: tuple[int, ...]
    """The places where the wanted values lie in the end."""


def comparators(n: int) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of a network that sorts `n` values: the smaller goes to i."""
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0 and n > 1:
        q, r, d = top, 0, p
        while True:
            pairs.extend((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


@functools.lru_cache(maxsize=512)
def selection(n: int, first: int, last: int, *, ordered: bool = False) -> Selection:
    """Return the program for the values of ranks `first` … `last` - 1 (from 0) among `n`, in order if wanted."""
    kept = _pruned(n, first, last, ordered)
    place = list(range(n))  # where each wire's value lies
    free: list[int] = []
    buffers = 0
    instructions = []

    def scratch() -> int:
        nonlocal buffers
        if free:
            return free.pop()
        buffers += 1
        return n + buffers - 1

    for i, j, wants_minimum, wants_maximum in kept:
        a, b = place[i], place[j]
        if wants_minimum:
            place[i] = scratch()
            instructions.append(Instruction(False, a, b, place[i]))
        if wants_maximum:
            # The second and last reader of its inputs may write over one of them.
            own = b if b >= n else a if a >= n else -1
            place[j] = own if own >= 0 else scratch()
            instructions.append(Instruction(True, a, b, place[j]))
        free.extend(old for old in (a, b) if old >= n and old not in (place[i], place[j]))
    return Selection(tuple(instructions), buffers, tuple(place[first:last]))


def _pruned(n: int, first: int, last: int, ordered: bool) -> list[tuple[int, int, bool, bool]]:
    """Return the comparators that matter, each with which of its two results somebody reads."""
    needed = [first <= wire < last for wire in range(n)]
    unordered = [wire and not ordered for wire in needed]  # read by the final sum alone
    kept = []
    for i, j in reversed(comparators(n)):
        if not (needed[i] or needed[j]) or (unordered[i] and unordered[j]):
            continue
        kept.append((i, j, needed[i], needed[j]))
        needed[i] = needed[j] = True
        unordered[i] = unordered[j] = False
    kept.reverse()
    return kept
