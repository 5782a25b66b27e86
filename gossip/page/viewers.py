"""Those who look at a live page: each is sent the newest document as soon as it has taken the one before."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import trio


class Viewer:
    """One connection that takes events, past the HTTP library, in pieces of HTTP/1.1's chunked encoding.

    What the system takes at once costs one call for each viewer, and wakes nobody; only the rest is waited for, by the
    task that answers the viewer. Two are never writing at a time.

    Args:
        descriptor: of the connection; negative once it is closed, when the number may be another's.
        send: sends all, or raises where the viewer takes nothing.
    """

    def __init__(self, descriptor: Callable[[], int], send: Callable[[bytes], Awaitable[None]]) -> None:
        self._descriptor = descriptor
        self._send = send
        self._rest = b""
        self._wake = trio.Event()
        self._taken_care_of = True
        self.seen = -1
        """Number of the newest document that it was sent."""

    def push(self, number: int, piece: bytes) -> None:
        """Send as much as goes at once, unless the one before is still on its way."""
        if self._taken_care_of:
            return
        descriptor = self._descriptor()
        try:
            sent = os.write(descriptor, piece) if descriptor >= 0 else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has gone, which its task will be told
        self.seen = number
        if sent < len(piece):
            self._taken_care_of = True
            self._rest = piece[sent:]
            self._wake.set()

    def wake(self) -> None:
        """Have its task look what there is to do."""
        self._wake.set()

    async def take(self, number: int, piece: bytes, *, quiet_s: float) -> bool:
        """Send the document if it is newer, then let others push for so long; return whether anything was sent.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the viewer has gone, or takes nothing.
        """
        rest, self._rest = self._rest, b""
        if not rest and self.seen != number:
            rest, self.seen = piece, number
        if rest:
            await self._send(rest)
            return True
        self._wake = trio.Event()
        seen, self._taken_care_of = self.seen, False
        try:
            with trio.move_on_after(quiet_s):
                await self._wake.wait()
        finally:
            self._taken_care_of = True
        return bool(self._rest) or self.seen != seen
