"""Coordinate-wise median, trimmed mean and mean around the median of a few long vectors.

Blocks of columns that stay in the cache go through a sorting network; sums are float64. Results are in the
inputs' type, never beyond the values they come from, and equal inputs come out equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gossip.merging.blocks import slices
from gossip.merging.robust.distances import Vector
from gossip.merging.robust.networks import NETWORK_ROWS_MAX, selection

Columns: TypeAlias = Callable[[slice], Sequence[Vector]]
"""Gives the rows' entries in a slice: n arrays, which are only read."""
Statistic: TypeAlias = Callable[[Sequence[Vector], Vector], None]
"""Writes one value per column of n rows."""

BLOCK_BYTES = 3 * 2**18
"""Rows and buffers of one block together: they stay in the second-level cache."""
BLOCK_MIN = 512


def by_blocks(columns: Columns, statistic: Statistic, *, rows: int, out: Vector) -> None:
    """Fill `out` [P] with `statistic` of `rows` rows, block by block."""
    block = max(BLOCK_MIN, BLOCK_BYTES // (out.itemsize * (rows + 1)))
    for here in slices(len(out), block):
        statistic(columns(here), out[here])


def median(rows: Sequence[Vector], out: Vector) -> None:
    """Write the median of each column; for an even number of rows the mean of the two middle ones, rounded once."""
    n = len(rows)
    _mean(_ranks(rows, (n - 1) // 2, n // 2 + 1), out)


def trimmed_mean(rows: Sequence[Vector], out: Vector, *, f: int) -> None:
    """Write the mean of each column without its `f` smallest and `f` largest values, 2f < n."""
    _mean(_ranks(rows, f, len(rows) - f), out)


def mean_around_median(rows: Sequence[Vector], out: Vector, *, f: int) -> None:
    """Write the mean of the n - f values of each column nearest to its median.

    Values equally far that compete for the last places share them, so that no order of the rows matters.
    """
    keep = len(rows) - f
    middle = np.empty_like(out)
    median(rows, middle)
    with np.errstate(over="ignore"):  # values at opposite ends of the range: infinitely far, which is right
        away = [np.abs(row - middle) for row in rows]
    (reach,) = _ranks(away, keep - 1, keep)
    total, ties = np.zeros(len(out)), np.zeros(len(out))
    inside, tied = np.zeros(len(out)), np.zeros(len(out))
    for row, distance in zip(rows, away, strict=True):
        nearer, level = distance < reach, distance == reach
        inside += nearer
        tied += level
        np.add(total, row, out=total, where=nearer)
        np.add(ties, row, out=ties, where=level)
    np.divide(total + (keep - inside) * (ties / tied), keep, out=out, casting="same_kind")


def _mean(values: Sequence[Vector], out: Vector) -> None:
    if len(values) == 1:
        out[:] = values[0]
        return
    total = np.add(values[0], values[1], dtype=np.float64)
    for value in values[2:]:
        total += value
    np.divide(total, len(values), out=out, casting="same_kind")


def _ranks(rows: Sequence[Vector], first: int, last: int) -> Sequence[Vector]:
    """Return for each column the values of ranks `first` … `last` - 1, in no particular order of their rows."""
    n = len(rows)
    if n > NETWORK_ROWS_MAX:
        sorted_columns: NDArray[np.floating] = np.sort(np.stack(rows, axis=-1), axis=-1)
        return list(np.ascontiguousarray(sorted_columns[:, first:last].T))
    instructions, buffers, outputs = selection(n, first, last)
    length = len(rows[0])
    places = [*rows, *np.empty((buffers, length), rows[0].dtype)]
    for is_maximum, a, b, target in instructions:
        (np.maximum if is_maximum else np.minimum)(places[a], places[b], out=places[target])
    return [places[output] for output in outputs]
