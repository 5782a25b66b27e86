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
from gossip.merging.robust.scratch import scratch

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


def mean_around_median(rows: Sequence[Vector], out: Vector, *, f: int, rounding: float = 0.0) -> None:
    """Write the mean of the n - f values of each column nearest to its median.

    In order of size they are neighbours: of the i-th smallest and the i-th of the f largest exactly one is among
    them, the nearer one. Where both are equally far each counts half, so that no order of the rows matters.

    Args:
        rows: n rows.
        out: where to write.
        f: so many values of each column are left out.
        rounding: by what share of a column's largest its values may be wrong, for rows that are sums.
    """
    n, length = len(rows), len(out)
    keep = n - f
    ordered = _ranks(rows, 0, n, ordered=True)
    middle, total, below, above = scratch("around", (4, length))
    np.add(ordered[(n - 1) // 2], ordered[n // 2], out=middle, dtype=np.float64)
    middle *= 0.5
    total.fill(0)
    for value in ordered[f:keep]:
        total += value
    for low, high in zip(ordered[:f], ordered[keep:], strict=True):
        np.subtract(middle, low, out=below)
        np.subtract(high, middle, out=above)
        total += np.where(below < above, low, high)
        tied = below == above
        if rounding:
            tied |= np.abs(below - above) <= rounding * np.maximum(np.abs(ordered[0]), np.abs(ordered[-1]))
        if tied.any():
            other = np.where(below < above, high, low)[tied].astype(np.float64)
            total[tied] += (other - np.where(below < above, low, high)[tied]) / 2
    np.divide(total, keep, out=out, casting="same_kind")


def _mean(values: Sequence[Vector], out: Vector) -> None:
    if len(values) == 1:
        out[:] = values[0]
        return
    total = np.add(values[0], values[1], out=scratch("mean", (len(out),)), dtype=np.float64)
    for value in values[2:]:
        total += value
    np.divide(total, len(values), out=out, casting="same_kind")


def _ranks(rows: Sequence[Vector], first: int, last: int, *, ordered: bool = False) -> Sequence[Vector]:
    """Return for each column the values of ranks `first` … `last` - 1, ascending only where `ordered`."""
    n = len(rows)
    if n > NETWORK_ROWS_MAX:
        sorted_columns: NDArray[np.floating] = np.sort(np.stack(rows, axis=-1), axis=-1)
        return list(np.ascontiguousarray(sorted_columns[:, first:last].T))
    instructions, buffers, outputs = selection(n, first, last, ordered=ordered)
    length = len(rows[0])
    places = [*rows, *scratch("network", (buffers, length), rows[0].dtype)]
    for is_maximum, a, b, target in instructions:
        (np.maximum if is_maximum else np.minimum)(places[a], places[b], out=places[target])
    return [places[output] for output in outputs]
