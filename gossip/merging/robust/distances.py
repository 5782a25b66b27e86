"""Squared distances and inner products of a few long vectors, with float64 sums.

One pass over memory: each block is widened to float64, a reference is subtracted, and the block's products go
into an n × n matrix. The reference takes away what the models have in common, which otherwise drowns their
differences in rounding; pairs that are much closer to each other than to the reference are measured again from
one of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gossip.merging.blocks import slices
from gossip.merging.robust.scratch import scratch

Vector = NDArray[np.floating]  # (P,) float32 or float64
Matrix = NDArray[np.float64]

BLOCK_BYTES = 5 * 2**19
"""Of one float64 block of all rows: shared cache is large enough, and calls are few enough to cost nothing."""
BLOCK_MIN = 512
ROWS_BY_PRODUCTS_MAX = 12
"""Up to so many rows matrix-vector products beat the library's rank-k update, whose tiles they do not fill."""
CANCELLATION = 1e-8
"""Where d² falls below this share of the two squared norms it is subtracted from, fewer than 7 digits may be left."""


def gram(rows: Sequence[Vector], reference: Vector) -> Matrix:
    """Return ⟨x_i - r, x_j - r⟩ for all pairs (n, n). A row that is `reference` itself costs nothing."""
    moved = [index for index, row in enumerate(rows) if row is not reference]
    full = np.zeros((len(rows), len(rows)))
    if not moved:
        return full
    count, size = len(moved), len(reference)
    block = _block(count + 1, size)
    differences, base = scratch("differences", (count, block)), scratch("base", (block,))
    part = np.zeros((count, count))
    for here in slices(size, block):
        centred = _centred([rows[index] for index in moved], reference, here, differences, base)
        if count <= ROWS_BY_PRODUCTS_MAX:
            for index in range(count):
                part[index, : index + 1] += centred[: index + 1] @ centred[index]
        else:
            part += centred @ centred.T
    lower = np.tril(part)
    full[np.ix_(moved, moved)] = lower + np.tril(lower, -1).T
    return full


def squared_norms(rows: Sequence[Vector], reference: Vector) -> Matrix:
    """Return ||x_i - r||² (n,)."""
    norms = np.zeros(len(rows))
    size = len(reference)
    block = _block(2, size)
    difference, base = scratch("differences", (1, block)), scratch("base", (block,))
    for here in slices(size, block):
        for index, row in enumerate(rows):
            if row is not reference:
                centred = _centred([row], reference, here, difference, base)[0]
                norms[index] += centred @ centred
    return norms


def squared_distances(rows: Sequence[Vector], products: Matrix | None = None) -> Matrix:
    """Return ||x_i - x_j||² (n, n), symmetric with a zero diagonal, each entry to about seven digits or better.

    Args:
        rows: n vectors [P].
        products: what `gram` said of them with any reference; measured here from the first row where not given.
    """
    if products is None:
        products = gram(rows, rows[0])
    squared = from_gram(products)
    norms = np.diagonal(products)
    close = squared < CANCELLATION * (norms[:, None] + norms[None, :])
    np.fill_diagonal(close, False)
    for members in _clusters(close) if close.any() else ():
        if len(members) > 1:
            # A member's distances from itself, the new reference, are exact: what is measured again gets fewer.
            again = squared_distances([rows[index] for index in members])
            squared[np.ix_(members, members)] = again
    return squared


def from_gram(products: Matrix) -> Matrix:
    """Return squared distances from inner products: d²_ij = g_ii + g_jj - 2 g_ij."""
    norms = np.diagonal(products)
    squared: Matrix = np.maximum(norms[:, None] + norms[None, :] - 2 * products, 0.0)
    np.fill_diagonal(squared, 0.0)
    return squared


def _centred(
    rows: Sequence[Vector], reference: Vector, here: slice, differences: Matrix, base: Matrix
) -> Matrix:
    """Return float64 differences (n, length of `here`), in the space of `differences`."""
    length = here.stop - here.start
    centred, origin = differences[:, :length], base[:length]
    for target, row in zip(centred, rows, strict=True):
        target[:] = row[here]
    origin[:] = reference[here]
    centred -= origin
    return centred


def _clusters(close: NDArray[np.bool_]) -> list[list[int]]:
    """Return the connected components of the graph with these edges, members ascending."""
    left = set(range(len(close)))
    found = []
    while left:
        frontier = [min(left)]
        members: set[int] = set()
        while frontier:
            index = frontier.pop()
            if index in left:
                left.discard(index)
                members.add(index)
                frontier.extend(np.flatnonzero(close[index]).tolist())
        found.append(sorted(members))
    return found


def _block(rows: int, size: int) -> int:
    return max(1, min(size, max(BLOCK_MIN, BLOCK_BYTES // (8 * rows))))
