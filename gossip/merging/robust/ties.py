"""Choosing the smallest of some numbers where several are equal: what names or places decide, nobody has decided.

Distances of equal models, of models of which a clipping has made the norms equal, and of the two that are nearest to
each other are equal, up to rounding. Which of them come first in a sort would depend on the peers' names, or on the
last bit of a sum. So equal ones share what is to be had; where only one can be taken, its contents decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gossip.merging.blocks import slices

Matrix = NDArray[np.float64]
Vector = NDArray[np.floating]
Places = NDArray[np.intp]

TIE = 1e-7
"""Numbers nearer to each other than this share of the larger are equal: distances have some seven digits."""
CONTENT_BLOCK = 4096
CONTENT_ROUNDINGS = 8
"""So many roundings of the models' type may lie between two coordinates that are the same."""


class Chosen(NamedTuple):
    """Some of many."""

    places: Places  # (k,) ascending by value
    shares: Matrix  # (k,)
    """How far each is among the chosen: 1, or less for those that tie for the last places."""


def smallest(values: Matrix, keep: int, *, then: Matrix | None = None, slack: Matrix | None = None) -> Chosen:
    """Return the `keep` smallest of `values` (n); of equals at the end each the same share of the places left.

    Args:
        values: finite.
        keep: of so many in all.
        then: decides between equals first (n).
        slack: by how much each value may be wrong beyond `TIE` (n).
    """
    order = np.argsort(values, kind="stable")
    if keep >= len(order) or keep <= 0:
        return Chosen(order[: max(0, keep)], np.ones(min(len(order), max(0, keep))))
    tied = tied_with_next(values[order], None if slack is None else slack[order])
    if not tied[keep - 1]:
        return Chosen(order[:keep], np.ones(keep))
    first, end = keep - 1, keep + 1
    while first > 0 and tied[first - 1]:
        first -= 1
    while end < len(order) and tied[end - 1]:
        end += 1
    group = order[first:end]
    if then is None:
        rest = Chosen(group, np.full(len(group), (keep - first) / len(group)))
    else:
        inner = smallest(then[group], keep - first)
        rest = Chosen(group[inner.places], inner.shares)
    return Chosen(np.concatenate([order[:first], rest.places]), np.concatenate([np.ones(first), rest.shares]))


def tied_with_next(ordered: Matrix, slack: Matrix | None = None) -> NDArray[np.bool_]:
    """Return of each but the last of ascending numbers (n) whether the next one is the same (n - 1)."""
    allowed = TIE * np.abs(ordered[1:])
    if slack is not None:
        allowed = allowed + np.maximum(slack[1:], slack[:-1])
    with np.errstate(invalid="ignore"):  # infinite ones differ
        tied: NDArray[np.bool_] = ordered[1:] - ordered[:-1] <= allowed
    return tied


def minima(values: Matrix, *, slack: Matrix | None = None) -> Places:
    """Return the places of the smallest of `values` (n) and of all that equal it, ascending by place."""
    allowed = TIE * np.abs(values) + (0.0 if slack is None else slack)
    return np.flatnonzero(values - allowed <= values.min())


def groups(values: Matrix) -> list[Places]:
    """Return the places of `values` (n) in ascending order, equal ones together."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(~tied_with_next(values[order])) + 1)


def first_by_content(
    columns: Callable[[slice], Sequence[Vector]], candidates: Sequence[int], size: int
) -> int:
    """Return which of `candidates` is the first in the order of their coordinates; any one of equals.

    Args:
        columns: gives all rows' entries in a slice.
        candidates: rows.
        size: of a row.
    """
    left = list(candidates)
    for here in slices(size, CONTENT_BLOCK):
        if len(left) == 1:
            break
        rows = columns(here)
        block = np.stack([rows[candidate] for candidate in left])  # (candidates, block)
        while len(block) > 1:
            allowed = CONTENT_ROUNDINGS * np.finfo(block.dtype).eps * np.abs(block).max(axis=0)
            lowest = block.min(axis=0)
            different = np.flatnonzero(block.max(axis=0) - lowest > allowed)
            if not len(different):
                break
            column = different[0]
            stay = block[:, column] <= lowest[column] + allowed[column]
            left = [candidate for candidate, stays in zip(left, stay.tolist(), strict=True) if stays]
            block = block[stay]
    return left[0]
