"""What a checkpoint holds of rounds beside the model, the round and who wants to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self


class Saved(NamedTuple):
    """By default, what a first process knows: nothing."""

    pace_s: float | None = None
    """The fastest local update so far."""
    away_s: float = 0.0
    """Seconds between the checkpoint and the resume."""
    participation: str = ""
    """How often neighbours come, see `Participation.saved`."""

    @classmethod
    def of(cls, state: Mapping[str, int | float | str]) -> Self:
        """Return what a checkpoint's state says."""
        pace_s = float(state.get("pace_s", 0.0))
        return cls(
            pace_s=pace_s if pace_s > 0 else None,
            away_s=float(state.get("away_s", 0.0)),
            participation=str(state.get("participation", "")),
        )


NOTHING_SAVED = Saved()
