"""Whom a node that has done all its rounds still waits for, because they may need its answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import trio

from gossip.protocols.base import PeerId, Waiting

if TYPE_CHECKING:
    from gossip.config.task import NodeSettings


class Lingering:
    """Knows who is slower, and who has gone when.

    Who is connected and has not said that it is finished is waited for, `linger_s` at most. Who is down is so only for
    `linger_down_s` from when it went: a process that crashed and is started again is back within seconds and needs a
    model to go on from; nobody can tell it from one that never comes, for which a run would end later by as much at
    each of its neighbours.

    Args:
        settings: how long.
        is_up: whether there is a connection.
        finished: those who have said that they are.
        clock: seconds.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        is_up: Callable[[PeerId], bool],
        finished: Collection[PeerId],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._settings = settings
        self._is_up = is_up
        self._finished = finished
        self._clock = clock
        self._began_s = clock()
        self._went_s: dict[PeerId, float] = {}
        self._deadline_s = float("inf")

    def went(self, peer: PeerId) -> None:
        """Note that a connection has ended."""
        self._went_s[peer] = self._clock()

    def begin(self) -> None:
        """Note that our rounds are done."""
        self._deadline_s = self._clock() + self._settings.linger_s

    def awaited(self, contacts: Sequence[PeerId]) -> list[PeerId]:
        """Return those of the contacts that may still need us."""
        if self._clock() >= self._deadline_s:
            return []
        return [peer for peer in contacts if peer not in self._finished and not self._is_gone(peer)]

    def told(self, contacts: Sequence[PeerId]) -> Waiting:
        """Return whom of the contacts it is waited for, since when and until when."""
        awaited = self.awaited(contacts)

        def until_s(peer: PeerId) -> float:
            gone_s = self._went_s.get(peer, self._began_s) + self._settings.linger_down_s
            return self._deadline_s if self._is_up(peer) else min(gone_s, self._deadline_s)

        latest_s = max(map(until_s, awaited), default=self._clock())
        return Waiting(frozenset(awaited), self._deadline_s - self._settings.linger_s, latest_s)

    def _is_gone(self, peer: PeerId) -> bool:
        """Whether it is down for good, as far as we care; who has never come, is since we began."""
        down_s = self._clock() - self._went_s.get(peer, self._began_s)
        return not self._is_up(peer) and down_s >= self._settings.linger_down_s
