"""Numbers as a document has them: as many digits as anybody sees, and null for what is none."""

from __future__ import annotations

import math
from collections.abc import Iterable

DIGITS = 5
"""Of a float in a document; a chart shows three."""


def short(value: float | None) -> float | int | None:
    """Return the number with `DIGITS` digits; None for NaN and infinity, whole numbers as they are."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    if not math.isfinite(rounded):
        return value  # the largest of all, which has no neighbour to be rounded to
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def shorts(values: Iterable[float | None]) -> list[float | int | None]:
    """Return them all, see `short`."""
    return [short(value) for value in values]
