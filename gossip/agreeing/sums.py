"""Count, sum and sum of squares of a column as integers, and mean and standard deviation of what they add up to.

Integers because their sum is the same in every order, so that all peers write the same bytes. A number x stands as
round(x · 2^320): what float32 can hold, squared and summed over 2^53 rows, has fewer than 2^630 of these units.

    mean = Σx / n,    std² = Σx² / n − mean²,

which loses nothing here, as it would in floating point: these are exact fractions.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

FRACTION_BITS = 320
UNIT = 1 << FRACTION_BITS

LARGEST = 2.0**128
"""What float32 cannot hold is no input of a network."""

ROWS_MAX = 2**53

NUMBERS = 3
"""Of a column: count, sum, sum of squares."""

CONSTANT = 1e-12
"""A column whose deviation is no more than this share of its mean has one value, but for rounding."""

DIGITS = 12
"""Significant ones of what is written."""


def sums(values: npt.NDArray[Any]) -> tuple[int, int, int]:
    """Return count, Σx and Σx² of what is there of a column (rows,) float64; the sums in units of 2^-320.

    Deviations from the own mean c are summed (`math.fsum`, rounded once), and Σx = n·c + Σ(x − c) and
    Σx² = Σ(x − c)² + 2c·Σ(x − c) + n·c² follow in exact fractions: nothing is lost where the mean is large.

    Raises:
        ValueError: a number is beyond 2^128.
    """
    there = np.asarray(values, dtype=np.float64)
    there = there[~np.isnan(there)]
    if not len(there):
        return 0, 0, 0
    if not (np.abs(there) < LARGEST).all():
        raise ValueError(f"{there[np.argmax(np.abs(there))]:g} is beyond ±2^128")
    count, centre = len(there), Fraction(math.fsum(there) / len(there))
    deviations = there - float(centre)
    first = Fraction(math.fsum(deviations))
    second = Fraction(math.fsum(deviations**2))
    return (
        count,
        round((count * centre + first) * UNIT),
        round((second + 2 * centre * first + count * centre**2) * UNIT),
    )


def moments(count: int, first: int, second: int) -> tuple[float, float]:
    """Return mean and standard deviation, to 12 digits, of what `sums` or the sums of several peers say.

    The standard deviation of one value for all is 1; so is what a unit of the sums, rounded, can make of it.

    Raises:
        ValueError: no column has these sums: somebody's masks do not cancel, or somebody lies.
    """
    if not 0 < count <= ROWS_MAX or second < 0:
        raise ValueError("no rows have such sums")
    mean = Fraction(first, count * UNIT)
    variance = Fraction(second, count * UNIT) - mean**2
    if variance < -(mean**2 + 1) / 2**40 or abs(mean) > LARGEST or variance > LARGEST**2:
        raise ValueError("no rows have such sums")
    middle, std = float(mean), math.sqrt(max(0.0, float(variance)))
    if std <= CONSTANT * abs(middle) or variance * UNIT <= 1 + 2 * abs(mean):
        std = 1.0
    return _rounded(middle), _rounded(std)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}") + 0.0  # no −0
