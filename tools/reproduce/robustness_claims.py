"""What the cases of `robustness.py` measured, and what is claimed of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robustness_cases import Case

LOOSE = 0.03


@dataclass(slots=True)
class Line:
    """What a case measured."""

    row: str
    what: str
    rule: str
    mean: float
    std: float
    worst: float
    consensus: float
    accuracies: list[float] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One acceptance figure."""

    row: str
    says: str
    measured: float
    holds: bool


Table = Callable[[str, str], Line]
"""(what, rule) -> its line."""
Rows = dict[str, tuple[Callable[[Path], list[Case]], Callable[[Table], Iterator[Claim]]]]
"""Row -> what makes its cases, given a folder, and its claims."""


def no_claims(lines: Table) -> Iterator[Claim]:
    return iter(())
