"""The k largest of each row, exactly, in fewer passes than sorting takes: by halving what the k-th may be.

The upper 16 bits of a key are searched for, all rows side by side: to count what is above a guess costs two passes over
memory that stays in the cache, and guesses from a sample of the row leave some six of them. What is above the bucket
that is found is in, what is below is out, and of those within, mostly a few, the lower 16 bits decide, then the place.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

LONG = 1024
"""Shorter rows are partitioned: a sample tells nothing of them that is not as easily found out."""
SAMPLED = 16
"""Of so many numbers of a row one is in the sample."""
DEVIATIONS = 4.5
"""How many standard deviations of a sample's rank the first two guesses are apart from what is looked for."""
FEW = 1 / 32
"""Up to this share of all numbers in the buckets, those are sorted; else their lower bits are searched for, too."""

_LEAST, _MOST = -(2**15), 2**15 - 1


def largest_of_rows(keys: Array, kept: int) -> Array:
    """Return where the `kept` (at least 1) largest of each row of `keys` (n, l), int32, are, as bool.

    Of equal ones the lower places are taken.
    """
    length = keys.shape[1]
    if kept >= length:
        return np.ones(keys.shape, bool)
    if length < LONG:
        threshold = np.partition(keys, length - kept, axis=1)[:, length - kept, None]
        there = keys > threshold
        return _first_of(keys == threshold, kept - _counts(there), there)
    upper = np.right_shift(keys, 16, out=np.empty(keys.shape, np.int16), casting="unsafe")
    there = np.empty(keys.shape, bool)
    room = np.full(len(keys), kept)
    bucket = _nth_largest(upper, room, there, _guesses(upper, kept))
    candidates = _above(upper, bucket, room, there)
    if np.count_nonzero(candidates) <= FEW * keys.size:
        return _few(candidates, keys, room, there)
    one = keys[np.arange(len(keys)), candidates.argmax(axis=1)]
    if (_counts(keys == one[:, None]) == _counts(candidates)).all():
        return _first_of(candidates, room, there)
    # What is no candidate is never above anything.
    lower = np.where(candidates, (keys & 0xFFFF) - 2**15, _LEAST).astype(np.int16)
    more = np.empty(keys.shape, bool)
    bucket = _nth_largest(lower, room, more, ())
    candidates &= _above(lower, bucket, room, more)
    there |= more
    return _first_of(candidates, room, there)


def _counts(there: Array) -> Array:
    """Return how many are true in each row (n,)."""
    short = np.uint16 if there.shape[1] < 2**16 else np.uint32  # the shorter, the faster
    counts: Array = np.add.reduce(there.view(np.uint8), axis=1, dtype=short).astype(np.int64)
    return counts


def _above(values: Array, bucket: Array, room: Array, out: Array) -> Array:
    """Write what is above its row's bucket to `out`, take it off the row's room, and return what is in the bucket."""
    np.greater(values, bucket, out=out)
    room -= _counts(out)
    found: Array = values == bucket
    return found


def _nth_largest(values: Array, kept: Array, scratch: Array, guesses: tuple[Array, ...]) -> Array:
    """Return the `kept` (n,) -th largest of each row of `values` (n, l), int16: (n, 1)."""
    # Above `low` are at least `kept`, above `high` fewer; once they are neighbours it is `high`.
    low, high = np.full(len(values), _LEAST - 1), np.full(len(values), _MOST)
    ahead = iter(guesses)
    while (high - low > 1).any():
        guess = np.clip(next(ahead, (low + high) // 2), low + 1, np.maximum(high - 1, low + 1))
        np.greater(values, guess[:, None].astype(np.int16), out=scratch)
        few = _counts(scratch) < kept
        # Where they are neighbours the guess is `high`, above which are few.
        high, low = np.where(few, guess, high), np.where(few, low, guess)
    return high[:, None].astype(np.int16)


def _guesses(upper: Array, kept: int) -> tuple[Array, Array]:
    """Return, for each row, a number that is likely to be above the `kept`-th largest, and one below."""
    sample = np.sort(upper[:, ::SAMPLED], axis=1)
    size, share = sample.shape[1], kept / upper.shape[1]
    rank, apart = size * (1 - share), DEVIATIONS * (size * share * (1 - share)) ** 0.5 + 1
    over, under = (min(size - 1, max(0, round(place))) for place in (rank + apart, rank - apart))
    return sample[:, over].astype(np.int64), sample[:, under].astype(np.int64) - 1


def _few(candidates: Array, keys: Array, room: Array, there: Array) -> Array:
    """Add to `there` the `room` (n,) largest of each row's candidates, which share their upper bits."""
    places = np.flatnonzero(candidates)
    row = places // keys.shape[1]
    # Ascending: the row, then the larger key, then, for sorting is stable, the lower place.
    order = np.argsort((row << 16) | (0xFFFF - (keys.reshape(-1)[places] & 0xFFFF)), kind="stable")
    counts = _counts(candidates)
    rank = np.arange(len(places)) - (np.cumsum(counts) - counts)[row]
    there.reshape(-1)[places[order[rank < room[row]]]] = True
    return there


def _first_of(candidates: Array, room: Array, there: Array) -> Array:
    """Add to `there` the first `room` (n,) of each row's candidates, which are equal."""
    tied = _counts(candidates) > room
    if tied.any():
        rows = candidates[tied]
        short = np.int16 if rows.shape[1] < 2**15 else np.int64
        rows &= np.cumsum(rows, axis=1, dtype=short) <= room[tied, None]
        candidates[tied] = rows
    there |= candidates
    return there
