"""What a restart needs beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

from gossip.protocols.push.ages import AGE_MAX

Fields = Mapping[str, int | float | str]
"""As a checkpoint holds them."""


class Saved(NamedTuple):
    """Counts at the end of an update."""

    updates: int
    wake_ups: int
    ages: tuple[int, ...]
    """Of each part."""
    tokens: tuple[int, ...]
    """Of each part's account."""

    @classmethod
    def read(cls, fields: Fields, *, parts: int) -> Self:
        """Return what the fields say; where models were divided otherwise, the least for all parts."""
        return cls(
            int(fields.get("round", 0)),
            int(fields.get("wake-ups", 0)),
            tuple(min(age, AGE_MAX) for age in _numbers(fields.get("ages"), parts)),
            _numbers(fields.get("tokens"), parts),
        )

    def as_fields(self) -> Fields:
        """Return what `read` reads."""
        return {
            "round": self.updates,
            "wake-ups": self.wake_ups,
            "ages": ",".join(map(str, self.ages)),
            "tokens": ",".join(map(str, self.tokens)),
        }


def _numbers(saved: int | float | str | None, count: int) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in str(saved or 0).split(","))
    return numbers if len(numbers) == count else (min(numbers),) * count
