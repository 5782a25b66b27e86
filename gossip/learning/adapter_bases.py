"""Frozen factors of adapters: columns at right angles, the same to the bit on every machine.

Draws are uniform numbers of numpy's PCG64, which are integers divided by a power of two; what linear algebra makes of
them differs from machine to machine in its last bits, of 52, and is rounded to `GRID`. What is left of a difference
would show in `space_id`: peers that had other factors would refuse each other, never merge.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossip import seeding

GRID = 2.0**-14
"""Entries are multiples of it: six digits below one, and a chance of 1e-9 each that two machines round apart."""

ITERATIONS = 4
"""Of the subspace: what is outside shrinks by the square of the ratio of singular values in each."""

BLOCK = 1 << 22
"""Entries of a weight that are made float64 at a time."""


def orthonormal(length: int, rank: int, *, seed: int, name: str) -> Tensor:
    """Return (length, rank) float32: random columns at right angles and of length one, but for `GRID`."""
    return _rounded(_drawn(length, rank, seed=seed, name=name))


def of_weight(matrix: Tensor, rank: int, *, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """Return L (m, rank) and A (rank, n) that span the `rank` directions in which `matrix` (m, n) is largest.

    By subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011) instead of singular vectors: these turn with
    the last bits of the weight where two singular values are close, and all peers must have the same.
    """
    right = _drawn(matrix.shape[1], rank, seed=seed, name=f"{name} A")
    left = np.empty((matrix.shape[0], rank))
    for _ in range(ITERATIONS):
        left = _columns(_times(matrix, right))
        right = _columns(_times_transposed(matrix, left))
    return _rounded(left), _rounded(right).T.contiguous()


def _drawn(length: int, rank: int, *, seed: int, name: str) -> NDArray[np.float64]:
    draws = seeding.generator(seed, f"adapter {name}").random((length, rank))
    return _columns(draws - 0.5)


def _columns(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of the columns, by Householder's QR with a positive diagonal."""
    q, r = np.linalg.qr(matrix)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return q


def _rounded(matrix: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy((np.round(matrix / GRID) * GRID).astype(np.float32))


def _blocks(matrix: Tensor) -> list[slice]:
    rows = max(1, BLOCK // max(1, matrix.shape[1]))
    return [slice(start, start + rows) for start in range(0, len(matrix), rows)]


def _times(matrix: Tensor, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([matrix[rows].to(torch.float64).numpy() @ columns for rows in _blocks(matrix)])


def _times_transposed(matrix: Tensor, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros((matrix.shape[1], columns.shape[1]))
    for rows in _blocks(matrix):
        total += matrix[rows].to(torch.float64).numpy().T @ columns[rows]
    return total
