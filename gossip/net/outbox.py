"""What waits to be sent to one peer: a bounded queue of small messages and room for a few models.

A slow peer must cost neither memory nor anybody's time. A model that has not begun to be sent is of little use once
there are newer ones: where the room is full, the newest takes the place of the oldest. Peers in step need room for two:
who has heard all neighbours early sends its model and, at once, the one after the merge, and both are waited for.
A model whose value is still being computed holds up nothing but the models after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from gossip.errors import NetworkError, ProtocolMisuse
from gossip.protocols.base import Message
from gossip.telemetry.accounting import Accounting
from gossip.wire.messages import type_of


class Outbox:
    """Filled by `put` at any time; emptied by one writer task, with `wait_for_values` running beside it."""

    def __init__(
        self,
        *,
        queue_messages_max: int,
        queue_models_max: int,
        accounting: Accounting,
        on_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue_messages_max = queue_messages_max
        self._queue_models_max = queue_models_max
        self._accounting = accounting
        self._on_replaced = on_replaced
        self._passing: deque[Message] = deque()
        self._in_order: deque[Message] = deque()
        self._models: deque[Message] = deque()
        self._first_is_waited_for = trio.Event()
        self._work = trio.Event()
        self._waiting = trio.CancelScope()
        self._overflown = False

    def put(self, message: Message) -> None:
        """Queue a message. Never blocks; an overflow shows when the writer next asks."""
        if message.carries_model:
            self._models.append(message)
            if len(self._models) > self._queue_models_max:
                self._models.popleft()
                self._accounting.drop("replaced")
                self._on_replaced()
            self._first_changed()
            return
        registered = type_of(message.kind)
        if registered is None:
            raise ProtocolMisuse(f"message '{message.kind}' is not registered with the wire")
        if len(self._passing) + len(self._in_order) >= self._queue_messages_max:
            self._overflown = True
        else:
            (self._in_order if registered.in_order else self._passing).append(message)
        self._work.set()

    def make_room(self) -> None:
        """Let all models that wait give way, where one more would make one of them do so."""
        if len(self._models) < self._queue_models_max:
            return
        for _ in self._models:
            self._accounting.drop("replaced")
        self._models.clear()
        self._on_replaced()
        self._first_changed()

    def take_passing(self) -> Message | None:
        """Return the next message that may pass a model under way, if there is one."""
        if self._overflown:
            raise NetworkError(f"it does not take our messages: {self._queue_messages_max} are waiting")
        return self._passing.popleft() if self._passing else None

    def take(self) -> Message | None:
        """Return the next message that may begin now, if there is one; a model's value is there."""
        passing = self.take_passing()
        if passing is not None:
            return passing
        if self._models:
            if not self._models[0].model.ready():  # type: ignore[attr-defined]
                return None
            message = self._models.popleft()
            self._first_changed()
            return message
        return self._in_order.popleft() if self._in_order else None

    def wake(self) -> None:
        """Make `wait` return, though there is nothing new."""
        self._work.set()

    async def wait(self) -> None:
        """Return when something new may be there to take."""
        await self._work.wait()

    def note_work(self) -> bool:
        """Return whether something new may be there to take, and wait for newer things from now on."""
        found = self._work.is_set()
        if found:
            self._work = trio.Event()
        return found

    async def wait_for_values(self) -> None:
        """Wake the writer when the first model has its value; runs as long as the connection."""
        while True:
            await self._first_is_waited_for.wait()
            self._first_is_waited_for = trio.Event()
            with trio.CancelScope() as self._waiting:
                await self._wait_for_value()

    async def _wait_for_value(self) -> None:
        if self._models:
            await self._models[0].model.wait()  # type: ignore[attr-defined]
            self._work.set()

    def _first_changed(self) -> None:
        """Have the first model's value waited for, unless it is there already."""
        self._waiting.cancel()
        if not self._models or self._models[0].model.ready():  # type: ignore[attr-defined]
            self._work.set()
        else:
            self._first_is_waited_for.set()
