"""λ and diameter of graphs too large for all eigenvalues and all distances: a few walks along the edges each.

λ is the largest Ritz value of a Lanczos process (Golub and Van Loon, Matrix Computations, 10.1) on the square of what
a mixing matrix does beside the mean; without reorthogonalisation, which only repeats values that are found. Ritz values
approach the eigenvalue from below, so the estimate is one from below, and in a graph with a tiny gap may be a
noticeable one. The diameter is the longest of the distances from a few peers, each the farthest from the one before
(double sweep): exact on trees and rings, never too large, rarely too small by more than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from topologies.mixing import SparseRows

LANCZOS_STEPS_MAX = 600
LOOKED_AT_EVERY = 20
"""Steps between two looks at the Ritz values."""
TOLERANCE = 1e-6
"""Where a further look changes the value and its distance from 1 by a smaller share, it is found."""
NOISE = 1e-14

SWEEPS = 4

Vector: TypeAlias = NDArray[np.float64]  # (peers,)
Operator: TypeAlias = Callable[[Vector], Vector]


class Mixing:
    """x → W x and x → Wᵀ x in O(edges)."""

    def __init__(self, rows: SparseRows) -> None:
        self._peers = len(rows.degrees)
        self._sources = np.repeat(np.arange(self._peers), rows.degrees)
        self._neighbours, self._weights = rows.neighbours, rows.weights
        self._own = 1.0 - np.bincount(self._sources, rows.weights, self._peers)

    def __call__(self, x: Vector) -> Vector:
        """Return W x."""
        return self._sums(self._sources, self._weights * x[self._neighbours]) + self._own * x

    def transposed(self, x: Vector) -> Vector:
        """Return Wᵀ x."""
        return self._sums(self._neighbours, self._weights * x[self._sources]) + self._own * x

    def _sums(self, places: NDArray[np.int64], values: Vector) -> Vector:
        return np.asarray(np.bincount(places, values, self._peers), dtype=np.float64)

    def keeps_the_mean(self) -> bool:
        """Return whether columns sum to 1, too."""
        return bool(np.allclose(self.transposed(np.ones(self._peers)), 1, atol=1e-9))


def rate_of_one(rows: SparseRows, *, uniform: bool) -> float:
    """Return λ of one mixing matrix, from below.

    Uniform weights 1/(d_i + 1) are similar to a symmetric matrix by the roots of d_i + 1; others are symmetric.
    """
    peers = len(rows.degrees)
    root: Vector = np.sqrt(rows.degrees + 1.0) if uniform else np.ones(peers)
    consensus = root / np.linalg.norm(root)
    mixing = Mixing(rows)

    def step(x: Vector) -> Vector:
        return root * mixing(x / root)

    def without(x: Vector) -> Vector:
        return x - consensus * float(consensus @ x)

    return math.sqrt(_largest(lambda x: without(step(without(step(x)))), without, peers))


def rate_of_many(rounds: Sequence[SparseRows]) -> float:
    """Return the mean factor per round ‖W_{T-1} … W_0 - J‖₂^{1/T}, from below."""
    mixings = [Mixing(rows) for rows in rounds]
    peers = len(rounds[0].degrees)

    def without(x: Vector) -> Vector:
        return x - float(x.mean())

    def there_and_back(x: Vector) -> Vector:
        # The mean is taken away each time, or rounding would leave more of it than there is of anything else.
        for mixing in mixings:
            x = without(mixing(x))
        for mixing in reversed(mixings):
            x = without(mixing.transposed(x))
        return x

    return float(_largest(there_and_back, without, peers) ** (0.5 / len(rounds)))


def _largest(apply: Operator, without: Operator, peers: int) -> float:
    """Return the largest eigenvalue, from below, of a symmetric operator that has none below 0.

    `without` takes away what is no part of the operator's space; rounding would bring it back.
    """
    now = without(np.random.default_rng(0).standard_normal(peers))
    now /= np.linalg.norm(now)
    before, beta, found = np.zeros(peers), 0.0, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for number in range(1, LANCZOS_STEPS_MAX + 1):
        further = apply(now) - beta * before
        alpha = float(now @ further)
        further = without(further - alpha * now)
        beta = float(np.linalg.norm(further))
        diagonal.append(alpha)
        last = beta <= NOISE * max(diagonal) or number == LANCZOS_STEPS_MAX
        if last or number % LOOKED_AT_EVERY == 0:
            tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
            ritz = float(np.linalg.eigvalsh(tridiagonal)[-1])
            if last or ritz - found <= max(TOLERANCE * min(ritz, 1.0 - ritz), NOISE * ritz):
                return min(1.0, max(0.0, ritz))
            found = ritz
        beside.append(beta)
        before, now = now, further / beta
    return found


def longest_way(rows: SparseRows) -> int:
    """Return the longest of the shortest ways from a few peers, in edges; the graph is connected."""
    farthest, longest = 0, 0
    for _ in range(SWEEPS):
        distances = distances_from(rows, farthest)
        longest = max(longest, int(distances.max()))
        farthest = int(distances.argmax())
    return longest


def distances_from(rows: SparseRows, peer: int) -> NDArray[np.int64]:
    """Return every peer's distance from one, in edges, [peers]; -1 where no way leads there."""
    distances = np.full(len(rows.degrees), -1, dtype=np.int64)
    distances[peer] = 0
    front, hops = np.array([peer]), 0
    while len(front):
        hops += 1
        counts = rows.degrees[front]
        # The places of all the front's neighbours in the rows, one run after the other.
        offsets = np.repeat(rows.starts[front] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        reached = rows.neighbours[offsets + np.arange(len(offsets))]
        front = np.unique(reached[distances[reached] < 0])
        distances[front] = hops
    return distances
