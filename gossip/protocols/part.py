"""Parts of a model: contiguous pieces of what travels of it, where it does not travel whole."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """One of `of` contiguous pieces of what travels of a model, as equal as they can be; the same on all peers."""

    place: int
    of: int

    def bounds(self, size: int) -> tuple[int, int]:
        """Return where the piece of a vector of `size` elements begins and ends; it has one element at least.

        Raises:
            ValueError: there is no such piece.
        """
        if not 0 <= self.place < self.of <= size:
            raise ValueError(f"part {self.place} of {self.of} of a vector of {size} elements")
        return size * self.place // self.of, size * (self.place + 1) // self.of


WHOLE = Part(0, 1)
"""All of a model."""
