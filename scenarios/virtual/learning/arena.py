"""Models that need not exist yet: handles, and the arena of rows in which their vectors lie once they do."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossip.protocols.base import Part
from gossip.wire.tensors import TensorSpec
from scenarios.virtual.learning.rows import PrivateRows, SharedRows

INSERTED_MAX = 64
"""So many rows that came free since the last look are put in their places; more are sorted in."""

GROWTH = 1.5
GROWTH_BYTES_MAX = 256 * 2**20
"""An arena of large models grows in steps of this, not by half of itself."""


class Handle:
    """One model of one peer. Protocols pass it on; its vector is computed when somebody looks at it.

    The row is free again as soon as nothing refers to the handle: inboxes and messages are what keeps models alive.
    """

    __slots__ = (
        "_free",
        "epsilon",
        "level",
        "loss",
        "measured",
        "norm",
        "partial",
        "peer",
        "request",
        "row",
        "specs",
    )

    def __init__(self, peer: int, request: Any, free: list[int]) -> None:
        self.peer = peer
        self.request: Any = request
        """How to compute it from other handles; `None` once that is done."""
        self.row = -1
        self.level = 0
        """Depth in the graph of requests while they are computed; 0 where the vector exists."""
        self.epsilon: float | None = None
        """ε that the peer had spent by then, of a model that was trained under `[privacy]`."""
        self.loss: float | None = None
        """Mean training loss, of a trained model."""
        self.norm: float | None = None
        """Of what is learned, where it is known already."""
        self.measured: tuple[Part, ...] = ()
        """Of which parts of the vector a merge rule knows what it measures."""
        self.specs: tuple[TensorSpec, ...] = ()
        """The tensors as which it was sent, where the codec does not say beforehand."""
        self.partial = False
        """Only some of its numbers are there, by the arena's `there`; the others are zeros."""
        self._free = free

    def place(self, row: int) -> None:
        """Note where the vector lies. What it was computed from is no longer needed."""
        self.row = row
        self.level = 0
        self.request = None

    def __del__(self) -> None:
        if self.row >= 0:
            self._free.append(self.row)

    def __repr__(self) -> str:
        return f"Handle(peer {self.peer}, {'deferred' if self.row < 0 else f'row {self.row}'})"


class Arena:
    """Rows of P floats, handed out lowest first: on the CPU, pages of rows that were never used cost nothing.

    Args:
        columns: P.
        rows: how many to begin with.
        device: where they lie.
        shared: memory of so many rows that other processes read and write as well; None: this one's own.
    """

    def __init__(
        self, columns: int, *, rows: int, device: torch.device, shared: SharedRows | None = None
    ) -> None:
        self._rows = PrivateRows(rows, columns, device) if shared is None else shared
        self.vectors = self._rows.vectors  # (rows, P)
        self.there: Tensor | None = None
        """Which numbers are there of the partial models, (rows, columns) bool; None: there never was one."""
        self.free: list[int] = list(range(rows - 1, -1, -1))
        """Free rows, those from `_ordered` on unsorted. Handles append theirs when they die."""
        self._ordered = rows
        """So many of the free rows descend."""

    @property
    def rows_used(self) -> int:
        """How many rows hold a living model."""
        return len(self.vectors) - len(self.free)

    def take(self, count: int) -> list[int]:
        """Return `count` rows to write on, ascending and adjoining where they can be.

        May move the vectors: views of them must not be kept.
        """
        if len(self.free) < count:
            self._grow(count)
        self._order()
        taken = self.free[: -count - 1 : -1]
        del self.free[len(self.free) - count :]
        self._ordered = len(self.free)
        return taken

    def _order(self) -> None:
        """Let all free rows descend. Rows of one generation die together, so that sorting finds their run again."""
        came = len(self.free) - self._ordered
        if came > INSERTED_MAX:
            self.free.sort(reverse=True)
        elif came:
            # One peer that comes back must not cost a walk over the rows of all others.
            rows = self.free[self._ordered :]
            del self.free[self._ordered :]
            for row in rows:
                insort(self.free, row, key=int.__neg__)

    def handle_of(self, vector: Tensor, peer: int) -> Handle:
        """Return a handle of `peer` for a copy of `vector` [P]."""
        handle = Handle(peer, None, self.free)
        rows = self.take(1)
        self.put(rows, vector[None])
        handle.place(rows[0])
        return handle

    def at(self, rows: Sequence[int]) -> Tensor:
        """Return the vectors (n, P) in `rows`: a view where they adjoin, else a copy."""
        found = self.adjoining(rows)
        return self.vectors.index_select(0, self.indices(rows)) if found is None else found

    def copied(self, rows: Sequence[int]) -> Tensor:
        """Return copies of the vectors (n, P) in `rows`."""
        found = self.adjoining(rows)
        return self.vectors.index_select(0, self.indices(rows)) if found is None else found.clone()

    def adjoining(self, rows: Sequence[int]) -> Tensor | None:
        """Return a view of the vectors (n, P) in `rows`, where they ascend one by one; else None."""
        first = _run(rows)
        return None if first is None else self.vectors[first : first + len(rows)]

    def put(self, rows: Sequence[int], vectors: Tensor) -> None:
        """Write `vectors` (n, P) to `rows`."""
        first = _run(rows)
        if first is not None:
            self.vectors[first : first + len(rows)] = vectors
        else:
            self.vectors.index_copy_(0, self.indices(rows), vectors)

    def put_there(self, rows: Sequence[int], there: Tensor) -> None:
        """Note which numbers are there (n, m) of the partial models in `rows`."""
        if self.there is None:
            self.there = there.new_empty(len(self.vectors), there.shape[1])
        self.there.index_copy_(0, self.indices(rows), there)

    def there_of(self, rows: Sequence[int]) -> Tensor:
        """Return which numbers are there (n, m) of the partial models in `rows`."""
        assert self.there is not None, "no partial model was ever put here"
        return self.there.index_select(0, self.indices(rows))

    def indices(self, rows: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """Return `rows` as a tensor of as many dimensions on the arena's device."""
        # By numpy, which reads lists of many numbers several times as fast.
        return torch.from_numpy(np.array(rows, dtype=np.int64)).to(self.vectors.device)

    def follow(self, rows: int) -> None:
        """Have as many rows as the arena of the process that hands them out."""
        if rows != len(self.vectors):
            self.vectors = torch.empty(0)  # or they could not be moved
            self._rows.grow(rows)
            self.vectors = self._rows.vectors

    def _grow(self, count: int) -> None:
        old, columns = self.vectors.shape
        missing = count - len(self.free)
        step = min((GROWTH - 1) * old, GROWTH_BYTES_MAX / (4 * max(1, columns)))
        rows = old + max(missing, math.ceil(step))
        self.follow(rows)
        if self.there is not None:
            there = self.there
            self.there = there.new_empty(rows, there.shape[1])
            self.there[:old] = there
        self.free.extend(range(old, rows))


def _run(rows: Sequence[int]) -> int | None:
    """Return the first row where `rows` ascend one by one, else `None`."""
    first = rows[0]
    if rows[-1] - first != len(rows) - 1 or list(rows) != list(range(first, first + len(rows))):
        return None
    return first
