"""How often a law is tried: an ordinary one 25 times, or as often as `LAWS` says, and all others in proportion."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

ORDINARY = 25
"""How many examples an ordinary law is tried with unless `LAWS` says otherwise."""


def examples(times: float) -> int:
    """Return how many examples a law has that is tried `times` as often as an ordinary one.

    Raises:
        pytest.UsageError: `LAWS` is no whole number from 1 on.
    """
    said = os.environ.get("LAWS", str(ORDINARY))
    if not (said.isascii() and said.isdecimal()) or not int(said):
        raise pytest.UsageError(
            f"LAWS={said}: must be a whole number from 1 on, how often an ordinary law is tried"
        )
    return max(1, round(times * int(said)))


def tried(times: float, **more: Any) -> settings:
    """Return the settings of a law that is tried `times` as often as an ordinary one; `more` are hypothesis' own."""
    return settings(max_examples=examples(times), **more)
