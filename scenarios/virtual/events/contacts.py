"""Everybody but one, without a list for each peer: n peers that may talk to all others would need n² names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from gossip.protocols.base import PeerId


class AllBut(Sequence[PeerId]):
    """A view of a sorted sequence of names that leaves out the one at `place`."""

    __slots__ = ("_names", "_place")

    def __init__(self, names: Sequence[PeerId], place: int) -> None:
        self._names = names
        self._place = place

    def __len__(self) -> int:
        return len(self._names) - 1

    @overload
    def __getitem__(self, index: int) -> PeerId: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PeerId]: ...
    def __getitem__(self, index: int | slice) -> PeerId | Sequence[PeerId]:
        if isinstance(index, slice):
            return tuple(self)[index]
        place = range(len(self))[index]
        return self._names[place + (place >= self._place)]

    def __iter__(self) -> Iterator[PeerId]:
        for place, name in enumerate(self._names):
            if place != self._place:
                yield name

    def __contains__(self, name: object) -> bool:
        return name != self._names[self._place] and name in self._names
