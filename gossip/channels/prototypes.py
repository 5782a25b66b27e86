"""Prototypes: each class' mean sample, from a table of origins' own sums, and the nearest of them as a classifier.

c_k = Σ_o s_o / Σ_o n_o over the origins o of class k (Federated Reconnaissance, arXiv 2109.00150), and a sample is of
the class whose c_k is nearest. That is a linear layer: argmin_k ‖x - c_k‖² = argmax_k 2·c_k·x - ‖c_k‖².

An origin can lie of its own samples. So a count weighs no more than `COUNT_CAP`, and a sum that is claimed for more
counts as the mean that it is; and a mean much longer than own samples are is left out. Where a run's rule is told how
many may lie (`[merge] f`), a class' prototype is the geometric median of the origins' means instead, weighted by counts
that are no larger than the class' median count, so that no liar chooses its own weight. It is near the honest means as
long as these have more than half of the class' weight; of a class that most of those that have it lie about, no rule
can say anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gossip.protocols.tables import Row, numbers

COUNT_CAP = 1000
"""Samples of a class that one origin is believed to have, at most."""
LENGTH_FACTOR = 10.0
"""A mean longer than so many times the longest own sample is no mean of such samples."""
ITERATIONS_MAX = 1000
TOLERANCE = 1e-10
"""Change of the median, beside the distances there, at which Weiszfeld's iteration stands still."""

Numbers: TypeAlias = NDArray[np.float64]


class Prototypes(NamedTuple):
    """Of all classes."""

    means: Numbers  # (classes, width), 0 where the class is not known
    known: NDArray[np.bool_]  # (classes,)

    def layer(self) -> tuple[Numbers, Numbers]:
        """Return weights (classes, width) and biases (classes,) whose largest output is the nearest prototype's.

        A class without a prototype has the bias -inf.
        """
        biases = np.where(self.known, -np.square(self.means).sum(axis=1), -np.inf)
        return 2 * self.means, biases


def believed(rows: Iterable[Row], *, length_max: float) -> tuple[Row, ...]:
    """Return the rows that have samples whose mean is no longer than that."""
    return tuple(row for row in rows if row.samples and _length(row.sums) <= length_max * row.samples)


@lru_cache(maxsize=4096)  # 64 MiB of the longest sums
def _length(sums: bytes) -> float:
    return float(np.linalg.norm(numbers(sums).astype(np.float64)))


def prototypes_of(rows: Iterable[Row], *, classes: int, width: int, robust: bool = False) -> Prototypes:
    """Return the prototypes of all classes of which the rows say something.

    Args:
        rows: of a table, as far as they are believed.
        classes: how many there are.
        width: numbers of a sum.
        robust: whether some origins may lie.
    """
    of_class: dict[int, list[tuple[int, Numbers]]] = {}
    for row in sorted(rows, key=lambda row: row.key):  # sums hang on their order
        mean = numbers(row.sums).astype(np.float64) / row.samples
        of_class.setdefault(row.label, []).append((min(row.samples, COUNT_CAP), mean))
    means = np.zeros((classes, width))
    known = np.zeros(classes, dtype=np.bool_)
    for label, said in of_class.items():
        counts = np.array([count for count, _ in said], dtype=np.float64)
        points = np.stack([mean for _, mean in said])
        if robust:
            means[label] = geometric_median(points, np.minimum(counts, np.median(counts)))
        else:
            means[label] = counts @ points / counts.sum()
        known[label] = True
    return Prototypes(means, known)


def geometric_median(points: Numbers, weights: Numbers) -> Numbers:
    """Return argmin_z Σ_j w_j ‖z - y_j‖ of points y (n, width) with weights w (n,): Weiszfeld's iteration.

    It begins at the best of the points and ends there where that is the minimum (Vardi and Zhang 2000).
    """
    # One by one: all distances at once would take the memory of as many tables as there are origins.
    best = int(np.argmin([weights @ np.linalg.norm(points - point, axis=1) for point in points]))
    median: Numbers = points[best]
    distances = np.linalg.norm(points - median, axis=1)
    apart = distances > 0
    if not apart.any():
        return median
    pull = (weights[apart] / distances[apart]) @ (points[apart] - median)
    if np.linalg.norm(pull) <= weights[~apart].sum() * (1 + TOLERANCE):
        return median
    scale = float(np.median(distances[apart]))
    smallest = TOLERANCE * scale
    inverse = weights / np.maximum(distances, scale)
    for _ in range(ITERATIONS_MAX):
        moved = inverse @ points / inverse.sum()
        done = float(np.linalg.norm(moved - median)) <= smallest
        median = moved
        if done:
            break
        inverse = weights / np.maximum(np.linalg.norm(points - median, axis=1), smallest)
    return median
