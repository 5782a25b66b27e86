"""One line of a chart, whoever draws it. Free of drawing libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACCENT = "#0b6e99"
COLOURS = (ACCENT, "#c8553d", "#5b8c5a", "#8d6a9f", "#d19a2e", "#3d5a80", "#7a7a7a", "#b5838d")
"""First the accent; told apart also in grey and by the colour-blind, because line styles change after them."""


@dataclass(frozen=True, slots=True)
class Series:
    """One run's curve, or one experiment's: what charts need of it."""

    label: str
    curve: Sequence[Mapping[str, Any]]
    colour: str = ACCENT
    dash: str = "-"
