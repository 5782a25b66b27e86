"""The models of one merge, as rules see them: rows in the order of their peers' names, around the peer's own model.

Everything but the coordinate-wise rules is arithmetic on inner products: a rule finds coefficients, and a
pre-aggregation is a matrix. So a chain of them costs one pass to measure and one to combine, whatever its
length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gossip.merging.blocks import slices
from gossip.merging.robust.distances import (
    Matrix,
    Vector,
    from_gram,
    gram,
    squared_distances,
    squared_norms,
)
from gossip.merging.robust.scratch import scratch
from gossip.merging.robust.ties import Places, first_by_content, groups

BLOCK_BYTES = 5 * 2**19
"""Of one float64 block of all rows, when they are combined."""


@dataclass(frozen=True)
class Models:
    """n models x_j and what a pre-aggregation made of them, m rows y_i = own + Σ_j A_ij (x_j - own).

    Without pre-aggregation the rows are the models. Arrays are float64 unless they hold models; all are only
    read.
    """

    senders: tuple[str, ...]
    """Peers' names, sorted, so that the first of equals is the same everywhere (n)."""
    vectors: Sequence[Vector]
    """x_j [P] each (n)."""
    weights: Matrix
    """W_ij, own among them where it is an input (n)."""
    own: Vector
    """The point everything is measured from [P]: the peer's own model, or where that is no input the others' median."""
    own_index: int | None
    """The own model's place among the rows, or `None` where it is not an input."""
    f: int
    """How many of the models may be Byzantine."""
    mixing: Matrix | None = None
    """A (m, n), or `None` for the identity."""
    row_of: tuple[int, ...] = ()
    """The row in which each model stands in the end (n): after bucketing, its bucket's."""
    pulled: frozenset[int] = frozenset()
    """Models that a pre-aggregation scaled down."""
    unclipped: Matrix | None = None
    """How far each row was from own (m) before clipping made the far ones equally far; `None` where none has."""

    def __len__(self) -> int:
        return len(self.vectors) if self.mixing is None else len(self.mixing)

    @functools.cached_property
    def _vector_products(self) -> Matrix:
        return gram(self.vectors, self.own)

    @functools.cached_property
    def products(self) -> Matrix:
        """Inner products ⟨y_i - own, y_j - own⟩ (m, m)."""
        if self.mixing is None:
            return self._vector_products
        mixed: Matrix = self.mixing @ self._vector_products @ self.mixing.T
        return mixed

    @functools.cached_property
    def squared_distances(self) -> Matrix:
        """||y_i - y_j||² (m, m); 0 where mixed rows differ by rounding alone."""
        if self.mixing is None:
            return squared_distances(self.vectors, self.products)
        squared = from_gram(self.products)
        squared[squared <= self.noise[:, None] + self.noise[None, :]] = 0.0
        return squared

    @functools.cached_property
    def distances_from_own(self) -> Matrix:
        """||y_j - c|| (m), where c is the own row, or the reference where own is not an input."""
        if self.mixing is None:
            known = "_vector_products" in self.__dict__
            squared = np.diagonal(self.products) if known else squared_norms(self.vectors, self.own)
        elif self.own_index is None:
            squared = np.diagonal(self.products)
        else:
            squared = self.squared_distances[self.own_index]
        distances: Matrix = np.sqrt(np.maximum(squared, 0.0))
        return distances

    @functools.cached_property
    def noise(self) -> Matrix:
        """By how much rounding may put ||y_i - y_j||² wrong, once for each of the two (m)."""
        if self.mixing is None:
            return np.zeros(len(self))
        mixing = np.abs(self.mixing)
        terms: Matrix = np.einsum("ij,jk,ik->i", mixing, np.abs(self._vector_products), mixing, optimize=True)
        return MIXED_NOISE * terms

    @functools.cached_property
    def order(self) -> Places:
        """The rows in an order that no name and no place among what came decides (m).

        Models by their distance from own, equally far ones by their coordinates; rows as the models they were made of.
        Buckets were drawn from such an order and are in one.
        """
        if self.row_of:
            return np.arange(len(self))
        ordered: list[int] = []
        for group in groups(np.diagonal(self._vector_products)):
            left = group.tolist()
            while left:
                ordered.append(
                    first_by_content(
                        lambda here: [vector[here] for vector in self.vectors], left, len(self.own)
                    )
                )
                left.remove(ordered[-1])
        return np.array(ordered, dtype=np.intp)

    def first_by_content(self, rows: Sequence[int]) -> int:
        """Return one of some rows: the first by its coordinates."""
        return first_by_content(self.columns, rows, len(self.own))

    def mixed(
        self,
        matrix: Matrix,
        *,
        own_index: int | None,
        row_of: tuple[int, ...] | None = None,
        pulled: frozenset[int] = frozenset(),
        unclipped: Matrix | None = None,
    ) -> Models:
        """Return the rows Σ_j `matrix`_ij (y_j - own) + own; `matrix` is (new m, m)."""
        after = replace(
            self,
            mixing=matrix if self.mixing is None else matrix @ self.mixing,
            own_index=own_index,
            row_of=self.row_of if row_of is None else row_of,
            pulled=self.pulled | pulled,
            unclipped=unclipped,
        )
        # What was measured once stays measured.
        after.__dict__["_vector_products"] = self._vector_products
        return after

    def columns(self, here: slice) -> Sequence[Vector]:
        """Return the rows' entries in a slice: m arrays, only read, and only until the next call."""
        return self._columns(lambda vector: vector[here])

    def sampled_columns(self, count: int) -> Sequence[Vector]:
        """Return the rows at no more than `count` coordinates, evenly spread."""
        step = max(1, -(-len(self.own) // count))
        return self._columns(lambda vector: vector[::step])

    def _columns(self, part: Callable[[Vector], Vector]) -> Sequence[Vector]:
        models = [part(vector) for vector in self.vectors]
        if self.mixing is None:
            return models
        distinct, place, rest = self._distinct
        wide = scratch("wide", (len(models), len(models[0])))
        for target, model in zip(wide, models, strict=True):
            target[:] = model
        rows = np.matmul(distinct, wide, out=scratch("mixed", (len(distinct), len(models[0]))))
        for row, share in zip(rows, rest.tolist(), strict=True):
            if abs(share) > ROUNDING:
                row += share * part(self.own)
        narrow = scratch("narrow", rows.shape, self.own.dtype)
        narrow[:] = rows
        return [narrow[index] for index in place]

    @functools.cached_property
    def _distinct(self) -> tuple[Matrix, list[int], Matrix]:
        """The different rows of A, where each row stands among them, and what own adds to make their sums one.

        Honest models often have the same nearest ones, and are the same after mixing.
        """
        assert self.mixing is not None
        distinct, place = np.unique(self.mixing, axis=0, return_inverse=True)
        return distinct, place.ravel().tolist(), 1 - distinct.sum(axis=1)

    def shares(self, coefficients: Matrix) -> Matrix:
        """Return the coefficients of the models (n) that those of the rows (m) come to."""
        return coefficients if self.mixing is None else coefficients @ self.mixing

    def combine(self, coefficients: Matrix, out: Vector) -> None:
        """Write own + Σ_i c_i (y_i - own) to `out` [P], summed in float64; rows with c_i = 0 are not read."""
        shares = self.shares(coefficients)
        used: list[tuple[float, Vector]] = []
        rest = 1.0
        for share, vector in zip(shares.tolist(), self.vectors, strict=True):
            if vector is not self.own:
                rest -= share
                if share != 0:
                    used.append((share, vector))
        combine(self.own, used, rest, out)


def combine(own: Vector, used: Sequence[tuple[float, Vector]], rest: float, out: Vector) -> None:
    """Write `rest` · own + Σ share · vector to `out` [P]. One single share of one is an exact copy."""
    if abs(rest) > ROUNDING:
        used = [(rest, own), *used]
    if len(used) == 1 and used[0][0] == 1:
        out[:] = used[0][1]
        return
    shares = np.array([share for share, _ in used])
    block = max(1, min(len(out), BLOCK_BYTES // (8 * max(1, len(used)))))
    rows = scratch("wide", (len(used), block))
    for here in slices(len(out), block):
        part = rows[:, : here.stop - here.start]
        for target, (_, vector) in zip(part, used, strict=True):
            target[:] = vector[here]
        out[here] = shares @ part


MIXED_NOISE = 1e-14
"""Of the terms whose sum is the squared norm of a mixed row: some hundred roundings."""
ROUNDING = 1e-12
"""A remainder of own no larger than this is what is left of sums like 1/3 + 1/3 + 1/3."""
