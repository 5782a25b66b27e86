"""The protocol's handlers, one at a time: one that is caused by another one waits until that has returned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gossip.errors import UserError


class Handlers:
    """Called with a handler, calls it, now or after the present one.

    Args:
        done: called whenever no handler is left.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._handling = False
        self._pending: deque[Callable[[], None]] = deque()
        self.mistake: UserError | None = None
        """The user's own, that came up in `heard`; no handler is called any more."""

    def __call__(self, handler: Callable[[], None]) -> None:
        """Call a handler."""
        self._pending.append(handler)
        if self._handling:
            return
        self._handling = True
        try:
            while self._pending:
                self._pending.popleft()()
        finally:
            self._handling = False
            self._done()

    def heard(self, handler: Callable[[], None]) -> None:
        """Call one for what came over a connection: a mistake of the user's own is kept, and not that connection's."""
        if self.mistake is not None:
            return
        try:
            self(handler)
        except UserError as error:
            self.mistake = error
            self._done()

    def tell(self) -> None:
        """Raise the `UserError` that `heard` has kept."""
        if self.mistake is not None:
            raise self.mistake
