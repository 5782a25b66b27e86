"""Where chance comes from that protects somebody: the operating system, and nowhere else.

Every peer knows the run's seed, and can derive whatever is drawn from it; noise of that kind would be subtracted, and a
batch that others can foretell is no sample. So both come from `os.urandom`, for each step anew, and are kept nowhere:
also a local update that is done again after a kill is done with other noise. Two runs of one seed therefore differ.

Floating point. A normal number is made of 2 × 53 bits by Box and Muller's formula in float64, so it is never beyond 8.6
standard deviations, and lies on a grid that is uneven. Bits of a sum below the noise's own grid could tell what was
summed (Mironov, CCS 2012). Here sum and noise are added in float64 and rounded to float32 once, so that of what lies
below 2⁻²⁴ of the sum nothing is left; that takes the known attack its means, and is no proof: the bound that the ledger
tells is that of real numbers.
"""

from __future__ import annotations

import os
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Indices: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.float64]

BITS = 53
"""Of a float64 between 0 and 1."""


class Entropy(Protocol):
    """What chooses samples and makes noise."""

    def chosen(self, samples: int, rate: float) -> Indices:
        """Return which of the samples 0 … `samples` - 1 a step takes, ascending: each by itself, with probability q."""
        ...

    def normals(self, count: int) -> Numbers:
        """Return so many independent standard normal numbers (count,)."""
        ...


class OperatingSystem:
    """Draws from the operating system."""

    def chosen(self, samples: int, rate: float) -> Indices:
        """Return which samples a step takes."""
        return np.flatnonzero(uniforms(samples) < rate).astype(np.int64)

    def normals(self, count: int) -> Numbers:
        """Return standard normal numbers."""
        pairs = (count + 1) // 2
        drawn = uniforms(2 * pairs)
        radius = np.sqrt(-2 * np.log1p(-drawn[:pairs]))  # of 1 - u, which is never 0
        angle = 2 * np.pi * drawn[pairs:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def uniforms(count: int) -> Numbers:
    """Return numbers of [0, 1) on a grid of 2^-53, (count,), by the operating system."""
    words = np.frombuffer(os.urandom(8 * count), dtype=np.uint64)
    return (words >> np.uint64(64 - BITS)).astype(np.float64) * 2.0**-BITS


OPERATING_SYSTEM = OperatingSystem()
