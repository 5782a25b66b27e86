"""The one error of this package."""

from __future__ import annotations


class TopologyError(ValueError):
    """A topology that cannot be built; one sentence that says what would be valid."""
