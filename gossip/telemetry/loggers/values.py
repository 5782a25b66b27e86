"""What of a line of metrics.jsonl is a number over rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def measured(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return name -> value of all numbers of a line but its round; what is not known, or no number, is left out."""
    return {
        name: float(value)
        for name, value in entry.items()
        if name != "round" and isinstance(value, int | float) and not isinstance(value, bool)
    }
